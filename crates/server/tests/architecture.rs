//! `ARCHITECTURE.md` tells users what is refused; this keeps it true.

#![allow(missing_docs)]

use wharf_server::routes::NOT_IMPLEMENTED;

const TEXT: &str = include_str!("../../../ARCHITECTURE.md");

#[test]
fn the_list_of_missing_endpoints_is_the_servers() {
    let (_, section) = TEXT
        .split_once("## Not implemented")
        .expect("the section is there");
    let indented = section.lines().filter_map(|line| line.strip_prefix("    "));
    let listed: Vec<(&str, &str)> = indented
        .filter_map(|line| line.split_once(' '))
        .map(|(method, pattern)| (method, pattern.trim()))
        .collect();
    assert_eq!(listed, NOT_IMPLEMENTED);
}
