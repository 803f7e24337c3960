//! Commands on managed plugins. The daemon decides what there is of them; nothing is known here.

use serde_json::{Value, json};
use wharf_api::filters::Filters;

use super::each::each;
use super::listing::{self, Listing, Row, ellipsis, short_id};
use super::{Arity, Command, Flag, filter, inspect, int, switch, text};
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

const CONTENT_TRUST: Flag = switch("disable-content-trust", "Skip image verification")
    .default("true")
    .hidden();
const GRANT: Flag = switch(
    "grant-all-permissions",
    "Grant all permissions necessary to run the plugin",
);

/// The commands.
pub const COMMANDS: &[Command] = &[
    command(
        &["plugin create"],
        "[OPTIONS] PLUGIN PLUGIN-DATA-DIR",
        "Create a plugin from a rootfs and configuration",
        Arity::AtLeast(2),
        &[&[switch("compress", "Compress the context using gzip")]],
        create,
    ),
    command(
        &["plugin disable"],
        "[OPTIONS] PLUGIN",
        "Disable a plugin",
        Arity::Exactly(1),
        &[&[switch("force", "Force the disable of an active plugin").short('f')]],
        disable,
    ),
    command(
        &["plugin enable"],
        "[OPTIONS] PLUGIN",
        "Enable a plugin",
        Arity::Exactly(1),
        &[&[int("timeout", "HTTP client timeout (in seconds)").default("30")]],
        enable,
    ),
    command(
        &["plugin inspect"],
        "[OPTIONS] PLUGIN [PLUGIN...]",
        "Display detailed information on one or more plugins",
        Arity::AtLeast(1),
        &[&[inspect::FORMAT]],
        inspect::plugins,
    ),
    command(
        &["plugin install"],
        "[OPTIONS] PLUGIN [KEY=VALUE...]",
        "Install a plugin",
        Arity::AtLeast(1),
        &[&[
            text("alias", "Local name for plugin"),
            switch("disable", "Do not enable the plugin on install"),
            CONTENT_TRUST,
            GRANT,
        ]],
        install,
    ),
    command(
        &["plugin ls", "plugin list"],
        "[OPTIONS]",
        "List plugins",
        Arity::None,
        &[&[
            filter::FLAG,
            listing::FORMAT,
            switch("no-trunc", "Don't truncate output"),
            switch("quiet", "Only display plugin IDs").short('q'),
        ]],
        ls,
    ),
    command(
        &["plugin push"],
        "[OPTIONS] PLUGIN[:TAG]",
        "Push a plugin to a registry",
        Arity::Exactly(1),
        &[&[CONTENT_TRUST]],
        push,
    ),
    command(
        &["plugin rm", "plugin remove"],
        "[OPTIONS] PLUGIN [PLUGIN...]",
        "Remove one or more plugins",
        Arity::AtLeast(1),
        &[&[switch("force", "Force the removal of an active plugin").short('f')]],
        rm,
    ),
    command(
        &["plugin set"],
        "PLUGIN KEY=VALUE [KEY=VALUE...]",
        "Change settings for a plugin",
        Arity::AtLeast(2),
        &[],
        set,
    ),
    command(
        &["plugin upgrade"],
        "[OPTIONS] PLUGIN [REMOTE]",
        "Upgrade an existing plugin",
        Arity::Between(1, 2),
        &[&[
            CONTENT_TRUST,
            GRANT,
            switch(
                "skip-remote-check",
                "Do not check if specified remote plugin matches existing plugin image",
            ),
        ]],
        upgrade,
    ),
];

const fn command(
    paths: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    arity: Arity,
    flags: &'static [&'static [Flag]],
    run: super::Run,
) -> Command {
    Command {
        paths,
        usage,
        about,
        arity,
        flags,
        stops_at_first_argument: false,
        run,
    }
}

const PLUGINS: Listing = Listing {
    type_name: "*plugin.pluginContext",
    headers: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("Enabled", "ENABLED"),
        ("PluginReference", "PLUGIN REFERENCE"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}",
    quiet: "{{.ID}}",
    raw: None,
};

fn ls(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let filters: Filters = filter::filters(matches);
    let request =
        Request::get("/plugins").query_if(!filters.is_empty(), "filters", filters.to_query());
    let plugins: Vec<Value> = session.client.json(request)?;
    let truncate = !matches.on("no-trunc");
    let rows: Vec<Row> = plugins.iter().map(|plugin| row(plugin, truncate)).collect();
    let format = matches.text_or_empty("format");
    print::out(&PLUGINS.render(format, matches.on("quiet"), &rows)?)
}

