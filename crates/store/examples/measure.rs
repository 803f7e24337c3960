//! Times the store's operations: `measure DATA_ROOT ARCHIVE [COUNT]`.

#![allow(clippy::print_stdout)]

use std::fs::File;
use std::time::Instant;

use wharf_store::{Store, StoreConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("a data root is missing")?;
    let archive = arguments.next().ok_or("an archive is missing")?;
    let count: u32 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let store = timed("open", || {
        Store::open(StoreConfig {
            data_root: root.clone().into(),
            driver: Default::default(),
        })
    })?;
    timed("load", || {
        store.load(
            File::open(&archive).expect("the archive opens"),
            &Default::default(),
            &mut |_| {},
        )
    })?;
    let image = store.images().pop().ok_or("no image was loaded")?;
    let id = image.id.to_string();
    let plan = store.plan_save(std::slice::from_ref(&id), None)?;
    timed("save to nowhere", || {
        store.save(&plan, &mut std::io::sink())
    })?;
    drop(plan);
    let start = Instant::now();
    (0..count).try_for_each(|n| store.create_rw(&format!("c{n}"), &id, None))?;
    println!("create_rw {:?}", start.elapsed() / count);
    let start = Instant::now();
    (0..count).try_for_each(|n| store.rootfs(&format!("c{n}")).map(drop))?;
    println!("rootfs {:?}", start.elapsed() / count);
    drop(store);
    let store = timed("open again", || {
        Store::open(StoreConfig {
            data_root: root.into(),
            driver: Default::default(),
        })
    })?;
    let start = Instant::now();
    (0..count).try_for_each(|n| store.remove_rw(&format!("c{n}")))?;
    println!("remove_rw {:?}", start.elapsed() / count);
    timed("remove", || store.remove_image(&image.id))?;
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what} {:?}", start.elapsed());
    result
}
