//! What a container must see, do and leave behind.

use crate::bed::Bed;

type Case = (&'static str, fn());

/// All cases, by name.
pub const ALL: &[Case] = &[("it_runs_with_its_own_names", it_runs_with_its_own_names)];

fn it_runs_with_its_own_names() {
    let output = Bed::new(&["sh", "-c", "hostname; id; pwd; env; ls -l /dev /proc/1/fd; mount; cat /proc/self/status | grep -i cap; cat /proc/self/cgroup"]).run();
    println!("{output:?}\n{}", output.stdout);
    assert_eq!(output.code, 0);
}
