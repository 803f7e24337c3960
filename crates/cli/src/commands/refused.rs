//! Commands of Docker's client that this engine does not have. Each says so, why, and what there is instead; none does half of its work.

use super::{Arity, Command, Flag, list, switch, text};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;

const CHECKPOINT_DIR: Flag = text(
    "checkpoint-dir",
    "Use a custom checkpoint storage directory",
);

/// The commands.
pub const COMMANDS: &[Command] = &[
    command(
        &["checkpoint create"],
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Create a checkpoint from a running container",
        &[&[
            CHECKPOINT_DIR,
            switch(
                "leave-running",
                "Leave the container running after checkpoint",
            ),
        ]],
        checkpoint,
    ),
    command(
        &["checkpoint ls", "checkpoint list"],
        "[OPTIONS] CONTAINER",
        "List checkpoints for a container",
        &[&[CHECKPOINT_DIR]],
        checkpoint,
    ),
    command(
        &["checkpoint rm", "checkpoint remove"],
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Remove a checkpoint",
        &[&[CHECKPOINT_DIR]],
        checkpoint,
    ),
    command(
        &["trust inspect"],
        "IMAGE[:TAG] [IMAGE[:TAG]...]",
        "Return low-level information about keys and signatures",
        &[&[switch(
            "pretty",
            "Print the information in a human friendly format",
        )]],
        trust,
    ),
    command(
        &["trust revoke"],
        "[OPTIONS] IMAGE[:TAG]",
        "Remove trust for an image",
        &[&[switch("yes", "Do not prompt for confirmation").short('y')]],
        trust,
    ),
    command(
        &["trust sign"],
        "IMAGE:TAG",
        "Sign an image",
        &[&[switch("local", "Sign a locally tagged image")]],
        trust,
    ),
    command(
        &["trust key generate"],
        "NAME",
        "Generate and load a signing key-pair",
        &[&[text(
            "dir",
            "Directory to generate key in, defaults to current directory",
        )]],
        trust,
    ),
    command(
        &["trust key load"],
        "[OPTIONS] KEYFILE",
        "Load a private key file for signing",
        &[&[text("name", "Name for the loaded key").default("\"signer\"")]],
        trust,
    ),
    command(
        &["trust signer add"],
        "OPTIONS NAME REPOSITORY [REPOSITORY...]",
        "Add a signer",
        &[&[list("key", "Path to the signer's public key file")]],
        trust,
    ),
    command(
        &["trust signer remove"],
        "[OPTIONS] NAME REPOSITORY [REPOSITORY...]",
        "Remove a signer",
        &[&[switch(
            "force",
            "Do not prompt for confirmation before removing the most recent signer",
        )
        .short('f')]],
        trust,
    ),
    Command {
        arity: Arity::Exactly(1),
        ..command(
            &["volume update"],
            "[OPTIONS] [VOLUME]",
            "Update a volume (cluster volumes only)",
            &[&[text(
                "availability",
                "Cluster Volume availability (\"active\", \"pause\", \"drain\")",
            )
            .default("\"active\"")]],
            cluster_volume,
        )
    },
];

const fn command(
    paths: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
    run: super::Run,
) -> Command {
    Command {
        paths,
        usage,
        about,
        // Whatever is said, the answer is the same.
        arity: Arity::AtLeast(0),
        flags,
        stops_at_first_argument: false,
        run,
    }
}

/// The words of swarm mode.
pub const SWARM: [&str; 6] = ["config", "node", "secret", "service", "stack", "swarm"];

/// What is said to each of them.
pub fn swarm(program: &str, word: &str) -> Failure {
    Failure::new(format!(
        "{program}: '{program} {word}' belongs to swarm mode, which this engine does not have\n\n\
         Use containers with restart policies, or a compose file, on each machine"
    ))
}

fn checkpoint(session: &Session, _: &Matches) -> Result<(), Failure> {
    let (program, path) = (session.program, &session.path);
    Err(Failure::new(format!(
        "{program} {path} is only supported on a Docker daemon with experimental features enabled"
    )))
}

fn trust(session: &Session, _: &Matches) -> Result<(), Failure> {
    let (program, path) = (session.program, &session.path);
    Err(Failure::new(format!(
        "{program} {path}: content trust (Notary v1) is not supported: its servers are being shut down. Refer to images by digest \
         (NAME@sha256:...), or sign them with a tool that keeps signatures in the registry"
    )))
}

fn cluster_volume(session: &Session, matches: &Matches) -> Result<(), Failure> {
    Err(Failure::new(format!(
        "{} volume update: {} cannot be updated: only cluster volumes of swarm mode can, which this engine does not have",
        session.program, matches.args[0]
    )))
}
