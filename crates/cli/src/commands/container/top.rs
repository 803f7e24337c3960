//! `top`

use wharf_api::container::TopResponse;

use super::top_view;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::stream::terminal;
use crate::text::table::{Layout, align};

/// All containers, live, for whoever calls us `wharf`.
fn without_container(session: &Session) -> Result<(), Failure> {
    let (program, path) = (session.program, &session.path);
    if program == "docker" {
        return Err(Failure::new(format!(
            "docker: 'docker {path}' requires at least 1 argument\n\nUsage:  docker {path} CONTAINER [ps OPTIONS]\n\n\
             See 'docker {path} --help' for more information"
        )));
    }
    if !terminal::stdout_is_terminal() || !terminal::stdin_is_terminal() {
        return Err(Failure::new(format!(
            "{program} {path} without a container shows all of them live and needs a terminal; use '{program} stats --no-stream' \
             for numbers, or name a container to see its processes"
        )));
    }
    top_view::run(session)
}

/// `top`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let Some((name, options)) = matches.args.split_first() else {
        return without_container(session);
    };
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
