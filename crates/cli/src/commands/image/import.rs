//! `import`

use std::fs::File;
use std::io::{Read, empty, stdin};

use super::load::upload_bar;
use super::progress::{self, To};
use super::reference;
use crate::client::request::Request;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::terminal;
use wharf_spec::reference::Reference;

/// `import`
///
/// # Errors
/// The source cannot be read, or the daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let source = matches.args[0].as_str();
    let target = matches.args.get(1).map_or("", String::as_str);
    let target = (!target.is_empty())
        .then(|| reference::parse(target))
        .transpose()?;
    let repository = target
        .as_ref()
        .map(Reference::familiar_name)
        .unwrap_or_default();
    let tag = target
        .as_ref()
        .and_then(Reference::tag)
        .unwrap_or_default()
        .to_owned();
    let (mut input, from, length): (Box<dyn Read>, &str, u64) = if source == "-" {
        (Box::new(stdin().lock()), "-", 0)
    } else if source.starts_with("http://") || source.starts_with("https://") {
        (Box::new(empty()), source, 0)
    } else {
        let error =
            |error: std::io::Error| Failure::new(format!("open {source}: {}", errno_text(&error)));
        let file = File::open(source).map_err(error)?;
        let length = file.metadata().map_err(error)?.len();
        (Box::new(file), "-", length)
    };
    let bar = upload_bar(length, !terminal::stdout_is_terminal());
    let mut input = bar.wrap_read(&mut input);
    let (message, platform) = (
        matches.text_or_empty("message"),
        matches.text_or_empty("platform"),
    );
    let mut request = Request::post("/images/create")
        .query("fromSrc", from)
        .query("repo", &repository)
        .query_if(!tag.is_empty(), "tag", &tag)
        .query_if(!message.is_empty(), "message", message)
        .query_if(!platform.is_empty(), "platform", platform.to_lowercase());
    for change in matches.list("change") {
        request = request.query("changes", change);
    }
    let response = session
        .client
        .send(request.stream(&mut input, "text/plain"));
    bar.finish_and_clear();
    progress::show(&mut response?.body, To::Stdout)
}
