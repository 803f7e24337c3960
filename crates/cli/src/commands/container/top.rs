//! `top`

use wharf_api::container::TopResponse;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::table::{Layout, align};

/// `top`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (name, options) = matches
        .args
        .split_first()
        .expect("the arity asks for one argument");
    let options = options.join(" ");
    let request = Request::get(format!("/containers/{name}/top")).query_if(
        !options.is_empty(),
        "ps_args",
        options,
    );
    let answer: TopResponse = session.client.json(request)?;
    let mut text = answer.titles.join("\t") + "\n";
    for process in &answer.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    print::out(&align(
        &text,
        Layout {
            min_width: 20,
            padding: 3,
        },
    ))
}
