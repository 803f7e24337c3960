//! `context export`, `import`

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::edit;
use crate::context::store::check_name;
use crate::context::{DEFAULT, archive, open_error};
use crate::failure::Failure;
use crate::flags::parse::{Matches, quote};
use crate::print;
use crate::session::Session;

/// `context export`
///
/// # Errors
/// There is no such context, or the file exists or cannot be written.
pub fn export(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = &matches.args[0];
    if name != DEFAULT {
        check_name(name).map_err(Failure::new)?;
    }
    let file = matches.args.get(1).cloned();
    let file = file.unwrap_or_else(|| format!("{name}.dockercontext"));
    if file == "-" && std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to export to a terminal, specify a file path",
        ));
    }
    let store = session.contexts()?;
    let context = edit::get(session, &store, name)?;
    let tls = store.tls(name).map_err(Failure::new)?;
    let tar = archive::write(&context, &tls)?;
    if file == "-" {
        return print::out_bytes(&tar);
    }
    let path = Path::new(&file);
    let mut options = OpenOptions::new();
    // Private keys may be in it.
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(&tar))
        .map_err(|error| Failure::new(open_error(path, &error)))?;
    print::error_line(&format!("Written file {}", quote(&file)));
    Ok(())
}

/// `context import`
///
/// # Errors
/// The name is taken or none, or the file is no context.
pub fn import(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (name, file) = (&matches.args[0], &matches.args[1]);
    let store = session.contexts()?;
    edit::check_new(&store, name)?;
    let found = if file == "-" {
        archive::read(std::io::stdin().lock())
    } else {
        let path = Path::new(file);
        let file = File::open(path).map_err(|error| Failure::new(open_error(path, &error)))?;
        archive::read(file)
    };
    let (mut context, tls) = found.map_err(Failure::new)?;
    context.name.clone_from(name);
    store.save(&context).map_err(Failure::new)?;
    store.set_tls(name, &tls).map_err(Failure::new)?;
    print::out_line(name)?;
    print::error_line(&format!("Successfully imported context {}", quote(name)));
    Ok(())
}
