//! Commands on containers.

pub mod api_socket;
pub mod attach;
pub mod commit;
pub mod cp;
pub mod create;
pub mod diff;
pub mod exec;
pub mod export;
pub mod lifecycle;
pub mod logs;
pub mod ls;
pub mod port;
pub mod prune;
pub mod ran;
pub mod rm;
pub mod run;
pub mod start;
pub mod stats;
pub mod top;
mod top_view;
pub mod update;

use super::{Arity, Command, Flag, filter, inspect, int, list, listing, switch, text};
use crate::request::flags as request;

const DETACH_KEYS: Flag = text(
    "detach-keys",
    "Override the key sequence for detaching a container",
);
const SIG_PROXY: Flag =
    switch("sig-proxy", "Proxy all received signals to the process").default("true");
const SIGNAL: Flag = text("signal", "Signal to send to the container").short('s');
const TIMEOUT: Flag = int("timeout", "Seconds to wait before killing the container").short('t');
const OLD_TIMEOUT: Flag = int("time", "Seconds to wait before killing the container").hidden();

const MANY: &str = "CONTAINER [CONTAINER...]";
const MANY_WITH_OPTIONS: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["container run", "run"],
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Create and run a new container from an image",
        arity: Arity::AtLeast(1),
        flags: &[
            request::PROCESS,
            request::RESOURCES,
            request::ISOLATION,
            request::SURROUNDINGS,
            &[
                switch(
                    "detach",
                    "Run container in background and print container ID",
                )
                .short('d'),
                DETACH_KEYS,
                switch("sig-proxy", "Proxy received signals to the process").default("true"),
            ],
        ],
        stops_at_first_argument: true,
        run: run::run,
    },
    Command {
        paths: &["container create", "create"],
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Create a new container",
        arity: Arity::AtLeast(1),
        flags: &[
            request::PROCESS,
            request::RESOURCES,
            request::ISOLATION,
            request::SURROUNDINGS,
        ],
        stops_at_first_argument: true,
        run: create::run,
    },
    Command {
        paths: &["container start", "start"],
        usage: MANY_WITH_OPTIONS,
        about: "Start one or more stopped containers",
        arity: Arity::AtLeast(1),
        flags: &[&[
            switch("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
            text("checkpoint", "Restore from this checkpoint").hidden(),
            text("checkpoint-dir", "Use a custom checkpoint storage directory").hidden(),
            switch("interactive", "Attach container's STDIN").short('i'),
            DETACH_KEYS,
        ]],
        stops_at_first_argument: false,
        run: start::run,
    },
    Command {
        paths: &["container attach", "attach"],
        usage: "[OPTIONS] CONTAINER",
        about: "Attach local standard input, output, and error streams to a running container",
        arity: Arity::Exactly(1),
        flags: &[&[
            switch("no-stdin", "Do not attach STDIN"),
            SIG_PROXY,
            DETACH_KEYS,
        ]],
        stops_at_first_argument: false,
        run: attach::run,
    },
    Command {
        paths: &["container commit", "commit"],
        usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        about: "Create a new image from a container's changes",
        arity: Arity::Between(1, 2),
        flags: &[&[
            text("author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
            list("change", "Apply Dockerfile instruction to the created image").short('c'),
            text("message", "Commit message").short('m'),
            switch("pause", "Pause container during commit")
                .short('p')
                .default("true"),
        ]],
        stops_at_first_argument: true,
        run: commit::run,
    },
    Command {
        paths: &["container diff", "diff"],
        usage: "CONTAINER",
        about: "Inspect changes to files or directories on a container's filesystem",
        arity: Arity::Exactly(1),
        flags: &[],
        stops_at_first_argument: false,
        run: diff::run,
    },
    Command {
        paths: &["container export", "export"],
        usage: "[OPTIONS] CONTAINER",
        about: "Export a container's filesystem as a tar archive",
        arity: Arity::Exactly(1),
        flags: &[&[text("output", "Write to a file, instead of STDOUT").short('o')]],
        stops_at_first_argument: false,
        run: export::run,
    },
    Command {
        paths: &["container cp", "cp"],
        usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        about: "Copy files/folders between a container and the local filesystem",
        arity: Arity::Exactly(2),
        flags: &[&[
            switch("archive", "Archive mode (copy all uid/gid information)").short('a'),
            switch("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
            switch(
                "quiet",
                "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
            )
            .short('q'),
        ]],
        stops_at_first_argument: false,
        run: cp::run,
    },
    Command {
        paths: &["container exec", "exec"],
        usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
        about: "Execute a command in a running container",
        arity: Arity::AtLeast(2),
        flags: &[&[
            switch("detach", "Detached mode: run command in the background").short('d'),
            DETACH_KEYS,
            list("env", "Set environment variables")
                .short('e')
                .check(crate::request::keys_values::check_env),
            list("env-file", "Read in a file of environment variables"),
            switch("interactive", "Keep STDIN open even if not attached").short('i'),
            switch("privileged", "Give extended privileges to the command"),
            switch("tty", "Allocate a pseudo-TTY").short('t'),
            text(
                "user",
                "Username or UID (format: \"<name|uid>[:<group|gid>]\")",
            )
            .short('u'),
            text("workdir", "Working directory inside the container").short('w'),
        ]],
        stops_at_first_argument: true,
        run: exec::run,
    },
    Command {
        paths: &["container logs", "logs"],
        usage: "[OPTIONS] CONTAINER",
        about: "Fetch the logs of a container",
        arity: Arity::Exactly(1),
        flags: &[&[
            switch("clear", "Empty the log instead of showing it"),
            switch("details", "Show extra details provided to logs"),
            switch("follow", "Follow log output").short('f'),
            text(
                "since",
                "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
            ),
            text(
                "until",
                "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
            ),
            text("tail", "Number of lines to show from the end of the logs")
                .short('n')
                .default("\"all\""),
            switch("timestamps", "Show timestamps").short('t'),
        ]],
        stops_at_first_argument: false,
        run: logs::run,
    },
    Command {
        paths: &["container ls", "container list", "container ps", "ps"],
        usage: "[OPTIONS]",
        about: "List containers",
        arity: Arity::None,
        flags: &[&[
            switch("all", "Show all containers (default shows just running)").short('a'),
            filter::FLAG,
            listing::FORMAT,
            int(
                "last",
                "Show n last created containers (includes all states)",
            )
            .short('n')
            .default("-1"),
            switch(
                "latest",
                "Show the latest created container (includes all states)",
            )
            .short('l'),
            switch("no-trunc", "Don't truncate output"),
            switch("quiet", "Only display container IDs").short('q'),
            switch("size", "Display total file sizes").short('s'),
        ]],
        stops_at_first_argument: false,
        run: ls::run,
    },
    Command {
        paths: &["container inspect"],
        usage: MANY_WITH_OPTIONS,
        about: "Display detailed information on one or more containers",
        arity: Arity::AtLeast(1),
        flags: &[&[
            inspect::FORMAT,
            switch("size", "Display total file sizes").short('s'),
        ]],
        stops_at_first_argument: false,
        run: inspect::containers,
    },
    Command {
        paths: &["container stop", "stop"],
        usage: MANY_WITH_OPTIONS,
        about: "Stop one or more running containers",
        arity: Arity::AtLeast(1),
        flags: &[&[SIGNAL, TIMEOUT, OLD_TIMEOUT]],
        stops_at_first_argument: false,
        run: lifecycle::stop,
    },
    Command {
        paths: &["container restart", "restart"],
        usage: MANY_WITH_OPTIONS,
        about: "Restart one or more containers",
        arity: Arity::AtLeast(1),
        flags: &[&[SIGNAL, TIMEOUT, OLD_TIMEOUT]],
        stops_at_first_argument: false,
        run: lifecycle::restart,
    },
    Command {
        paths: &["container kill", "kill"],
        usage: MANY_WITH_OPTIONS,
        about: "Kill one or more running containers",
        arity: Arity::AtLeast(1),
        flags: &[&[SIGNAL]],
        stops_at_first_argument: false,
        run: lifecycle::kill,
    },
    Command {
        paths: &["container pause", "pause"],
        usage: MANY,
        about: "Pause all processes within one or more containers",
        arity: Arity::AtLeast(1),
        flags: &[],
        stops_at_first_argument: false,
        run: lifecycle::pause,
    },
    Command {
        paths: &["container unpause", "unpause"],
        usage: MANY,
        about: "Unpause all processes within one or more containers",
        arity: Arity::AtLeast(1),
        flags: &[],
        stops_at_first_argument: false,
        run: lifecycle::unpause,
    },
    Command {
        paths: &["container wait", "wait"],
        usage: MANY,
        about: "Block until one or more containers stop, then print their exit codes",
        arity: Arity::AtLeast(1),
        flags: &[],
        stops_at_first_argument: false,
        run: lifecycle::wait,
    },
    Command {
        paths: &["container rename", "rename"],
        usage: "CONTAINER NEW_NAME",
        about: "Rename a container",
        arity: Arity::Exactly(2),
        flags: &[],
        stops_at_first_argument: false,
        run: lifecycle::rename,
    },
    Command {
        paths: &["container rm", "container remove", "rm"],
        usage: MANY_WITH_OPTIONS,
        about: "Remove one or more containers",
        arity: Arity::AtLeast(1),
        flags: &[&[
            switch(
                "force",
                "Force the removal of a running container (uses SIGKILL)",
            )
            .short('f'),
            switch("link", "Remove the specified link").short('l'),
            switch(
                "volumes",
                "Remove anonymous volumes associated with the container",
            )
            .short('v'),
        ]],
        stops_at_first_argument: false,
        run: rm::run,
    },
    Command {
        paths: &["container prune"],
        usage: "[OPTIONS]",
        about: "Remove all stopped containers",
        arity: Arity::None,
        flags: &[&[
            filter::LONG_FLAG,
            switch("force", "Do not prompt for confirmation").short('f'),
        ]],
        stops_at_first_argument: false,
        run: prune::run,
    },
    Command {
        paths: &["container top", "top"],
        usage: "CONTAINER [ps OPTIONS]",
        about: "Display the running processes of a container",
        // Without a container, ours shows all of them; Docker's client refuses, and so does ours under its name.
        arity: Arity::AtLeast(0),
        flags: &[],
        stops_at_first_argument: true,
        run: top::run,
    },
    Command {
        paths: &["container port", "port"],
        usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
        about: "List port mappings or a specific mapping for the container",
        arity: Arity::Between(1, 2),
        flags: &[],
        stops_at_first_argument: false,
        run: port::run,
    },
    Command {
        paths: &["container stats", "stats"],
        usage: "[OPTIONS] [CONTAINER...]",
        about: "Display a live stream of container(s) resource usage statistics",
        arity: Arity::AtLeast(0),
        flags: &[&[
            switch("all", "Show all containers (default shows just running)").short('a'),
            listing::FORMAT,
            switch(
                "no-stream",
                "Disable streaming stats and only pull the first result",
            ),
            switch("no-trunc", "Do not truncate output"),
        ]],
        stops_at_first_argument: false,
        run: stats::run,
    },
    Command {
        paths: &["container update", "update"],
        usage: MANY_WITH_OPTIONS,
        about: "Update configuration of one or more containers",
        arity: Arity::AtLeast(1),
        flags: &[request::RESOURCES],
        stops_at_first_argument: false,
        run: update::run,
    },
];
