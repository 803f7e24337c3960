//! Why a network operation failed, with the kind its HTTP status follows from.

use std::io;
use std::net::IpAddr;

/// What sort of failure this is; the HTTP status is chosen from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// 400.
    Invalid,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 500.
    Internal,
    /// 501.
    NotImplemented,
}

/// Why a network operation failed. Texts that Docker's clients see are Docker's (moby 28).
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network of that name or id.
    #[error("network {0} not found")]
    NotFound(String),
    /// An id prefix that fits several networks.
    #[error("network {0} is ambiguous ({1} matches found based on ID prefix)")]
    Ambiguous(String, usize),
    /// A network of that name exists.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// The subnet overlaps one in use.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    /// No default pool is left.
    #[error("all predefined address pools have been fully subnetted")]
    NoPoolLeft,
    /// The wished-for address is taken.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// No subnet of the network has the wished-for address.
    #[error(
        "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {0}"
    )]
    NoSubnetContains(IpAddr),
    /// No address is left in the subnet.
    #[error("no available IPv{family} addresses on this network's address pools: {name} ({id})")]
    NoAddressLeft {
        /// 4 or 6.
        family: u8,
        /// Network's name.
        name: String,
        /// Network's id.
        id: String,
    },
    /// The wished-for address is outside the subnet.
    #[error("Requested address is out of range")]
    AddressOutOfRange(IpAddr),
    /// A fixed address was asked of a network whose subnet the user did not choose.
    #[error(
        "invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user configured subnets"
    )]
    AddressNotSupported,
    /// Network still has endpoints.
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    InUse {
        /// Network's name.
        name: String,
        /// `name:"…" id:"…"` of each.
        endpoints: String,
    },
    /// `bridge`, `host` and `none` stay.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// Docker never allows it; the text says what.
    #[error("{0}")]
    Forbidden(String),
    /// There is no driver of that name.
    #[error("{0}")]
    NoDriver(String),
    /// The request makes no sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The port of the host is taken by another container.
    #[error("Bind for {binding} failed: port is already allocated")]
    PortAllocated {
        /// `address:port`.
        binding: String,
        /// Endpoint that has it, where it is known.
        holder: Option<String>,
    },
    /// The port of the host is taken by a process. Beyond Docker's words, it is named where it can be found.
    #[error("failed to bind host port for {binding}/{protocol}: address already in use{holder}")]
    PortInUse {
        /// `address:port:container address:container port`.
        binding: String,
        /// `tcp`, …
        protocol: &'static str,
        /// ` (by nginx, process 12)`, or empty.
        holder: String,
    },
    /// The address is none of the host's.
    #[error("failed to bind host port for {0}/{1}: cannot assign requested address")]
    NoSuchAddress(String, &'static str),
    /// A port could not be published; the source says why.
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint_id})")]
    ExternalConnectivity {
        /// Container's name.
        name: String,
        /// Of the endpoint that does not come to be.
        endpoint_id: String,
        /// Why.
        #[source]
        source: Box<NetworkError>,
    },
    /// A network's interface is there, and of another kind.
    #[error("existing interface {0} is not a bridge")]
    NotABridge(String),
    /// Known to Docker, not to this engine yet.
    #[error("{0} is not supported yet")]
    NotImplemented(String),
    /// The kernel refused something.
    #[error("{what}")]
    Io {
        /// What was being done, on which object.
        what: String,
        /// Kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl NetworkError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::NoDriver(_) => ErrorKind::NotFound,
            Self::NameTaken(_) => ErrorKind::Conflict,
            Self::Ambiguous(..)
            | Self::AddressOutOfRange(_)
            | Self::AddressNotSupported
            | Self::NoSubnetContains(_)
            | Self::Invalid(_) => ErrorKind::Invalid,
            Self::PoolOverlaps
            | Self::AddressInUse(_)
            | Self::InUse { .. }
            | Self::Predefined(_)
            | Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
            Self::ExternalConnectivity { source, .. } if source.kind() != ErrorKind::Internal => {
                source.kind()
            }
            Self::ExternalConnectivity { .. }
            | Self::NoPoolLeft
            | Self::NoAddressLeft { .. }
            | Self::PortAllocated { .. }
            | Self::PortInUse { .. }
            | Self::NoSuchAddress(..)
            | Self::NotABridge(_)
            | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// The endpoint that has the port which was refused.
    pub fn port_holder(&self) -> Option<&str> {
        match self {
            Self::PortAllocated { holder, .. } => holder.as_deref(),
            Self::ExternalConnectivity { source, .. } => source.port_holder(),
            _ => None,
        }
    }

    /// Whether an interface is gone that should be there.
    pub(crate) fn is_no_device(&self) -> bool {
        let errno = rustix::io::Errno::NODEV.raw_os_error();
        matches!(self, Self::Io { source, .. } if source.raw_os_error() == Some(errno))
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> NetworkError {
        NetworkError::Io {
            what: what.into(),
            source,
        }
    }
}

/// Several problems as moby's `multierror` shows them: one alone as it is, more as a list.
pub(crate) fn join(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        more => more
            .iter()
            .map(|problem| format!("* {}", problem.replace('\n', "\n\t")))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// Adds what was being done to an `io::Error`.
pub(crate) trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, NetworkError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, NetworkError> {
        self.map_err(|error| NetworkError::io(what(), error.into()))
    }
}
