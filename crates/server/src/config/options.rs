//! The table of options: dockerd's (moby 28), with what becomes of each here.

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Long flag; empty for options that only the file has.
    pub flag: &'static str,
    /// One-letter flag.
    pub short: Option<char>,
    /// Key in `daemon.json`.
    pub key: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What becomes of it.
    pub support: Support,
    /// Line in `--help`.
    pub help: &'static str,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=false`.
    Switch,
    /// A whole number.
    Number,
    /// Text.
    Text,
    /// Bytes, with an optional unit (`64m`).
    Size,
    /// May be repeated.
    List,
    /// `key=value`, may be repeated.
    Map,
    /// `name=key=value`, may be repeated; in the file `name: {key: value}`.
    Maps,
    /// `name=true`, may be repeated.
    Switches,
    /// `name=path`, may be repeated; in the file `name: {"path": …, "runtimeArgs": […]}`.
    Runtimes,
    /// `name=soft[:hard]`, may be repeated.
    Ulimits,
    /// `base=<cidr>,size=<n>`, may be repeated.
    Pools,
    /// An object that only the file can hold.
    Object,
}

/// What this engine does with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Obeyed.
    Yes,
    /// Taken and shown, but nothing here depends on it: it configures a part of dockerd that this engine does not have.
    Moot,
    /// Refused unless it asks for nothing (`false`, `0`, empty).
    No,
}

use Kind::{
    List, Map, Maps, Number, Object, Pools, Runtimes, Size, Switch, Switches, Text, Ulimits,
};
use Support::{Moot, No, Yes};

