//! `login`

use std::io::{BufRead as _, Read as _};

use serde::Deserialize;

use crate::client::request::Request;
use crate::credentials::{self, Auth, HUB, hostname};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::stream::terminal;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Answer {
    status: String,
    identity_token: String,
}

/// `login`
///
/// # Errors
/// The flags contradict each other, nobody can be asked, or the registry refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (user, password) = given(matches)?;
    let server = match matches.args.first().map_or("", String::as_str) {
        "" | "docker.io" => HUB.to_owned(),
        other => hostname(other).to_owned(),
    };
    if user.is_empty() && password.is_empty() {
        let stored = credentials::get(session, &server)?;
        if !stored.username.is_empty() && !stored.password.is_empty() {
            print::error_line(&format!(
                "Authenticating with existing credentials... [Username: {}]",
                stored.username
            ));
            print::error_line(
                "\nInfo → To login with a different account, run 'docker logout' followed by 'docker login'\n\n",
            );
            match log_in(session, &stored) {
                Ok(()) => return Ok(()),
                Err(failure) => print::error_line(&format!(
                    "Login did not succeed, error: {}",
                    failure.message
                )),
            }
        }
    }
    if (user.is_empty() || password.is_empty()) && !terminal::stdin_is_terminal() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let username = if user.is_empty() {
        ask("Username: ")?
    } else {
        user
    };
    if username.is_empty() {
        return Err(Failure::new("error: username is required"));
    }
    let password = if password.is_empty() {
        ask_secret("Password: ")?
    } else {
        password
    };
    if password.is_empty() {
        return Err(Failure::new("error: password is required"));
    }
    log_in(
        session,
        &Auth {
            username,
            password,
            server,
            ..Auth::default()
        },
    )
}

/// User and password from flags and standard input.
fn given(matches: &Matches) -> Result<(String, String), Failure> {
    let (user, password) = (matches.text("username"), matches.text("password"));
    let from_stdin = matches.on("password-stdin") || password == Some("-");
    if from_stdin {
        if password.is_some_and(|password| password != "-") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if user.is_none() {
            return Err(Failure::new(
                "the --password-stdin option requires --username to be set",
            ));
        }
    }
    if user == Some("") {
        return Err(Failure::new("username is empty"));
    }
    if password == Some("") {
        return Err(Failure::new("password is empty"));
    }
    let user = user.unwrap_or_default().trim().to_owned();
    if !from_stdin {
        if password.is_some() {
            print::error_line(
                "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            );
        }
        return Ok((user, password.unwrap_or_default().to_owned()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let secret = text
        .strip_suffix("\r\n")
        .or_else(|| text.strip_suffix(['\n', '\r']))
        .unwrap_or(&text);
    if secret.trim().is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok((user, secret.to_owned()))
}

/// Asks the registry through the daemon, then keeps what it took.
fn log_in(session: &Session, auth: &Auth) -> Result<(), Failure> {
    let body = serde_json::to_value(auth).map_err(|error| Failure::new(error.to_string()))?;
    let answer: Answer = session.client.json(Request::post("/auth").json(&body))?;
    let mut kept = auth.clone();
    if !answer.identity_token.is_empty() {
        kept.password.clear();
        kept.identity_token = answer.identity_token;
    }
    let file = credentials::store(session, &kept).map_err(|failure| {
        Failure::new(format!("error saving credentials: {}", failure.message))
    })?;
    if let Some(path) = file {
        print::error_line(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    print::out_line(&answer.status)
}

fn ask(prompt: &str) -> Result<String, Failure> {
    print::out(prompt)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// As [`ask`], without showing what is typed.
fn ask_secret(prompt: &str) -> Result<String, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(std::io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(std::io::Error::from)?;
    let answer = ask(prompt);
    tcsetattr(&stdin, OptionalActions::Now, &before).map_err(std::io::Error::from)?;
    print::out("\n")?;
    answer
}
