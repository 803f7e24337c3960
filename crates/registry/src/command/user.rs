//! `user add|rm|ls`, `user robot add|rm|ls`

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Failure, Place};
use crate::auth::htpasswd;
use crate::auth::robots::{self, Robot};
use crate::config::{Action, units};
use crate::run::open_storage;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add a user, or change a password
    Add {
        #[command(flatten)]
        file: Passwords,
        /// Name
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        file: Passwords,
        /// Name
        name: String,
    },
    /// List users
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        file: Passwords,
    },
    /// Manage robot accounts
    #[command(subcommand)]
    Robot(RobotCommand),
}

/// Which file of passwords.
#[derive(Debug, Args)]
pub(super) struct Passwords {
    #[command(flatten)]
    place: Place,
    /// File of user names and bcrypt hashes (default: the configuration's, or htpasswd in the directory of the store)
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
}

impl Passwords {
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.htpasswd {
            return Ok(path.clone());
        }
        let config = self.place.load()?;
        Ok(config
            .auth
            .htpasswd
            .unwrap_or_else(|| config.root.join("htpasswd")))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum RobotCommand {
    /// Make a robot account and print its secret, which cannot be shown again
    Add {
        #[command(flatten)]
        place: Place,
        /// Name; clients log in as robot$NAME
        name: String,
        /// Pattern of repositories; may be given more than once
        #[arg(long = "repository", value_name = "PATTERN", required = true)]
        repositories: Vec<String>,
        /// pull, push or delete; may be given more than once
        #[arg(long = "action", value_name = "ACTION", default_values = ["pull"])]
        actions: Vec<String>,
        /// When it stops working, such as 90d
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
    },
    /// Remove a robot account
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        place: Place,
        /// Name
        name: String,
    },
    /// List robot accounts
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        place: Place,
    },
}

pub(super) async fn run(command: &User) -> Result<ExitCode, Failure> {
    match command {
        User::Add {
            file,
            name,
            password_stdin,
        } => {
            if name.is_empty() || name.contains([':', '\n']) || name.starts_with(robots::PREFIX) {
                return Err(format!("{name:?} is no user name").into());
            }
            let password = read_password(*password_stdin)?;
            edit(&file.path()?, name, Some(&password))?;
        }
        User::Rm { file, name } => {
            let path = file.path()?;
            let known = htpasswd::names(&read(&path)?);
            if !known.contains(name) {
                return Err(format!("there is no user {name} in {}", path.display()).into());
            }
            edit(&path, name, None)?;
        }
        User::Ls { file } => {
            for name in htpasswd::names(&read(&file.path()?)?) {
                println!("{name}");
            }
        }
        User::Robot(command) => return robot(command).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Replaces the file in one step, so that a server never reads half of it.
fn edit(path: &Path, name: &str, password: Option<&str>) -> Result<(), Failure> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let edited = htpasswd::edit(&text, name, password)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&tmp)?;
    file.write_all(edited.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&tmp, path)?;
    Ok(())
}

fn read_password(from_stdin: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let mut line = String::new();
    if from_stdin || !stdin.is_terminal() {
        stdin.lock().read_line(&mut line)?;
    } else {
        eprint!("Password: ");
        let before = tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &silent)?;
        let read = stdin.lock().read_line(&mut line);
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        eprintln!();
        read?;
    }
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    match password.len() {
        0 => Err("the password is empty".into()),
        1..=72 => Ok(password),
        _ => Err("bcrypt takes passwords of at most 72 bytes".into()),
    }
}

async fn robot(command: &RobotCommand) -> Result<ExitCode, Failure> {
    match command {
        RobotCommand::Add {
            place,
            name,
            repositories,
            actions,
            expires,
        } => {
            if !robots::is_name(name) {
                return Err(format!(
                    "{name:?} is no name of a robot account: lower-case letters, digits and dashes"
                )
                .into());
            }
            let actions = actions
                .iter()
                .map(|word| {
                    Action::parse(word).ok_or_else(|| format!("{word}: not pull, push or delete"))
                })
                .collect::<Result<Vec<_>, _>>()?;
            let expires = match expires {
                Some(text) => {
                    let after = units::parse_duration(text)
                        .ok_or_else(|| format!("--expires {text}: no duration such as 90d"))?;
                    Some(Timestamp::now().checked_add(after)?)
                }
                None => None,
            };
            let (robot, secret) = Robot::new(name, repositories.clone(), actions, expires);
            robots::save(&open_storage(&place.load()?)?, &robot).await?;
            println!("{} {secret}", robot.name);
        }
        RobotCommand::Rm { place, name } => {
            if !robots::remove(&open_storage(&place.load()?)?, name).await? {
                return Err(format!("there is no robot account {name}").into());
            }
        }
        RobotCommand::Ls { place } => {
            println!(
                "{:<30} {:<18} {:<22} REPOSITORIES",
                "NAME", "ACTIONS", "EXPIRES"
            );
            for robot in robots::list(&open_storage(&place.load()?)?).await? {
                let actions: Vec<&str> =
                    robot.actions.iter().map(|action| action.as_str()).collect();
                let expires = robot.expires.map_or("never".to_owned(), |at| {
                    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
                });
                println!(
                    "{:<30} {:<18} {expires:<22} {}",
                    robot.name,
                    actions.join(","),
                    robot.repositories.join(" ")
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
