//! `create`

use std::path::{Path, PathBuf};

use super::{Context, Done};
use crate::bundle::Wishes;
use crate::create::{Request, create};
use crate::failure::Failure;
use crate::options::{Flag, Parsed, switch, valued};

/// Those of runc, and those of crun that stand for what is always so.
pub const FLAGS: &[Flag] = &[
    valued(
        "bundle",
        "DIR",
        "the bundle (default: the current directory)",
    )
    .short('b'),
    valued(
        "console-socket",
        "SOCKET",
        "unix socket that takes the terminal",
    ),
    valued("pid-file", "FILE", "write the init's pid there"),
    valued("preserve-fds", "N", "pass N descriptors from 3 on"),
    switch("no-pivot", "do not use pivot_root"),
    switch("no-new-keyring", "stay in the session keyring"),
    valued("pidfd-socket", "SOCKET", "accepted for compatibility"),
    valued("no-subreaper", "BOOL", "accepted for compatibility"),
];

/// Creates a container.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    create(&request(context, parsed, parsed.id("create")?, false)?)?;
    Ok(0)
}

/// The common part of `create` and `run`.
pub fn request<'a>(
    context: &'a Context,
    parsed: &'a Parsed,
    id: &'a str,
    keeps_terminal: bool,
) -> Result<Request<'a>, Failure> {
    if parsed.text("pidfd-socket").is_some() {
        return Err(Failure::usage("--pidfd-socket is not supported"));
    }
    let path = |name| {
        parsed
            .text(name)
            .filter(|p| !p.is_empty())
            .map(PathBuf::from)
    };
    Ok(Request {
        root: &context.root,
        id,
        bundle: Path::new(
            parsed
                .text("bundle")
                .filter(|b| !b.is_empty())
                .unwrap_or("."),
        ),
        wishes: Wishes {
            preserve_fds: preserve_fds(parsed)?,
            no_pivot: parsed.on("no-pivot"),
            no_new_keyring: parsed.on("no-new-keyring"),
            rootless: context.rootless,
            systemd: context.systemd,
        },
        console_socket: path("console-socket"),
        pid_file: path("pid-file"),
        log: &context.log,
        keeps_terminal,
    })
}

/// Descriptors that were not passed cannot be passed on.
pub fn preserve_fds(parsed: &Parsed) -> Result<u32, Failure> {
    let n: u32 = parsed.number("preserve-fds")?.unwrap_or(0);
    for fd in 3..3_u32.saturating_add(n) {
        if std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_err() {
            return Err(Failure::new(format!(
                "unable to stat preserved-fd {} (of {n}): no such file descriptor",
                fd - 3
            )));
        }
    }
    Ok(n)
}
