//! Whatever a tar holds, the store gives it back bit by bit.

mod common;

use common::random::{entry, layer};
use common::{Layer, Workshop, docker_archive};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Either the layer is refused and nothing is left, or its tar comes back.
    #[test]
    fn tars_come_back_or_leave_nothing(entries in prop::collection::vec(entry(), 0..25), tail in 0..3_usize) {
        let workshop = Workshop::new();
        let mut tar = layer(&entries);
        tar.extend(std::iter::repeat_n(0, tail * 5000));
        let image = docker_archive(&[tar], "x:y");
        match workshop.load(&image.archive) {
            Err(_) => workshop.assert_empty(),
            Ok(()) => {
                let plan = workshop.store.plan_save(&["x:y".to_owned()], None).expect("a plan");
                // Saving compares the digest of what it made with the diff ID.
                workshop.store.save(&plan, &mut std::io::sink()).expect("the same tar");
                drop(plan);
                workshop.store.remove_image(&image.id).expect("removed");
                workshop.assert_empty();
            }
        }
    }

    /// Damage anywhere in an archive is refused, or does not matter; it never panics or leaves anything.
    #[test]
    fn damaged_archives_leave_nothing(at in 0..8000_usize, value in any::<u8>(), cut in 0..9000_usize) {
        let workshop = Workshop::new();
        let layer = Layer::new().dir("d").file("d/f", &[1; 700]).symlink("l", "d/f").tar();
        let mut archive = docker_archive(&[layer], "x:y").archive;
        let at = at % archive.len();
        archive[at] = value;
        archive.truncate(cut.max(600));
        if workshop.load(&archive).is_err() {
            workshop.assert_empty();
        }
    }
}
