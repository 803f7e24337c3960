//! `--ssh`: agents that steps of the build may speak to.
//!
//! The daemon gets a connection for each agent ahead. When a step begins to speak it sends one byte: then the connection is tied to the
//! agent, and the next one is offered.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::client::endpoint::Endpoint;
use crate::client::request::Request;
use crate::client::{Client, Hijacked};
use crate::failure::Failure;
use crate::session::Session;

/// Agents that are offered while this lives.
pub(super) struct Agents {
    /// Tokens by the agents' IDs.
    pub(super) tokens: BTreeMap<String, String>,
    _programs: Vec<Program>,
}

/// An `ssh-agent` of our own, with the keys that were given.
struct Program {
    child: Child,
    directory: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Where one agent is offered.
#[derive(Clone)]
struct Offer {
    endpoint: Endpoint,
    version: String,
    path: String,
    agent: PathBuf,
}

impl Agents {
    /// Understands `default`, `id=socket` and `id=key[,key]`, and offers them.
    pub(super) fn offer(session: &Session, given: &[String]) -> Result<Agents, Failure> {
        let mut agents = Agents {
            tokens: BTreeMap::new(),
            _programs: Vec::new(),
        };
        for text in given {
            let (id, paths) = text.split_once('=').unwrap_or((text, ""));
            let paths: Vec<&str> = paths.split(',').filter(|path| !path.is_empty()).collect();
            let agent = match paths.as_slice() {
                [] => usual_agent()?,
                [path] if is_socket(path) => PathBuf::from(path),
                keys => {
                    let program = Program::with_keys(keys)?;
                    let socket = program.directory.join("agent");
                    agents._programs.push(program);
                    socket
                }
            };
            let token = random_token()?;
            let offer = Offer {
                endpoint: session.client.endpoint().clone(),
                version: session.client.version()?.to_owned(),
                path: format!("/wharf/build/agents/{token}"),
                agent,
            };
            offer.begin();
            agents.tokens.insert(id.to_owned(), token);
        }
        Ok(agents)
    }
}

fn usual_agent() -> Result<PathBuf, Failure> {
    std::env::var_os("SSH_AUTH_SOCK")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| {
            Failure::new("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
        })
}

fn is_socket(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn random_token() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Program {
    /// Starts an agent and adds the keys; those with a passphrase ask for it.
    fn with_keys(keys: &[&str]) -> Result<Program, Failure> {
        let directory = std::env::temp_dir().join(format!("wharf-agent-{}", random_token()?));
        std::fs::DirBuilder::new().create(&directory)?;
        std::fs::set_permissions(
            &directory,
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )?;
        let socket = directory.join("agent");
        let started = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = started.map_err(|error| {
            Failure::new(format!(
                "unable to run ssh-agent, which keys are given to (OpenSSH has it): {error}"
            ))
        })?;
        let program = Program { child, directory };
        wait_for(&socket)?;
        for key in keys {
            if !Path::new(key).exists() {
                return Err(Failure::new(format!(
                    "failed to stat {key}: no such file or directory"
                )));
            }
            let added = Command::new("ssh-add")
                .arg("-q")
                .arg(key)
                .env("SSH_AUTH_SOCK", &socket)
                .status()
                .map_err(|error| Failure::new(format!("unable to run ssh-add: {error}")))?;
            if !added.success() {
                return Err(Failure::new(format!("failed to add the key {key}")));
            }
        }
        Ok(program)
    }
}

/// An agent makes its socket a moment after it was started.
fn wait_for(socket: &Path) -> Result<(), Failure> {
    const ATTEMPTS: u32 = 500;
    for _ in 0..ATTEMPTS {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Failure::new("ssh-agent did not begin to listen"))
}

impl Offer {
    /// Offers a connection on a thread of its own. The thread ends with the program, or when the daemon wants no more.
    fn begin(&self) {
        let offer = self.clone();
        std::thread::spawn(move || {
            if let Err(error) = offer.carry() {
                crate::print::error_line(&format!("WARNING: SSH agent: {error}"));
            }
        });
    }

    fn carry(&self) -> Result<(), String> {
        let client = Client::new(
            self.endpoint.clone(),
            Some(self.version.clone()),
            Box::new(|| Ok(false)),
        );
        let request = Request::post(self.path.clone()).upgrade();
        let mut connection = client.hijack(request).map_err(|error| error.to_string())?;
        let mut begun = [0];
        if !matches!(connection.reader.read(&mut begun), Ok(1)) {
            // The build is over.
            return Ok(());
        }
        self.begin();
        let agent = UnixStream::connect(&self.agent)
            .map_err(|error| format!("{}: {error}", self.agent.display()))?;
        tie(connection, agent).map_err(|error| error.to_string())
    }
}

/// Passes bytes on in both directions until both have ended.
fn tie(connection: Hijacked, agent: UnixStream) -> io::Result<()> {
    let Hijacked {
        mut reader, socket, ..
    } = connection;
    let answers = agent.try_clone()?;
    let back = Arc::clone(&socket);
    let answering = std::thread::spawn(move || {
        let copied = pass(&mut &answers, &mut &*back);
        // The other side may be gone.
        let _ = back.shutdown_write();
        copied
    });
    let asked = pass(&mut reader, &mut &agent);
    let _ = agent.shutdown(std::net::Shutdown::Write);
    let _ = answering.join();
    asked
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n])?;
        to.flush()?;
    }
}
