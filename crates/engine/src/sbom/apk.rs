//! Alpine's packages: `lib/apk/db/installed`, one letter per field.

use wharf_build::files::Files;

use super::{Package, field, paragraphs, text};

pub(super) fn packages(files: &dyn Files) -> Vec<Package> {
    ["lib/apk/db/installed", "usr/lib/apk/db/installed"]
        .iter()
        .find_map(|path| text(files, path))
        .map_or_else(Vec::new, |text| parse(&text))
}

fn parse(installed: &str) -> Vec<Package> {
    paragraphs(installed)
        .filter(|fields| !field(fields, "P").is_empty())
        .map(|fields| Package {
            kind: "apk",
            name: field(&fields, "P").to_owned(),
            version: field(&fields, "V").to_owned(),
            architecture: field(&fields, "A").to_owned(),
            source: field(&fields, "o").to_owned(),
            license: field(&fields, "L").to_owned(),
            supplier: field(&fields, "m").to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_understood() {
        let found = parse("C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\nP:zlib\nV:1.3\n");
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].version.as_str(), found[0].license.as_str()),
            ("1.2.5-r0", "MIT")
        );
    }
}