/// All options, in the order of `--help`.
pub const OPTIONS: &[Opt] = &[
    opt(
        "add-runtime",
        "runtimes",
        Runtimes,
        Yes,
        "Register an additional OCI compatible runtime",
    ),
    opt(
        "allow-direct-routing",
        "allow-direct-routing",
        Switch,
        Yes,
        "Allow remote access to published ports on container IP addresses",
    ),
    opt(
        "authorization-plugin",
        "authorization-plugins",
        List,
        Yes,
        "Authorization plugins to load",
    ),
    opt(
        "authorization-policy",
        "authorization-policy",
        Text,
        Yes,
        "File that says which client may do what",
    ),
    opt(
        "bip",
        "bip",
        Text,
        Yes,
        "IPv4 address for the default bridge",
    ),
    opt(
        "bip6",
        "bip6",
        Text,
        Yes,
        "IPv6 address for the default bridge",
    ),
    short(
        'b',
        opt(
            "bridge",
            "bridge",
            Text,
            Yes,
            "Attach containers to a network bridge",
        ),
    ),
    opt(
        "cdi-spec-dir",
        "cdi-spec-dirs",
        List,
        Yes,
        "CDI specification directories to use",
    ),
    opt(
        "cgroup-parent",
        "cgroup-parent",
        Text,
        Yes,
        "Set parent cgroup for all containers",
    ),
    opt(
        "containerd",
        "containerd",
        Text,
        Moot,
        "containerd grpc address",
    ),
    opt(
        "containerd-namespace",
        "containerd-namespace",
        Text,
        Moot,
        "Containerd namespace to use",
    ),
    opt(
        "containerd-plugins-namespace",
        "containerd-plugin-namespace",
        Text,
        Moot,
        "Containerd namespace to use for plugins",
    ),
    opt(
        "cpu-rt-period",
        "cpu-rt-period",
        Number,
        Yes,
        "Limit the CPU real-time period in microseconds for the parent cgroup for all containers",
    ),
    opt(
        "cpu-rt-runtime",
        "cpu-rt-runtime",
        Number,
        Yes,
        "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers",
    ),
    opt(
        "cri-containerd",
        "cri-containerd",
        Switch,
        No,
        "start containerd with cri",
    ),
    opt(
        "data-root",
        "data-root",
        Text,
        Yes,
        "Root directory of persistent state",
    ),
    short('D', opt("debug", "debug", Switch, Yes, "Enable debug mode")),
    opt(
        "default-address-pool",
        "default-address-pools",
        Pools,
        Yes,
        "Default address pools for node specific local networks",
    ),
    opt(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Text,
        Yes,
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    ),
    opt(
        "default-gateway",
        "default-gateway",
        Text,
        Yes,
        "Default gateway IPv4 address for the default bridge network",
    ),
    opt(
        "default-gateway-v6",
        "default-gateway-v6",
        Text,
        Yes,
        "Default gateway IPv6 address for the default bridge network",
    ),
    opt(
        "default-ipc-mode",
        "default-ipc-mode",
        Text,
        Yes,
        "Default mode for containers ipc (\"shareable\" | \"private\")",
    ),
    opt(
        "default-network-opt",
        "default-network-opts",
        Maps,
        Yes,
        "Default network options",
    ),
    opt(
        "default-runtime",
        "default-runtime",
        Text,
        Yes,
        "Default OCI runtime for containers",
    ),
    opt(
        "default-shm-size",
        "default-shm-size",
        Size,
        Yes,
        "Default shm size for containers",
    ),
    opt(
        "default-stop-timeout",
        "default-stop-timeout",
        Number,
        Yes,
        "Set the default container stop timeout in seconds (0 to terminate immediately)",
    ),
    opt(
        "default-ulimit",
        "default-ulimits",
        Ulimits,
        Yes,
        "Default ulimits for containers",
    ),
    opt("dns", "dns", List, Yes, "DNS server to use"),
    opt("dns-opt", "dns-opts", List, Yes, "DNS options to use"),
    opt(
        "dns-search",
        "dns-search",
        List,
        Yes,
        "DNS search domains to use",
    ),
    opt(
        "exec-opt",
        "exec-opts",
        List,
        Yes,
        "Runtime execution options",
    ),
    opt(
        "exec-root",
        "exec-root",
        Text,
        Yes,
        "Root directory for execution state files",
    ),
    opt(
        "experimental",
        "experimental",
        Switch,
        Yes,
        "Enable experimental features",
    ),
    opt(
        "feature",
        "features",
        Switches,
        Yes,
        "Enable feature in the daemon",
    ),
    opt(
        "firewall-backend",
        "firewall-backend",
        Text,
        Yes,
        "Firewall backend to use, iptables or nftables",
    ),
    opt(
        "fixed-cidr",
        "fixed-cidr",
        Text,
        Yes,
        "IPv4 subnet for the default bridge network",
    ),
    opt(
        "fixed-cidr-v6",
        "fixed-cidr-v6",
        Text,
        Yes,
        "IPv6 subnet for the default bridge network",
    ),
    short(
        'G',
        opt("group", "group", Text, Yes, "Group for the unix socket"),
    ),
    short(
        'H',
        opt("host", "hosts", List, Yes, "Daemon socket(s) to connect to"),
    ),
    opt(
        "host-gateway-ip",
        "host-gateway-ips",
        List,
        Yes,
        "IP addresses that the special 'host-gateway' string in --add-host resolves to",
    ),
    opt(
        "http-proxy",
        "http-proxy",
        Text,
        Yes,
        "HTTP proxy URL to use for outgoing traffic",
    ),
    opt(
        "https-proxy",
        "https-proxy",
        Text,
        Yes,
        "HTTPS proxy URL to use for outgoing traffic",
    ),
    opt(
        "icc",
        "icc",
        Switch,
        Yes,
        "Enable inter-container communication for the default bridge network",
    ),
    opt(
        "init",
        "init",
        Switch,
        Yes,
        "Run an init in the container to forward signals and reap processes",
    ),
    opt(
        "init-path",
        "init-path",
        Text,
        Moot,
        "Path to the docker-init binary",
    ),
    opt(
        "insecure-registry",
        "insecure-registries",
        List,
        Yes,
        "Enable insecure registry communication",
    ),
    opt(
        "ip",
        "ip",
        Text,
        Yes,
        "Host IP for port publishing from the default bridge network",
    ),
    opt(
        "ip-forward",
        "ip-forward",
        Switch,
        Yes,
        "Enable IP forwarding in system configuration",
    ),
    opt(
        "ip-forward-no-drop",
        "ip-forward-no-drop",
        Switch,
        Yes,
        "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
    ),
    opt(
        "ip-masq",
        "ip-masq",
        Switch,
        Yes,
        "Enable IP masquerading for the default bridge network",
    ),
    opt(
        "ip6tables",
        "ip6tables",
        Switch,
        Yes,
        "Enable addition of ip6tables rules",
    ),
    opt(
        "iptables",
        "iptables",
        Switch,
        Yes,
        "Enable addition of iptables rules",
    ),
    opt(
        "ipv6",
        "ipv6",
        Switch,
        Yes,
        "Enable IPv6 networking for the default bridge network",
    ),
    opt(
        "label",
        "labels",
        List,
        Yes,
        "Set key=value labels to the daemon",
    ),
    opt(
        "live-restore",
        "live-restore",
        Switch,
        Yes,
        "Enable live restore of docker when containers are still running",
    ),
    opt(
        "log-driver",
        "log-driver",
        Text,
        Yes,
        "Default driver for container logs",
    ),
    opt(
        "log-format",
        "log-format",
        Text,
        Yes,
        "Set the logging format (\"text\"|\"json\")",
    ),
    short(
        'l',
        opt(
            "log-level",
            "log-level",
            Text,
            Yes,
            "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
        ),
    ),
    opt(
        "log-opt",
        "log-opts",
        Map,
        Yes,
        "Default log driver options for containers",
    ),
    opt(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Number,
        Yes,
        "Set the max concurrent downloads",
    ),
    opt(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Number,
        Yes,
        "Set the max concurrent uploads",
    ),
    opt(
        "max-download-attempts",
        "max-download-attempts",
        Number,
        Yes,
        "Set the max download attempts for each pull",
    ),
    opt(
        "metrics-addr",
        "metrics-addr",
        Text,
        Yes,
        "Set default address and port to serve the metrics api on",
    ),
    opt(
        "mtu",
        "mtu",
        Number,
        Yes,
        "Set the MTU for the default \"bridge\" network",
    ),
    opt(
        "network-control-plane-mtu",
        "network-control-plane-mtu",
        Number,
        Moot,
        "Network Control plane MTU",
    ),
    opt(
        "network-diagnostic-port",
        "network-diagnostic-port",
        Number,
        Moot,
        "TCP port number of the network diagnostic server",
    ),
    opt(
        "no-new-privileges",
        "no-new-privileges",
        Switch,
        Yes,
        "Set no-new-privileges by default for new containers",
    ),
    opt(
        "no-proxy",
        "no-proxy",
        Text,
        Yes,
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    ),
    opt(
        "node-generic-resource",
        "node-generic-resources",
        List,
        Moot,
        "Advertise user-defined resource",
    ),
    short(
        'p',
        opt(
            "pidfile",
            "pidfile",
            Text,
            Yes,
            "Path to use for daemon PID file",
        ),
    ),
    opt(
        "raw-logs",
        "raw-logs",
        Switch,
        Yes,
        "Full timestamps without ANSI coloring",
    ),
    opt(
        "publish-default-address",
        "publish-default-address",
        Text,
        Yes,
        "Host IP for port publishing from networks that do not set their own",
    ),
    opt(
        "registry-mirror",
        "registry-mirrors",
        List,
        Yes,
        "Preferred registry mirror",
    ),
    opt(
        "rootless",
        "rootless",
        Switch,
        No,
        "Enable rootless mode; typically used with RootlessKit",
    ),
    opt(
        "seccomp-profile",
        "seccomp-profile",
        Text,
        Yes,
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    ),
    opt(
        "selinux-enabled",
        "selinux-enabled",
        Switch,
        Yes,
        "Enable selinux support",
    ),
    opt(
        "shutdown-timeout",
        "shutdown-timeout",
        Number,
        Yes,
        "Set the default shutdown timeout",
    ),
    short(
        's',
        opt(
            "storage-driver",
            "storage-driver",
            Text,
            Yes,
            "Storage driver to use",
        ),
    ),
    opt(
        "storage-opt",
        "storage-opts",
        List,
        Yes,
        "Storage driver options",
    ),
    opt(
        "swarm-default-advertise-addr",
        "swarm-default-advertise-addr",
        Text,
        Moot,
        "Set default address or interface for swarm advertised address",
    ),
    opt("tls", "tls", Switch, Yes, "Use TLS; implied by --tlsverify"),
    opt(
        "tlscacert",
        "tlscacert",
        Text,
        Yes,
        "Trust certs signed only by this CA",
    ),
    opt(
        "tlscert",
        "tlscert",
        Text,
        Yes,
        "Path to TLS certificate file",
    ),
    opt("tlskey", "tlskey", Text, Yes, "Path to TLS key file"),
    opt(
        "tlsverify",
        "tlsverify",
        Switch,
        Yes,
        "Use TLS and verify the remote",
    ),
    opt(
        "userland-proxy",
        "userland-proxy",
        Switch,
        Yes,
        "Use userland proxy for loopback traffic",
    ),
    opt(
        "userland-proxy-path",
        "userland-proxy-path",
        Text,
        Moot,
        "Path to the userland proxy binary",
    ),
    opt(
        "userns-remap",
        "userns-remap",
        Text,
        Yes,
        "User/Group setting for user namespaces",
    ),
    // Only in the file.
    opt("", "builder", Object, Yes, ""),
    opt("", "min-api-version", Text, Moot, ""),
    opt("", "default-init", Text, Moot, ""),
    opt("", "resolv-conf", Text, Yes, ""),
    opt("", "swarm-raft-heartbeat-tick", Number, Moot, ""),
    opt("", "swarm-raft-election-tick", Number, Moot, ""),
    opt("", "deprecated-key-path", Text, Moot, ""),
    opt("", "allow-nondistributable-artifacts", List, Moot, ""),
    opt("", "host-gateway-ip", Text, Yes, ""),
    // Not Docker's.
    opt(
        "build-cache-max-size",
        "build-cache-max-size",
        Size,
        Yes,
        "Remove the longest unused caches of builds while all together are larger (such as 20g)",
    ),
    opt(
        "image-gc-max-age",
        "image-gc-max-age",
        Text,
        Yes,
        "Remove images that no container has had for so long (such as 720h)",
    ),
    opt(
        "image-gc-max-size",
        "image-gc-max-size",
        Size,
        Yes,
        "Remove the longest unused images while all together are larger (such as 20g)",
    ),
    opt(
        "image-keep-compressed",
        "image-keep-compressed",
        Switch,
        Yes,
        "Keep compressed layers of pulled images while there is room",
    ),
    opt(
        "image-max-expansion",
        "image-max-expansion",
        Number,
        Yes,
        "How many times its size a compressed layer above 1 GiB may expand to; 0 for any",
    ),
];

const fn opt(
    flag: &'static str,
    key: &'static str,
    kind: Kind,
    support: Support,
    help: &'static str,
) -> Opt {
    Opt {
        flag,
        short: None,
        key,
        kind,
        support,
        help,
    }
}

const fn short(letter: char, opt: Opt) -> Opt {
    Opt {
        short: Some(letter),
        ..opt
    }
}

/// The option of a `daemon.json` key.
#[must_use]
pub fn by_key(key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|opt| opt.key == key)
}
