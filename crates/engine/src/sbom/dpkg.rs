//! Debian's packages: `var/lib/dpkg/status`, and the pieces of it that distroless images have.

use wharf_build::files::{Files, join};

use super::{Package, field, paragraphs, text};

pub(super) fn packages(files: &dyn Files) -> Vec<Package> {
    let mut found = text(files, "var/lib/dpkg/status").map_or_else(Vec::new, |text| parse(&text));
    let directory = b"var/lib/dpkg/status.d";
    for name in files.names(directory).unwrap_or_default() {
        let path = String::from_utf8_lossy(&join(directory, &name)).into_owned();
        if !path.ends_with(".md5sums") {
            found.extend(text(files, &path).map_or_else(Vec::new, |text| parse(&text)));
        }
    }
    found
}

fn parse(status: &str) -> Vec<Package> {
    paragraphs(status)
        .filter_map(|fields| {
            let state = field(&fields, "Status");
            let installed = state.is_empty() || state.ends_with(" installed");
            let name = field(&fields, "Package");
            let source = field(&fields, "Source")
                .split(' ')
                .next()
                .unwrap_or_default();
            (installed && !name.is_empty()).then(|| Package {
                kind: "deb",
                name: name.to_owned(),
                version: field(&fields, "Version").to_owned(),
                architecture: field(&fields, "Architecture").to_owned(),
                source: source.to_owned(),
                license: String::new(),
                supplier: field(&fields, "Maintainer").to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_found() {
        let status = "Package: libc6\nStatus: install ok installed\nMaintainer: A <a@b>\nArchitecture: amd64\nSource: glibc (2.36-9)\n\
                      Version: 2.36-9+deb12u7\nDescription: GNU\n more: text\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let found = parse(status);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (
                found[0].name.as_str(),
                found[0].version.as_str(),
                found[0].source.as_str()
            ),
            ("libc6", "2.36-9+deb12u7", "glibc")
        );
    }
}