fn row(plugin: &Value, truncate: bool) -> Row {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, about) = (text(&plugin["Id"]), text(&plugin["Config"]["Description"]));
    let about = about.replace('\n', " ");
    Row::new()
        .with(
            "Description",
            if truncate {
                ellipsis(&about, 45)
            } else {
                about
            },
        )
        .with("Enabled", plugin["Enabled"].as_bool().unwrap_or(false))
        .with("ID", if truncate { short_id(&id) } else { id })
        .with("Name", text(&plugin["Name"]))
        .with("PluginReference", text(&plugin["PluginReference"]))
}

fn enable(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let timeout = matches.int("timeout").unwrap_or(30);
    if timeout < 0 {
        return Err(Failure::new(format!(
            "negative timeout {timeout} is invalid"
        )));
    }
    each(&matches.args, |name| {
        let request = Request::post(format!("/plugins/{name}/enable"));
        session
            .client
            .done(request.query("timeout", timeout.to_string()))
    })
}

fn disable(session: &Session, matches: &Matches) -> Result<(), Failure> {
    each(&matches.args, |name| {
        let request = Request::post(format!("/plugins/{name}/disable"));
        session
            .client
            .done(request.query_if(matches.on("force"), "force", "1"))
    })
}

fn rm(session: &Session, matches: &Matches) -> Result<(), Failure> {
    each(&matches.args, |name| {
        let request = Request::delete(format!("/plugins/{name}"));
        session
            .client
            .done(request.query_if(matches.on("force"), "force", "1"))
    })
}

fn set(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let request = Request::post(format!("/plugins/{}/set", matches.args[0]));
    session
        .client
        .done(request.json(&json!(matches.args[1..])))?;
    Ok(())
}

fn push(session: &Session, matches: &Matches) -> Result<(), Failure> {
    session
        .client
        .done(Request::post(format!("/plugins/{}/push", matches.args[0])))?;
    Ok(())
}

fn create(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (name, directory) = (&matches.args[0], &matches.args[1]);
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive
        .append_dir_all(".", directory)
        .map_err(|error| Failure::new(format!("cannot read {directory}: {error}")))?;
    let bytes = archive.into_inner()?;
    let request = Request::post("/plugins/create").query("name", name);
    session
        .client
        .done(request.stream(&mut &*bytes, "application/x-tar"))?;
    print::out_line(name)
}

fn install(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let remote = &matches.args[0];
    let alias = matches.text("alias").unwrap_or(remote);
    let privileges = privileges(session, matches, remote)?;
    let request = Request::post("/plugins/pull")
        .query("remote", remote)
        .query("name", alias);
    session.client.done(request.json(&privileges))?;
    if matches.args.len() > 1 {
        let request = Request::post(format!("/plugins/{alias}/set"));
        session
            .client
            .done(request.json(&json!(matches.args[1..])))?;
    }
    if !matches.on("disable") {
        session
            .client
            .done(Request::post(format!("/plugins/{alias}/enable")).query("timeout", "30"))?;
    }
    print::out_line(&format!("Installed plugin {remote}"))
}

fn upgrade(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = &matches.args[0];
    let plugin: Value = session
        .client
        .json(Request::get(format!("/plugins/{name}/json")))
        .map_err(|error| Failure::new(format!("error reading plugin data: {error}")))?;
    if plugin["Enabled"] == json!(true) {
        return Err(Failure::new("the plugin must be disabled before upgrading"));
    }
    let reference = plugin["PluginReference"].as_str().unwrap_or(name);
    let remote = matches.args.get(1).map_or(reference, String::as_str);
    let privileges = privileges(session, matches, remote)?;
    let request = Request::post(format!("/plugins/{name}/upgrade")).query("remote", remote);
    session.client.done(request.json(&privileges))?;
    print::out_line(&format!("Upgraded plugin {name} to {remote}"))
}

/// What the plugin wants, once the user has agreed.
fn privileges(session: &Session, matches: &Matches, remote: &str) -> Result<Value, Failure> {
    let wanted: Value = session
        .client
        .json(Request::get("/plugins/privileges").query("remote", remote))?;
    let all = wanted.as_array().cloned().unwrap_or_default();
    if all.is_empty() || matches.on("grant-all-permissions") {
        return Ok(json!(all));
    }
    print::out_line(&format!(
        "Plugin {remote:?} is requesting the following privileges:"
    ))?;
    for privilege in &all {
        let name = privilege["Name"].as_str().unwrap_or_default();
        print::out_line(&format!(" - {name}: {}", privilege["Value"]))?;
    }
    if print::confirm("Do you grant the above permissions?")? {
        Ok(json!(all))
    } else {
        Err(Failure::new("permission denied while installing plugin"))
    }
}
