//! `commit`

use wharf_api::container::CommitResponse;
use wharf_spec::reference::Reference;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `commit`: prints the image's ID.
///
/// # Errors
/// The name is none, or the daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let mut words = matches.args.iter();
    let container = words.next().map_or("", String::as_str);
    let (repository, tag) = match words.next() {
        None => (String::new(), String::new()),
        Some(name) => name_and_tag(name)?,
    };
    let pause = matches.on_or("pause", true);
    let mut request = Request::post("/commit")
        .query("container", container)
        .query("repo", &repository)
        .query("tag", &tag)
        .query("comment", matches.text_or_empty("message"))
        .query("author", matches.text_or_empty("author"));
    for change in matches.list("change") {
        request = request.query("changes", change);
    }
    let request = request.query_if(!pause, "pause", "0");
    let answer: CommitResponse = session.client.json(request)?;
    print::out_line(&answer.id)
}

fn name_and_tag(name: &str) -> Result<(String, String), Failure> {
    let reference = Reference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
    if reference.digest().is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let tagged = reference.or_latest();
    let tag = tagged.tag().unwrap_or("latest").to_owned();
    let familiar = tagged.familiar();
    let repository = familiar
        .strip_suffix(&format!(":{tag}"))
        .unwrap_or(&familiar)
        .to_owned();
    Ok((repository, tag))
}
