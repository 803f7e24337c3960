//! What is measured. A case is a function of a side that gives values; the harness repeats it.

mod build;
mod changes;
mod copy;
mod daemon;
mod image;
mod images;
mod many;
mod names;
mod network;
mod oci;
mod registry;
mod start;
mod stream;

use anyhow::Result;

use crate::measure::Values;
use crate::side::Side;

/// One named measurement.
pub(crate) struct Case {
    /// What to ask for.
    pub(crate) name: &'static str,
    /// One line for `--list`.
    pub(crate) about: &'static str,
    /// How often, unless said otherwise.
    pub(crate) runs: usize,
    /// One run.
    pub(crate) run: fn(&mut Side) -> Result<Values>,
}

const fn case(
    name: &'static str,
    runs: usize,
    run: fn(&mut Side) -> Result<Values>,
    about: &'static str,
) -> Case {
    Case {
        name,
        about,
        runs,
        run,
    }
}

/// All cases in the order they are run.
pub(crate) fn all() -> &'static [Case] {
    const ALL: &[Case] = &[
        case(
            "api-bridge",
            30,
            start::api_bridge,
            "create, start, wait, delete of `true` over one API connection, default bridge",
        ),
        case("api-none", 30, start::api_none, "the same without network"),
        case(
            "run-bridge",
            20,
            start::run_bridge,
            "docker run --rm busybox true, stock CLI",
        ),
        case(
            "run-none",
            20,
            start::run_none,
            "docker run --rm --network none busybox true, stock CLI",
        ),
        case(
            "wharf-run",
            20,
            start::wharf_run,
            "wharf run --rm busybox true, our CLI (only against our daemon)",
        ),
        case(
            "exec",
            30,
            start::exec,
            "exec of `true` over the API until its exit code is known",
        ),
        case(
            "daemon-start",
            5,
            daemon::start,
            "daemon start to first ping, with 0 and 300 stopped containers",
        ),
        case(
            "memory",
            1,
            daemon::memory,
            "PSS of the daemon and all helpers with 0, 100 and 300 running containers (MiB)",
        ),
        case(
            "oci-life",
            3,
            oci::life,
            "create, start, delete of `true` by the OCI runtime, and by crun and runc (medians of 10)",
        ),
        case(
            "many-create",
            1,
            many::create,
            "create and start on the default bridge beside 0 and 300 running containers (medians of 10)",
        ),
        case(
            "many-up",
            3,
            many::up,
            "100 containers up on the default bridge, 20 at a time",
        ),
        case(
            "many-list",
            10,
            many::list,
            "300 containers: docker ps -a, and the list over the API",
        ),
        case(
            "many-stats",
            3,
            many::stats,
            "docker stats --no-stream of 100 running containers",
        ),
        case(
            "stop-kill",
            20,
            many::stop,
            "stop over the API of a container whose stop signal is SIGKILL",
        ),
        case(
            "update",
            20,
            many::update,
            "memory and processor limits of a running container changed over the API",
        ),
        case(
            "live-restart",
            5,
            many::live_restart,
            "SIGKILL of the daemon with 50 containers running, until the next one answers (Wharf only)",
        ),
        case(
            "attach",
            3,
            stream::attach,
            "1 GiB of output through docker run, read from a pipe",
        ),
        case(
            "log-write",
            3,
            stream::log_write,
            "a container writes 1,000,000 lines of 64 bytes into the default log; against /dev/null",
        ),
        case(
            "log-read",
            3,
            stream::log_read,
            "docker logs of 1,000,000 lines of 64 bytes; --tail 10",
        ),
        case(
            "load",
            3,
            image::load,
            "docker load of a 579 MB image, none of its layers present",
        ),
        case(
            "pull",
            3,
            images::pull,
            "docker pull of a 579 MB image of 5 gzip layers from a local registry, none of them present; the daemon's peak memory",
        ),
        case(
            "push",
            1,
            images::push,
            "docker push of a 579 MB image that was loaded, into an empty local registry",
        ),
        case("save", 3, images::save, "docker save of a 579 MB image"),
        case("rmi", 3, images::remove, "docker rmi of a 579 MB image"),
        case("import", 5, images::import, "docker import of a 100 MB tar"),
        case(
            "commit",
            5,
            images::commit,
            "docker commit of a container that has written 100 MB",
        ),
        case(
            "registry-manifest",
            3,
            registry::manifest,
            "our registry server and Debian's docker-registry: GET of a manifest by tag, wrk -t1 -c16",
        ),
        case(
            "registry-blob",
            3,
            registry::blob,
            "GET of a blob of 32 MB, wrk -t1 -c4",
        ),
        case(
            "registry-500",
            1,
            registry::crowd,
            "500 pulls of a blob of 32 MB at once",
        ),
        case(
            "registry-push",
            3,
            registry::push,
            "PUT of a blob of 500 MB in one request into an empty registry",
        ),
        case(
            "net-run-port",
            20,
            network::run_port,
            "docker run --rm with and without -p, stock CLI",
        ),
        case(
            "net-200-ports",
            10,
            network::many_ports,
            "start over the API of a container that publishes 200 ports, and of one that publishes none",
        ),
        case(
            "net-create",
            20,
            network::create_and_remove,
            "network create and rm over the API",
        ),
        case(
            "net-requests",
            3,
            network::requests,
            "thousands of requests a second to a container's port: at 127.0.0.1, from another machine, past the port",
        ),
        case(
            "net-names",
            1,
            names::churn,
            "10,000 lookups among 100 containers of a network while 20 others come and go each second; no answer may be wrong",
        ),
        case(
            "net-throughput",
            3,
            network::throughput,
            "one stream between two containers on the default bridge (Gbit/s)",
        ),
        case(
            "cp",
            5,
            copy::cp,
            "docker cp of a file of 500 MB into a running container, and out of it",
        ),
        case(
            "diff",
            5,
            changes::diff,
            "changes of a container with 100,000 new files, over the API",
        ),
        case(
            "export-commit",
            3,
            changes::export_and_commit,
            "docker export and commit of the 579 MB image with 10,000 changed files",
        ),
        case(
            "build",
            5,
            build::steps,
            "docker build of 4 COPY and 4 RUN, classic builder: nothing cached, then all",
        ),
        case("build-cached", 10, build::cached, "the same, all cached"),
        case(
            "build-10000",
            3,
            build::many,
            "docker build that copies a context of 10,000 small files",
        ),
        case(
            "build-500mb",
            2,
            build::large,
            "docker build that copies a file of 500 MB",
        ),
    ];
    ALL
}
