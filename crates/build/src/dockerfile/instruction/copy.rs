//! `COPY` and `ADD`.

use super::super::arguments::Arguments;
use super::super::error::Problem;
use super::super::flags::{Flags, Kind};
use super::super::heredoc;
use super::super::node::Node;

/// What to copy, where to, and how. Flags that only one of the two instructions has are at their default for the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// Paths, patterns and, for `ADD`, URLs.
    pub sources: Vec<String>,
    /// Here-documents.
    pub inline: Vec<InlineFile>,
    /// Where to.
    pub destination: String,
    /// `--from` of `COPY`: stage, image or named context.
    pub from: String,
    /// `user[:group]`.
    pub chown: String,
    /// Octal, or symbolic.
    pub chmod: String,
    /// Destination is not looked at: links in it are not followed.
    pub link: bool,
    /// Keep the directories of the sources.
    pub parents: bool,
    /// What to leave out.
    pub exclude: Vec<String>,
    /// `ADD --keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `ADD --checksum`.
    pub checksum: String,
    /// `ADD --unpack`.
    pub unpack: Option<bool>,
}

/// A here-document that becomes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub content: String,
    /// Variables in it are expanded.
    pub expand: bool,
}

const ADD_FLAGS: [(&str, Kind); 7] = [
    ("chown", Kind::One),
    ("chmod", Kind::One),
    ("link", Kind::Bool),
    ("keep-git-dir", Kind::Bool),
    ("checksum", Kind::One),
    ("unpack", Kind::Bool),
    ("exclude", Kind::Many),
];

const COPY_FLAGS: [(&str, Kind); 6] = [
    ("chown", Kind::One),
    ("from", Kind::One),
    ("chmod", Kind::One),
    ("link", Kind::Bool),
    ("exclude", Kind::Many),
    ("parents", Kind::Bool),
];

pub(crate) fn parse(node: &Node, name: &'static str) -> Result<Copy, Problem> {
    let words = match &node.arguments {
        Arguments::Json(words) | Arguments::Words(words) => words.as_slice(),
        _ => &[],
    };
    let [sources @ .., destination] = words else {
        return Err(Problem::NoDestination(name));
    };
    if sources.is_empty() {
        return Err(Problem::NoDestination(name));
    }
    let known: &[_] = if name == "ADD" {
        &ADD_FLAGS
    } else {
        &COPY_FLAGS
    };
    let flags = Flags::parse(&node.flags, known)?;
    if matches!(heredoc::parse(destination), Ok(Some(_))) {
        return Err(Problem::HeredocDestination(name));
    }
    let mut copy = Copy {
        destination: destination.clone(),
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.bool("link"),
        parents: flags.bool("parents"),
        exclude: flags.values("exclude"),
        keep_git_dir: flags.optional_bool("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.optional_bool("unpack"),
        ..Copy::default()
    };
    for source in sources {
        match heredoc::parse(source) {
            Ok(Some(announced)) => {
                copy.inline
                    .push(inline(node, &announced.name, announced.expand))
            }
            _ => copy.sources.push(source.clone()),
        }
    }
    Ok(copy)
}

/// The last here-document of that name, as with the frontend; one that the line's quoting hid is empty.
fn inline(node: &Node, name: &str, expand: bool) -> InlineFile {
    let doc = node.heredocs.iter().rev().find(|doc| doc.name == name);
    InlineFile {
        name: name.to_owned(),
        content: doc.map(|doc| doc.text()).unwrap_or_default(),
        expand,
    }
}
