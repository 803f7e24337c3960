//! A small blocking HTTP/1.1 client for Docker's API: one idle connection is kept, bodies stream, and the connection
//! itself can be taken over (attach, exec).

pub mod endpoint;
pub mod request;
pub mod response;
pub mod socket;
pub mod ssh;
pub mod tls;

use std::cell::{OnceCell, RefCell};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde::de::DeserializeOwned;
use serde_json::Value;

use endpoint::Endpoint;
use request::{Payload, Request};
use response::{Body, Head, Reader, SharedSocket, read_head};
use socket::Socket;

/// The newest API version this client speaks, that of Docker 28.2.
pub const API_VERSION: &str = "1.51";
/// How much of a body is asked for at a time.
const BUFFER: usize = 64 * 1024;

/// What can go wrong between client and daemon.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("Cannot connect to the Docker daemon at {0}. Is the docker daemon running?")]
    Unreachable(Endpoint),
    /// The socket may not be used by this user.
    #[error("permission denied while trying to connect to the Docker daemon socket at {0}: {1}")]
    Denied(Endpoint, io::Error),
    /// Any other failure to connect.
    #[error("error during connect: {1}")]
    Connect(Endpoint, io::Error),
    /// Reading failed.
    #[error("cannot read the daemon's answer: {0}")]
    Read(io::Error),
    /// Writing failed.
    #[error("cannot send the request: {0}")]
    Write(io::Error),
    /// What was to be sent cannot be read.
    #[error("{0}")]
    Body(io::Error),
    /// The connection ended before an answer.
    #[error("the daemon closed the connection without an answer")]
    Closed,
    /// Not HTTP, or not the JSON that was expected.
    #[error("{0}")]
    Malformed(String),
    /// The daemon refused.
    #[error("Error response from daemon: {message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The daemon's text.
        message: String,
    },
}

impl ClientError {
    /// The daemon's status, if it was the daemon that refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// No daemon could be talked to.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            ClientError::Unreachable(_) | ClientError::Denied(..) | ClientError::Connect(..)
        )
    }
}

/// A response whose body has not been read.
pub struct Response {
    /// Status and header fields.
    pub head: Head,
    /// The body.
    pub body: Body,
}

/// A connection that is no longer HTTP: what was read ahead, then the socket.
pub struct Hijacked {
    /// Status and header fields of the answer.
    pub head: Head,
    /// Reads what the daemon sends, starting with what came with the head.
    pub reader: Reader,
    /// The socket, for writing, polling and half-closing.
    pub socket: Arc<Socket>,
}

/// The daemon, as this process sees it.
pub struct Client {
    endpoint: Endpoint,
    user_agent: String,
    /// Version forced by `DOCKER_API_VERSION`.
    forced_version: Option<String>,
    version: OnceCell<String>,
    idle: RefCell<Option<Reader>>,
    /// Called once when nobody listens; true means trying again makes sense.
    on_unreachable: Box<dyn Fn() -> Result<bool, ClientError>>,
}

impl Client {
    /// A client that connects when it is first used. `on_unreachable` may start a daemon and return true.
    pub fn new(
        endpoint: Endpoint,
        forced_version: Option<String>,
        on_unreachable: Box<dyn Fn() -> Result<bool, ClientError>>,
    ) -> Client {
        Client {
            endpoint,
            user_agent: format!(
                "Docker-Client/28.2.2 (linux; wharf/{})",
                env!("CARGO_PKG_VERSION")
            ),
            forced_version,
            version: OnceCell::new(),
            idle: RefCell::new(None),
            on_unreachable,
        }
    }

