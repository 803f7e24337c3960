//! SPDX 2.3 as JSON (ISO/IEC 5962). The same image gives the same document.

use serde_json::{Value, json};
use wharf_spec::digest::Digest;

use super::{Distribution, Package};

pub(super) fn document(
    name: &str,
    image: &Digest,
    created: &str,
    distribution: &Distribution,
    packages: &[Package],
) -> Value {
    let mut listed = vec![json!({
        "SPDXID": "SPDXRef-Image",
        "name": name,
        "versionInfo": image,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (number, package) in packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}-{number}", package.kind);
        relations.push(relation("SPDXRef-Image", "CONTAINS", &id));
        listed.push(entry(&id, package, distribution));
    }
    let namespace = format!("urn:wharf:spdx:{}", image.hex());
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": namespace,
        "creationInfo": {
            "created": whole_seconds(created),
            "creators": [format!("Tool: wharf-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": listed,
        "relationships": relations,
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn entry(id: &str, package: &Package, distribution: &Distribution) -> Value {
    let or_none = |text: &str| {
        if text.is_empty() {
            "NOASSERTION".to_owned()
        } else {
            text.to_owned()
        }
    };
    let mut entry = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "supplier": match package.supplier.as_str() {
            "" => "NOASSERTION".to_owned(),
            supplier => format!("Organization: {supplier}"),
        },
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        // What packages say of their licence is seldom an SPDX expression.
        "licenseDeclared": "NOASSERTION",
        "licenseComments": or_none(&package.license),
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package_url(package, distribution),
        }],
    });
    if !package.source.is_empty() {
        entry["sourceInfo"] = json!(format!("built from {}", package.source));
    }
    entry
}

/// A package URL (purl-spec).
fn package_url(package: &Package, distribution: &Distribution) -> String {
    let vendor = match package.kind {
        "deb" | "apk" | "rpm" if !distribution.id.is_empty() => format!("{}/", distribution.id),
        _ => String::new(),
    };
    let mut qualifiers = Vec::new();
    if !package.architecture.is_empty() {
        qualifiers.push(format!("arch={}", package.architecture));
    }
    if !vendor.is_empty() && !distribution.version.is_empty() {
        qualifiers.push(format!(
            "distro={}-{}",
            distribution.id, distribution.version
        ));
    }
    let qualifiers = if qualifiers.is_empty() {
        String::new()
    } else {
        format!("?{}", qualifiers.join("&"))
    };
    let name = package.name.replace('@', "%40");
    let version = package.version.replace('+', "%2B").replace(':', "%3A");
    format!("pkg:{}/{vendor}{name}@{version}{qualifiers}", package.kind)
}

/// SPDX knows no fractions.
fn whole_seconds(created: &str) -> String {
    match created.parse::<jiff::Timestamp>() {
        Ok(time) => jiff::Timestamp::from_second(time.as_second())
            .unwrap_or_default()
            .to_string(),
        Err(_) => jiff::Timestamp::UNIX_EPOCH.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_addresses() {
        let debian = Distribution {
            id: "debian".to_owned(),
            version: "12".to_owned(),
        };
        let package = |kind, name: &str, version: &str, architecture: &str| Package {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            ..Package::default()
        };
        for (package, expected) in [
            (
                package("deb", "libc6", "2.36-9+deb12u7", "amd64"),
                "pkg:deb/debian/libc6@2.36-9%2Bdeb12u7?arch=amd64&distro=debian-12",
            ),
            (package("npm", "@a/b", "1.0", ""), "pkg:npm/%40a/b@1.0"),
        ] {
            assert_eq!(package_url(&package, &debian), expected);
        }
        assert_eq!(
            whole_seconds("2024-01-02T03:04:05.678Z"),
            "2024-01-02T03:04:05Z"
        );
    }
}
