//! `context create`, `update`, `use`, `rm`

use std::collections::BTreeMap;

use crate::client::endpoint::Endpoint;
use crate::client::tls::TlsFiles;
use crate::config_file;
use crate::context::store::{DOCKER, Metadata, Store, TlsMaterial, check_name};
use crate::context::{DEFAULT, env, open_error};
use crate::failure::Failure;
use crate::flags::parse::{Matches, quote};
use crate::print;
use crate::session::Session;

const KEYS: [&str; 6] = ["from", "host", "ca", "cert", "key", "skip-tls-verify"];

/// `--docker` is a list of keys and values.
pub fn check_endpoint(value: &str) -> Result<(), String> {
    match value.split(',').find(|pair| !pair.contains('=')) {
        Some(pair) => Err(format!("{pair} must be formatted as key=value")),
        None => Ok(()),
    }
}

/// `context create`
///
/// # Errors
/// The name is taken or none, or the endpoint cannot be used.
pub fn create(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = &matches.args[0];
    let store = session.contexts()?;
    check_new(&store, name)?;
    let from = matches.text_or_empty("from");
    let given = matches.given("docker");
    let (mut context, tls) = if given && from.is_empty() {
        let found = endpoint(session, &store, matches.list("docker"))?;
        (
            Metadata::new(name, &found.host, found.skip_verify),
            found.tls,
        )
    } else if given {
        return Err(Failure::new("cannot use --docker flag when --from is set"));
    } else {
        let from = if from.is_empty() {
            &session.context
        } else {
            from
        };
        let mut context = get(session, &store, from)?;
        context.name.clone_from(name);
        (context, store.tls(from).map_err(Failure::new)?)
    };
    context.describe(matches.text_or_empty("description"));
    store.save(&context).map_err(Failure::new)?;
    store.set_tls(name, &tls).map_err(Failure::new)?;
    print::out_line(name)?;
    print::error_line(&format!("Successfully created context {}", quote(name)));
    Ok(())
}

/// A name that a new context can have.
pub(super) fn check_new(store: &Store, name: &str) -> Result<(), Failure> {
    check_name(name).map_err(Failure::new)?;
    if store.has(name) {
        return Err(Failure::new(format!(
            "context {} already exists",
            quote(name)
        )));
    }
    Ok(())
}

/// A context that is kept, or the default one, which is made of flags and environment.
pub(super) fn get(session: &Session, store: &Store, name: &str) -> Result<Metadata, Failure> {
    if name == DEFAULT {
        return Ok(Metadata::new(name, &default_host(session), false));
    }
    store.get(name).map_err(Failure::new)
}

/// The address of the default context, also when another one is in use.
pub(super) fn default_host(session: &Session) -> String {
    if session.context == DEFAULT {
        return session.host.clone();
    }
    format!("unix://{}", crate::client::endpoint::DEFAULT_SOCKET)
}

/// What `--docker` says.
struct Given {
    host: String,
    skip_verify: bool,
    tls: TlsMaterial,
}

fn endpoint(session: &Session, store: &Store, given: &[String]) -> Result<Given, Failure> {
    let failed =
        |why: String| Failure::new(format!("unable to create docker endpoint config: {why}"));
    let mut config: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in given.iter().flat_map(|text| text.split(',')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        config.insert(key, value);
    }
    let unknown: Vec<String> = config
        .keys()
        .filter(|key| !KEYS.contains(key))
        .map(|key| format!("unrecognized config key: {key}"))
        .collect();
    if !unknown.is_empty() {
        return Err(failed(unknown.join("\n")));
    }
    if let Some(from) = config.get("from") {
        let context = get(session, store, from).map_err(|failure| failed(failure.message))?;
        let skip = &context.endpoints.get(DOCKER).cloned().unwrap_or_default()["SkipTLSVerify"];
        return Ok(Given {
            host: context.host().map_err(failed)?,
            skip_verify: skip.as_bool().unwrap_or(false),
            tls: TlsMaterial::new(),
        });
    }
    let mut files = BTreeMap::new();
    for (key, name) in [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")] {
        if let Some(path) = config.get(key).filter(|path| !path.is_empty()) {
            let path = std::path::Path::new(path);
            let bytes = std::fs::read(path).map_err(|error| failed(open_error(path, &error)))?;
            files.insert(name.to_owned(), bytes);
        }
    }
    let skip_verify = match config.get("skip-tls-verify") {
        None => false,
        Some(value) => match *value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
            other => {
                return Err(failed(format!(
                    "skip-tls-verify: parsing {}: invalid syntax",
                    quote(other)
                )));
            }
        },
    };
    let host = config.get("host").copied().unwrap_or_default().to_owned();
    check(&host, &files, skip_verify)
        .map_err(|why| failed(format!("invalid docker endpoint options: {why}")))?;
    let tls = match files.is_empty() {
        true => TlsMaterial::new(),
        false => TlsMaterial::from([(DOCKER.to_owned(), files)]),
    };
    Ok(Given {
        host,
        skip_verify,
        tls,
    })
}