    /// Makes clients of the same daemon on other threads, with the version that was agreed on.
    pub fn another(&self, version: &str) -> impl FnOnce() -> Client + Send + 'static {
        let endpoint = self.endpoint.clone();
        let version = version.to_owned();
        move || Client::new(endpoint, Some(version), Box::new(|| Ok(false)))
    }

    /// Where the daemon is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API version both sides speak; asks the daemon the first time.
    ///
    /// # Errors
    /// No daemon answers.
    pub fn version(&self) -> Result<&str, ClientError> {
        if let Some(version) = self.version.get() {
            return Ok(version);
        }
        let version = match &self.forced_version {
            Some(version) => version.clone(),
            None => self.negotiate()?,
        };
        Ok(self.version.get_or_init(|| version))
    }

    /// The agreed version, or what this client would ask for if no daemon has answered.
    pub fn version_or_own(&self) -> &str {
        self.version
            .get()
            .or(self.forced_version.as_ref())
            .map_or(API_VERSION, String::as_str)
    }

    /// Sends `HEAD /_ping` and takes the lower of both versions.
    fn negotiate(&self) -> Result<String, ClientError> {
        let response = self.exchange(Request::new("HEAD", "/_ping"), None)?;
        let theirs = response
            .head
            .header("api-version")
            .unwrap_or(API_VERSION)
            .to_owned();
        self.keep(response.body);
        Ok(lower_version(&theirs, API_VERSION).to_owned())
    }

    /// Sends a request and returns the answer if the daemon did not refuse.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn send(&self, request: Request<'_>) -> Result<Response, ClientError> {
        let version = self.version()?.to_owned();
        let response = self.exchange(request, Some(&version))?;
        self.refuse_errors(response)
    }

    /// Sends a request and reads the whole answer.
    pub fn text(&self, request: Request<'_>) -> Result<String, ClientError> {
        let mut response = self.send(request)?;
        let mut text = String::new();
        response
            .body
            .read_to_string(&mut text)
            .map_err(ClientError::Read)?;
        self.keep(response.body);
        Ok(text)
    }

    /// Sends a request and reads the answer as JSON of the type asked for.
    pub fn json<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, ClientError> {
        let text = self.text(request)?;
        wharf_api::gojson::from_slice(text.as_bytes())
            .map_err(|error| ClientError::Malformed(format!("unexpected answer: {error}")))
    }

    /// Sends a request whose answer has no content of interest.
    pub fn done(&self, request: Request<'_>) -> Result<(), ClientError> {
        self.text(request).map(drop)
    }

    /// Takes the connection over after the daemon has agreed.
    pub fn hijack(&self, request: Request<'_>) -> Result<Hijacked, ClientError> {
        let version = self.version()?.to_owned();
        let (socket, mut reader) = self.connect()?;
        (&*socket)
            .write_all(&request.bytes(Some(&version), &self.user_agent))
            .map_err(ClientError::Write)?;
        let head = read_head(&mut reader)?;
        if head.status != 101 && head.status != 200 {
            // Docker's client does not look at what the daemon says here.
            return Err(ClientError::Malformed(format!(
                "unable to upgrade to tcp, received {}",
                head.status
            )));
        }
        Ok(Hijacked {
            head,
            reader,
            socket,
        })
    }

    /// Gives a connection back for the next request, if it is at the end of a response.
    pub fn keep(&self, body: Body) {
        if body.finished() {
            self.idle.replace(Some(body.into_reader()));
        }
    }

    fn refuse_errors(&self, mut response: Response) -> Result<Response, ClientError> {
        let status = response.head.status;
        if (200..400).contains(&status) {
            return Ok(response);
        }
        let mut text = String::new();
        response
            .body
            .read_to_string(&mut text)
            .map_err(ClientError::Read)?;
        self.keep(response.body);
        Err(ClientError::Api {
            status,
            message: error_message(&text, &response.head),
        })
    }

    fn exchange(
        &self,
        mut request: Request<'_>,
        version: Option<&str>,
    ) -> Result<Response, ClientError> {
        if let Some(reader) = self.idle.take() {
            match self.exchange_on(reader, &mut request, version) {
                // The daemon had closed the idle connection: nothing of this request was carried out.
                Err(ClientError::Closed | ClientError::Write(_))
                    if !matches!(request.payload, Payload::Stream(..)) => {}
                other => return other,
            }
        }
        let (_, reader) = self.connect()?;
        self.exchange_on(reader, &mut request, version)
    }

    fn exchange_on(
        &self,
        mut reader: Reader,
        request: &mut Request<'_>,
        version: Option<&str>,
    ) -> Result<Response, ClientError> {
        let socket = Arc::clone(&reader.get_ref().socket);
        let bytes = request.bytes(version, &self.user_agent);
        (&*socket)
            .write_all(&bytes)
            .map_err(|error| self.bridge_error(ClientError::Write(error)))?;
        if let Payload::Stream(body, _) = &mut request.payload {
            send_chunks(reader.get_mut(), *body)?;
        }
        let head = read_head(&mut reader).map_err(|error| self.bridge_error(error))?;
        let body = Body::new(reader, &head, request.method == "HEAD");
        Ok(Response { head, body })
    }

    fn connect(&self) -> Result<(Arc<Socket>, Reader), ClientError> {
        let socket = match Socket::connect(&self.endpoint) {
            Err(error) if is_unreachable(&error) && (self.on_unreachable)()? => {
                Socket::connect(&self.endpoint)
            }
            other => other,
        };
        let socket = Arc::new(socket.map_err(|error| self.connect_error(error))?);
        let reader = BufReader::with_capacity(BUFFER, SharedSocket::new(Arc::clone(&socket)));
        Ok((socket, reader))
    }

    /// What a bridge could not tell before it was spoken through is a failure to connect.
    fn bridge_error(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Read(cause) | ClientError::Write(cause)
                if cause.kind() == io::ErrorKind::Other
                    && matches!(self.endpoint, Endpoint::Tls(..) | Endpoint::Ssh(_)) =>
            {
                ClientError::Connect(self.endpoint.clone(), cause)
            }
            other => other,
        }
    }

    /// A connection of its own, for whoever moves bytes himself.
    ///
    /// # Errors
    /// No daemon answers.
    pub fn dial(&self) -> Result<Arc<Socket>, ClientError> {
        self.connect().map(|(socket, _)| socket)
    }

    fn connect_error(&self, error: io::Error) -> ClientError {
        let endpoint = self.endpoint.clone();
        if is_unreachable(&error) {
            ClientError::Unreachable(endpoint)
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Denied(endpoint, error)
        } else {
            ClientError::Connect(endpoint, error)
        }
    }
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Sends a body of unknown length (RFC 9112 section 7.1). If the daemon stops reading, its answer says why, so that is
/// not an error here.
fn send_chunks(shared: &mut SharedSocket, body: &mut dyn Read) -> Result<(), ClientError> {
    let mut buffer = vec![0; BUFFER];
    // The head of a chunk is written in front of its data, so that each chunk is one piece.
    const HEAD: usize = 10;
    loop {
        let n = match body.read(&mut buffer[HEAD..BUFFER - 2]) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ClientError::Body(error)),
        };
        if n == 0 {
            send_piece(shared, b"0\r\n\r\n").map_err(ClientError::Write)?;
            return Ok(());
        }
        buffer[..HEAD].copy_from_slice(format!("{n:08x}\r\n").as_bytes());
        buffer[HEAD + n..HEAD + n + 2].copy_from_slice(b"\r\n");
        if !send_piece(shared, &buffer[..HEAD + n + 2]).map_err(ClientError::Write)? {
            return Ok(());
        }
    }
}

