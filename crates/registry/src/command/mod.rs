//! `wharf registry …`

mod log;
mod maintain;
mod repo;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, DEFAULT_FILE};
use crate::run;
use crate::source::Source;

/// Idle threads of the blocking pool go after this long, and their stacks with them.
const BLOCKING_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug, Parser)]
#[command(
    name = "wharf registry",
    about = "Run a registry of images",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a registry until told to stop
    Serve(Box<Serve>),
    /// Remove what nothing needs any more
    Gc(maintain::Gc),
    /// Look whether everything is here and whole
    Check(maintain::Check),
    /// Manage users and robot accounts
    #[command(subcommand)]
    User(user::User),
    /// Manage repositories
    #[command(subcommand)]
    Repo(repo::Repo),
}

/// Which store.
#[derive(Debug, Args)]
struct Place {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "WHARF_REGISTRY_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of the store
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Object store instead: s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], az://CONTAINER[/PREFIX]
    #[arg(long, value_name = "URL")]
    storage: Option<String>,
}

impl Place {
    /// File, then flags.
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if let Some(root) = &self.root {
            config.root.clone_from(root);
        }
        if let Some(url) = &self.storage {
            config.storage.url = Some(url.clone());
        }
        Ok(config)
    }
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    place: Place,
    /// Address to listen on; may be given more than once
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// User names and bcrypt hashes
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Certificate
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Clients must show a certificate signed by one of these
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// What may be done without logging in
    #[arg(long, value_name = "ACTION")]
    anonymous: Vec<String>,
    /// Let nothing change
    #[arg(long)]
    read_only: bool,
    /// Serve the images of this machine's engine, read-only
    #[arg(long)]
    from_engine: bool,
    /// The engine's data root
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/wharf",
        requires = "from_engine"
    )]
    data_root: PathBuf,
    /// error, warn, info or debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Print the configuration file with all defaults and exit
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = self.place.load()?;
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        let replace = |target: &mut Option<PathBuf>, given: &Option<PathBuf>| {
            if given.is_some() {
                target.clone_from(given);
            }
        };
        replace(&mut config.auth.htpasswd, &self.htpasswd);
        replace(&mut config.tls.certificate, &self.tls_cert);
        replace(&mut config.tls.key, &self.tls_key);
        replace(&mut config.tls.client_ca, &self.tls_client_ca);
        for word in &self.anonymous {
            let action = crate::config::Action::parse(word).ok_or_else(|| {
                ConfigError::Invalid(format!("--anonymous {word}: not pull, push or delete"))
            })?;
            config.auth.anonymous.push(action);
        }
        config.storage.read_only |= self.read_only;
        if self.from_engine && self.place.root.is_none() && self.place.config.is_none() {
            // Accounts and the key of tokens have to be somewhere.
            config.root = self.data_root.join("registry");
        }
        if let Some(level) = &self.log_level {
            config.log.level.clone_from(level);
        }
        if let Some(format) = &self.log_format {
            config.log.format.clone_from(format);
        }
        config.check()?;
        Ok(config)
    }
}

/// How an engine's images are opened, given its data root; passed in so that this crate need not know the engine.
pub type OpenEngine = fn(&std::path::Path) -> Result<Arc<dyn Source>, String>;

/// Runs a command; `args` are the words after `registry`.
pub fn main(args: impl Iterator<Item = OsString>, engine: Option<OpenEngine>) -> ExitCode {
    let words = std::iter::once(OsString::from("wharf registry")).chain(args);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // To standard output for --help, to standard error for mistakes.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match execute(cli.command, engine) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wharf registry: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

type Failure = Box<dyn std::error::Error>;

fn execute(command: Command, engine: Option<OpenEngine>) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(serve) => self::serve(&serve, engine),
        Command::Gc(gc) => runtime(0)?.block_on(maintain::gc(&gc)),
        Command::Check(check) => runtime(0)?.block_on(maintain::check(&check)),
        Command::User(user) => runtime(0)?.block_on(user::run(&user)),
        Command::Repo(repo) => runtime(0)?.block_on(repo::run(&repo)),
    }
}

fn serve(serve: &Serve, engine: Option<OpenEngine>) -> Result<ExitCode, Failure> {
    if serve.print_config {
        print!("{DEFAULT_FILE}");
        return Ok(ExitCode::SUCCESS);
    }
    let config = serve.load()?;
    log::start(&config.log);
    wharf_sys::heap::share_one_arena();
    let source = match (serve.from_engine, engine) {
        (false, _) => None,
        (true, Some(open)) => Some(open(&serve.data_root)?),
        (true, None) => return Err("this program has no engine".into()),
    };
    runtime(config.http.workers)?.block_on(async {
        let running = run::start(config, source).await?;
        let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
        tracing::info!(addresses = addresses.join(", "), "listening");
        running.until_told().await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .max_blocking_threads(64)
        .enable_all()
        .build()
}
