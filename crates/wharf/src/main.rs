//! The one binary. What it is invoked as decides what it is; nothing is set up before that is known, because the
//! spawner's pages are shared by every monitor it forks and the CLI has two milliseconds to start.

#![forbid(unsafe_code)]

mod engine_images;
mod role;

use std::ffi::OsString;
use std::process::ExitCode;

use role::Role;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let program = if args.is_empty() {
        OsString::from("wharf")
    } else {
        args.remove(0)
    };
    match Role::of(&program, args.first().map(OsString::as_os_str)) {
        Role::Cli { name } => wharf_cli::main(name, args),
        Role::CredentialHelper => {
            args.insert(0, "credential-helper".into());
            wharf_cli::main("wharf", args)
        }
        Role::Dockerd => wharf_server::daemon::main("dockerd", args.into_iter()),
        // The flags follow the word.
        Role::Daemon => wharf_server::daemon::main("wharf daemon", args.into_iter().skip(1)),
        Role::DetachedDaemon => {
            // A session of its own, so that the terminal the client was started in can go. It fails only for the
            // leader of a process group, which has what it asks for.
            let _ = rustix::process::setsid();
            wharf_server::daemon::main("wharf daemon", args.into_iter().skip(1))
        }
        Role::OciRuntime => wharf_oci::main(&program.to_string_lossy(), args),
        // A link is not needed to try it: the word becomes its name.
        Role::OciRuntimeWord => wharf_oci::main("wharf-runtime", args.split_off(1)),
        Role::Registry => {
            wharf_registry::command::main(args.into_iter().skip(1), Some(engine_images::open))
        }
        Role::Spawner => wharf_runtime::spawner::main(),
        Role::Init => wharf_runtime::launch::init_main(&args),
        Role::Netd => wharf_network::netd::main(),
    }
}
