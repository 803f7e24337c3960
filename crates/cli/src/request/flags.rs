//! The flags of `run` and `create`.

use crate::flags::spec::{Flag, int, list, switch, text};

use super::{address, device, health, keys_values, mount, network, resources};

/// Limits that `update` can change too.
pub const RESOURCES: &[Flag] = &[
    text(
        "blkio-weight",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    )
    .value("uint16")
    .check(resources::check_u16),
    int(
        "cpu-period",
        "Limit CPU CFS (Completely Fair Scheduler) period",
    ),
    int(
        "cpu-quota",
        "Limit CPU CFS (Completely Fair Scheduler) quota",
    ),
    int(
        "cpu-rt-period",
        "Limit CPU real-time period in microseconds",
    ),
    int(
        "cpu-rt-runtime",
        "Limit CPU real-time runtime in microseconds",
    ),
    int("cpu-shares", "CPU shares (relative weight)").short('c'),
    text("cpus", "Number of CPUs")
        .value("decimal")
        .check(resources::check_cpus),
    text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    bytes("memory", "Memory limit").short('m'),
    bytes("memory-reservation", "Memory soft limit"),
    text(
        "memory-swap",
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    )
    .value("bytes")
    .check(resources::check_swap),
    bytes(
        "kernel-memory",
        "Kernel memory limit (no longer supported by the kernel)",
    )
    .hidden(),
    int(
        "pids-limit",
        "Tune container pids limit (set -1 for unlimited)",
    ),
    text("restart", "Restart policy to apply when a container exits"),
];

