//! Getting an image that is not here.

use super::progress::{self, To};
use crate::client::request::Request;
use crate::credentials;
use crate::failure::Failure;
use crate::hello;
use crate::print;
use crate::session::Session;
use wharf_spec::reference::Reference;

/// Asks the daemon to pull the image. When no registry can be asked and it is `hello-world`, the one that is built in
/// is loaded, so that the first command anyone types works on a machine without a network.
///
/// # Errors
/// The registry or the daemon refuses.
pub fn get(
    session: &Session,
    name: &Reference,
    platform: &str,
    quiet: bool,
) -> Result<(), Failure> {
    let result = pull(
        session,
        name,
        platform,
        if quiet { To::Nowhere } else { To::Stderr },
    );
    match result {
        Err(failure) if is_hello_world(name) && no_registry_answered(&failure.message) => {
            print::error_line("no registry answered: using the hello-world image built into wharf");
            load_hello(session)
        }
        other => other,
    }
}

/// Asks the daemon to pull.
///
/// # Errors
/// The registry or the daemon refuses.
pub fn pull(session: &Session, name: &Reference, platform: &str, to: To) -> Result<(), Failure> {
    let tag = match name.digest() {
        Some(digest) => digest.as_str(),
        // Without a tag, all of them.
        None => name.tag().unwrap_or(""),
    };
    let request = Request::post("/images/create")
        .query("fromImage", name.familiar_name())
        .query_if(!tag.is_empty(), "tag", tag)
        .header(
            "X-Registry-Auth",
            credentials::for_image(session, name).header(),
        )
        .query_if(!platform.is_empty(), "platform", platform);
    let mut response = session.client.send(request)?;
    progress::show(&mut response.body, to)?;
    session.client.keep(response.body);
    Ok(())
}

fn is_hello_world(name: &Reference) -> bool {
    name.familiar() == "hello-world:latest"
}

/// A registry that was asked says so by the words of its refusal; everything else is that none could be.
fn no_registry_answered(message: &str) -> bool {
    const ANSWERED: [&str; 6] = [
        "pull access denied",
        "manifest unknown",
        "not found: manifest",
        "repository does not exist",
        "unauthorized",
        "toomanyrequests",
    ];
    !ANSWERED.iter().any(|text| message.contains(text))
}

fn load_hello(session: &Session) -> Result<(), Failure> {
    let archive = hello::archive()?;
    let mut bytes = archive.as_slice();
    let request = Request::post("/images/load")
        .query("quiet", "1")
        .stream(&mut bytes, "application/x-tar");
    let mut response = session.client.send(request)?;
    progress::show(&mut response.body, To::Nowhere)?;
    session.client.keep(response.body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_refuses_has_answered() {
        assert!(!no_registry_answered(
            "pull access denied for hello-world, repository does not exist"
        ));
        assert!(no_registry_answered(
            "Get \"https://registry-1.docker.io/v2/\": dial tcp: no such host"
        ));
        for (name, expected) in [
            ("hello-world", true),
            ("docker.io/library/hello-world:latest", true),
            ("hello-world:linux", false),
            ("me/hello-world", false),
        ] {
            assert_eq!(
                is_hello_world(&Reference::parse(name).expect("a name").or_latest()),
                expected,
                "{name}"
            );
        }
    }
}
