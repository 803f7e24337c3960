//! `manifest annotate`

use super::local::Lists;
use super::name;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;

/// Systems and processors that Docker's client takes together.
const KNOWN: &[(&str, &[&str])] = &[
    ("aix", &["ppc64"]),
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x",
            "loong64", "ppc64", "mips", "mipsle",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("wasip1", &["wasm"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

/// `manifest annotate`
///
/// # Errors
/// The list does not have the image; system and processor do not go together.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (list_text, image_text) = (&matches.args[0], &matches.args[1]);
    let parse = |what: &str, text: &str| {
        name(text).map_err(|failure| {
            Failure::new(format!(
                "annotate: error parsing name for {what} {text}: {}",
                failure.message
            ))
        })
    };
    let list = parse("manifest list", list_text)?;
    let image = parse("manifest", image_text)?;
    let lists = Lists::open(session)?;
    let mut entry = lists.get(&list, &image)?.ok_or_else(|| {
        Failure::new(format!(
            "manifest for image {image_text} does not exist in {list_text}"
        ))
    })?;
    let mut platform = entry.descriptor.platform.take().unwrap_or_default();
    for (flag, field) in [
        ("os", &mut platform.os),
        ("arch", &mut platform.architecture),
        ("variant", &mut platform.variant),
        ("os-version", &mut platform.os_version),
    ] {
        if let Some(value) = matches.text(flag).filter(|value| !value.is_empty()) {
            value.clone_into(field);
        }
    }
    let features = matches.list("os-features");
    for feature in features.iter().flat_map(|text| text.split(',')) {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    let known = KNOWN.iter().find(|(os, _)| *os == platform.os);
    if !known.is_some_and(|(_, processors)| processors.contains(&platform.architecture.as_str())) {
        return Err(Failure::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            matches.text_or_empty("os"),
            matches.text_or_empty("arch")
        )));
    }
    entry.descriptor.platform = Some(platform);
    lists.save(&list, &image, &entry)
}