/// Whether there can be a daemon there.
fn check(host: &str, files: &BTreeMap<String, Vec<u8>>, skip_verify: bool) -> Result<(), String> {
    if host.is_empty() {
        return Ok(());
    }
    let tls = TlsFiles {
        ca: files.get("ca.pem").cloned(),
        cert: files.get("cert.pem").cloned(),
        key: files.get("key.pem").cloned(),
        skip_verify,
    };
    if host.starts_with("tcp://") && (!files.is_empty() || skip_verify) {
        tls.check()?;
    }
    if !host.contains("://") {
        return Err(format!("unable to parse docker host `{host}`"));
    }
    // What else there is may be reached by other clients.
    if host.starts_with("ssh://") {
        Endpoint::parse(host)?;
    }
    Ok(())
}

/// `context update`
///
/// # Errors
/// There is no such context, or the endpoint cannot be used.
pub fn update(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = &matches.args[0];
    check_name(name).map_err(Failure::new)?;
    let store = session.contexts()?;
    let mut context = store.get(name).map_err(Failure::new)?;
    context.describe(matches.text_or_empty("description"));
    if matches.given("docker") {
        let found = endpoint(session, &store, matches.list("docker"))?;
        context.set_host(&found.host, found.skip_verify);
        store.set_tls(name, &found.tls).map_err(Failure::new)?;
    }
    store.save(&context).map_err(Failure::new)?;
    print::out_line(name)?;
    print::error_line(&format!("Successfully updated context {}", quote(name)));
    Ok(())
}

/// `context use`
///
/// # Errors
/// There is no such context, or the configuration cannot be written.
pub fn choose(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let [name] = &*matches.args else {
        return Err(Failure::new(format!(
            "accepts 1 arg(s), received {}",
            matches.args.len()
        )));
    };
    let kept = if name == DEFAULT { "" } else { name };
    if !kept.is_empty() {
        check_name(name).map_err(Failure::new)?;
        session.contexts()?.get(name).map_err(Failure::new)?;
    }
    write_current(session, kept)?;
    print::out_line(name)?;
    print::error_line(&format!("Current context is now {}", quote(name)));
    if !kept.is_empty() && env("DOCKER_HOST").is_some() {
        print::error_line(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {}, either set the global \
             --context flag, or unset DOCKER_HOST environment variable.",
            quote(name)
        ));
    }
    Ok(())
}

fn write_current(session: &Session, name: &str) -> Result<(), Failure> {
    if session.config().current_context == name {
        return Ok(());
    }
    let path = session
        .config_path()
        .ok_or_else(|| Failure::new("no place for the configuration: HOME is not set"))?;
    config_file::set_current_context(&path, name)
}

/// `context rm`
///
/// # Errors
/// One of them does not exist or is in use; the others are removed all the same.
pub fn rm(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let store = session.contexts()?;
    let force = matches.on("force");
    let mut errors = Vec::new();
    for name in &matches.args {
        match remove(session, &store, name, force) {
            Ok(()) => print::out_line(name)?,
            Err(failure) => errors.push(failure.message),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

fn remove(session: &Session, store: &Store, name: &str, force: bool) -> Result<(), Failure> {
    if name == DEFAULT {
        return Err(Failure::new("context \"default\" cannot be removed"));
    }
    if name == session.context {
        if !force {
            return Err(Failure::new(format!(
                "context {} is in use, set -f flag to force remove",
                quote(name)
            )));
        }
        write_current(session, "")?;
    }
    if !force && !store.has(name) {
        return Err(Failure::new(format!(
            "context {} does not exist",
            quote(name)
        )));
    }
    store.remove(name).map_err(Failure::new)
}
