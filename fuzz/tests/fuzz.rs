//! All targets side by side, each for `WHARF_FUZZ_SECONDS` (60 in CI, 1 unless said otherwise).

use std::path::PathBuf;
use std::time::Duration;

use wharf_fuzz::{TARGETS, fuzz};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn no_input_breaks_a_promise() {
    let time = Duration::from_secs(number("WHARF_FUZZ_SECONDS", 1));
    let seed = number("WHARF_FUZZ_SEED", 1);
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = TARGETS
            .iter()
            .map(|target| scope.spawn(|| (target.name, fuzz(target, time, seed, &out))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("the loop itself does not panic"))
            .collect()
    });
    for (name, outcome) in outcomes {
        match outcome {
            Ok(tried) => assert!(tried > 0, "{name} tried nothing"),
            Err(what) => panic!("{what}"),
        }
    }
}