/// What runs and how it is attached.
pub const PROCESS: &[Flag] = &[
    list("attach", "Attach to STDIN, STDOUT or STDERR")
        .short('a')
        .check(check_attach),
    text("cidfile", "Write the container ID to the file"),
    text(
        "entrypoint",
        "Overwrite the default ENTRYPOINT of the image",
    ),
    list("env", "Set environment variables")
        .short('e')
        .check(keys_values::check_env),
    list("env-file", "Read in a file of environment variables"),
    text("hostname", "Container host name").short('h'),
    text("domainname", "Container NIS domain name"),
    switch(
        "init",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    list("label", "Set meta data on a container")
        .short('l')
        .check(keys_values::check_label),
    list("label-file", "Read in a line delimited file of labels"),
    list(
        "annotation",
        "Add an annotation to the container (passed through to the OCI runtime)",
    )
    .value("map"),
    text("name", "Assign a name to the container"),
    text(
        "platform",
        "Set platform if server is multi-platform capable",
    ),
    text(
        "pull",
        "Pull image before running (\"always\", \"missing\", \"never\")",
    )
    .default("\"missing\""),
    switch("quiet", "Suppress the pull output").short('q'),
    switch(
        "rm",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    text("stop-signal", "Signal to stop the container"),
    int("stop-timeout", "Timeout (in seconds) to stop a container"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    text("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    text("workdir", "Working directory inside the container").short('w'),
    text("runtime", "Runtime to use for this container"),
    switch("disable-content-trust", "Skip image verification")
        .default("true")
        .hidden(),
];

/// What is separated from the host and what is allowed.
pub const ISOLATION: &[Flag] = &[
    list("cap-add", "Add Linux capabilities"),
    list("cap-drop", "Drop Linux capabilities"),
    text("cgroup-parent", "Optional parent cgroup for the container"),
    text("cgroupns", "Cgroup namespace to use (host|private)"),
    list("device", "Add a host device to the container"),
    list(
        "device-cgroup-rule",
        "Add a rule to the cgroup allowed devices list",
    )
    .check(device::check_cgroup_rule),
    list(
        "device-read-bps",
        "Limit read rate (bytes per second) from a device",
    )
    .check(|v| device::parse_bps(v).map(drop)),
    list(
        "device-read-iops",
        "Limit read rate (IO per second) from a device",
    )
    .check(|v| device::parse_iops(v).map(drop)),
    list(
        "device-write-bps",
        "Limit write rate (bytes per second) to a device",
    )
    .check(|v| device::parse_bps(v).map(drop)),
    list(
        "device-write-iops",
        "Limit write rate (IO per second) to a device",
    )
    .check(|v| device::parse_iops(v).map(drop)),
    list(
        "blkio-weight-device",
        "Block IO weight (relative device weight)",
    )
    .check(|v| device::parse_weight(v).map(drop)),
    list(
        "gpus",
        "GPU devices to add to the container ('all' to pass all GPUs)",
    )
    .value("gpu-request")
    .check(|v| device::parse_gpus(v).map(drop)),
    list("group-add", "Add additional groups to join"),
    text("ipc", "IPC mode to use"),
    text("isolation", "Container isolation technology"),
    int(
        "memory-swappiness",
        "Tune container memory swappiness (0 to 100)",
    )
    .default("-1"),
    switch("oom-kill-disable", "Disable OOM Killer"),
    int(
        "oom-score-adj",
        "Tune host's OOM preferences (-1000 to 1000)",
    ),
    text("pid", "PID namespace to use"),
    switch("privileged", "Give extended privileges to this container"),
    switch(
        "read-only",
        "Mount the container's root filesystem as read only",
    ),
    list("security-opt", "Security Options"),
    bytes("shm-size", "Size of /dev/shm"),
    list("storage-opt", "Storage driver options for the container"),
    list("sysctl", "Sysctl options")
        .value("map")
        .check(keys_values::check_sysctl),
    list("ulimit", "Ulimit options")
        .value("ulimit")
        .check(resources::check_ulimit),
    switch(
        "use-api-socket",
        "Bind mount Docker API socket and required auth",
    ),
    text("userns", "User namespace to use"),
    text("uts", "UTS namespace to use"),
    int("cpu-count", "CPU count (Windows only)").hidden(),
    int("cpu-percent", "CPU percent (Windows only)").hidden(),
    bytes(
        "io-maxbandwidth",
        "Maximum IO bandwidth limit for the system drive (Windows only)",
    )
    .hidden(),
    int(
        "io-maxiops",
        "Maximum IOps limit for the system drive (Windows only)",
    )
    .hidden(),
];

/// Networks, volumes, logs, health.
pub const SURROUNDINGS: &[Flag] = &[
    list("add-host", "Add a custom host-to-IP mapping (host:ip)").check(address::check_extra_host),
    list("dns", "Set custom DNS servers").check(address::check_ip),
    list("dns-option", "Set DNS options"),
    list("dns-opt", "Set DNS options").hidden(),
    list("dns-search", "Set custom DNS search domains").check(address::check_dns_search),
    list("expose", "Expose a port or a range of ports"),
    text("ip", "IPv4 address (e.g., 172.30.100.104)"),
    text("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    list("link", "Add link to another container").check(address::check_link),
    list("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    text(
        "mac-address",
        "Container MAC address (e.g., 92:d0:c6:0a:29:33)",
    ),
    list("network", "Connect a container to a network")
        .value("network")
        .check(network::check),
    list("net", "Connect a container to a network")
        .value("network")
        .check(network::check)
        .hidden(),
    list(
        "network-alias",
        "Add network-scoped alias for the container",
    ),
    list("net-alias", "Add network-scoped alias for the container").hidden(),
    list("publish", "Publish a container's port(s) to the host").short('p'),
    switch("publish-all", "Publish all exposed ports to random ports").short('P'),
    text("log-driver", "Logging driver for the container"),
    list("log-opt", "Log driver options"),
    list("mount", "Attach a filesystem mount to the container")
        .value("mount")
        .check(mount::check),
    list("tmpfs", "Mount a tmpfs directory"),
    list("volume", "Bind mount a volume").short('v'),
    text("volume-driver", "Optional volume driver for the container"),
    list(
        "volumes-from",
        "Mount volumes from the specified container(s)",
    ),
    text("health-cmd", "Command to run to check health"),
    text(
        "health-on-failure",
        "Action when the container becomes unhealthy (\"kill\"|\"restart\"|\"stop\")",
    )
    .check(health::check_action),
    list(
        "cgroup-conf",
        "Set a control group file of cgroup v2 (name=value)",
    )
    .check(resources::check_pair),
    list("hugepage-limit", "Limit huge pages of a size (2MB=bytes)").check(resources::check_pair),
    list(
        "time-offset",
        "Set a clock ahead of the host's (monotonic=seconds, boottime=seconds)",
    )
    .check(resources::check_pair),
    duration(
        "health-interval",
        "Time between running the check (ms|s|m|h) (default 0s)",
    ),
    int(
        "health-retries",
        "Consecutive failures needed to report unhealthy",
    ),
    duration(
        "health-start-interval",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    duration(
        "health-start-period",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    duration(
        "health-timeout",
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    ),
    switch(
        "no-healthcheck",
        "Disable any container-specified HEALTHCHECK",
    ),
];

const fn bytes(name: &'static str, about: &'static str) -> Flag {
    text(name, about)
        .value("bytes")
        .check(resources::check_bytes)
}

const fn duration(name: &'static str, about: &'static str) -> Flag {
    text(name, about)
        .value("duration")
        .check(health::check_duration)
}

fn check_attach(value: &str) -> Result<(), String> {
    match value.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}