/// Sends a piece, reading meanwhile what the daemon says: it reports progress before it has read everything, and would
/// stop reading if nobody took that. False when it does not want more.
fn send_piece(shared: &mut SharedSocket, mut bytes: &[u8]) -> io::Result<bool> {
    while !bytes.is_empty() {
        match rustix::net::send(
            &*shared.socket,
            bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
            Err(Errno::AGAIN) => {
                let socket = Arc::clone(&shared.socket);
                let mut fds = [PollFd::from_borrowed_fd(
                    socket.as_fd(),
                    PollFlags::IN | PollFlags::OUT,
                )];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                if fds[0].revents().contains(PollFlags::IN) && !shared.read_early()? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn error_message(text: &str, head: &Head) -> String {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    match parsed.as_ref().and_then(|value| value["message"].as_str()) {
        Some(message) if !message.is_empty() => message.trim().to_owned(),
        _ if !text.trim().is_empty() && parsed.is_none() => text.trim().to_owned(),
        _ => format!(
            "request returned {} {}; check if the server supports the requested API version",
            head.status, head.reason
        ),
    }
}

fn lower_version<'a>(one: &'a str, other: &'a str) -> &'a str {
    let key = |version: &str| {
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        (
            major.parse::<u32>().unwrap_or(0),
            minor.parse::<u32>().unwrap_or(0),
        )
    };
    if key(one) <= key(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(lower_version("1.9", "1.51"), "1.9");
        assert_eq!(lower_version("1.56", "1.51"), "1.51");
    }

    #[test]
    fn refusals_carry_the_daemons_words() {
        let head = Head {
            status: 500,
            reason: "Internal Server Error".into(),
            ..Head::default()
        };
        assert_eq!(
            error_message("{\"message\":\"no such thing\\n\"}", &head),
            "no such thing"
        );
        assert_eq!(error_message("plain", &head), "plain");
        assert!(error_message("", &head).contains("500 Internal Server Error"));
    }
}
