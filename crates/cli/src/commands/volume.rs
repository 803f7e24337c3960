//! Commands on volumes.

use wharf_api::filters::Filters;
use wharf_api::volume::{Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneReport};

use super::container::prune::reclaimed_text;
use super::listing::{self, Listing, Row};
use super::{Arity, Command, filter, inspect, list, switch, text, volume_extras as extras};
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::request::keys_values;
use crate::session::Session;
use crate::text::size;

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["volume ls", "volume list"],
        usage: "[OPTIONS]",
        about: "List volumes",
        arity: Arity::None,
        flags: &[&[
            filter::FLAG,
            listing::FORMAT,
            switch(
                "cluster",
                "Display only cluster volumes, of which there are none",
            )
            .hidden(),
            switch("quiet", "Only display volume names").short('q'),
        ]],
        stops_at_first_argument: false,
        run: ls,
    },
    Command {
        paths: &["volume inspect"],
        usage: "[OPTIONS] VOLUME [VOLUME...]",
        about: "Display detailed information on one or more volumes",
        arity: Arity::AtLeast(1),
        flags: &[&[inspect::FORMAT]],
        stops_at_first_argument: false,
        run: inspect::volumes,
    },
    Command {
        paths: &["volume create"],
        usage: "[OPTIONS] [VOLUME]",
        about: "Create a volume",
        arity: Arity::AtMost(1),
        flags: &[&[
            text("driver", "Specify volume driver name")
                .short('d')
                .default("\"local\""),
            list("label", "Set metadata for a volume").check(keys_values::check_label),
            text("name", "Specify volume name").hidden(),
            list("opt", "Set driver specific options")
                .short('o')
                .value("map"),
        ]],
        stops_at_first_argument: false,
        run: create,
    },
    Command {
        paths: &["volume rm", "volume remove"],
        usage: "[OPTIONS] VOLUME [VOLUME...]",
        about: "Remove one or more volumes",
        arity: Arity::AtLeast(1),
        flags: &[&[switch("force", "Force the removal of one or more volumes").short('f')]],
        stops_at_first_argument: false,
        run: rm,
    },
    Command {
        paths: &["volume rename"],
        usage: "VOLUME NEW_NAME",
        about: "Rename a volume that no container uses (not in Docker)",
        arity: Arity::Exactly(2),
        flags: &[],
        stops_at_first_argument: false,
        run: extras::rename,
    },
    Command {
        paths: &["volume clone"],
        usage: "VOLUME NEW_VOLUME",
        about: "Copy a volume into a new one (not in Docker)",
        arity: Arity::Exactly(2),
        flags: &[],
        stops_at_first_argument: false,
        run: extras::clone,
    },
    Command {
        paths: &["volume snapshot"],
        usage: "VOLUME [NEW_VOLUME]",
        about: "Clone a volume under a name made of the time (not in Docker)",
        arity: Arity::Between(1, 2),
        flags: &[],
        stops_at_first_argument: false,
        run: extras::snapshot,
    },
    Command {
        paths: &["volume export"],
        usage: "[OPTIONS] VOLUME",
        about: "Export a volume's files as a tar archive (not in Docker)",
        arity: Arity::Exactly(1),
        flags: &[&[text("output", "Write to a file, instead of STDOUT").short('o')]],
        stops_at_first_argument: false,
        run: extras::export,
    },
    Command {
        paths: &["volume import"],
        usage: "VOLUME [FILE|-]",
        about: "Unpack a tar archive into a volume (not in Docker)",
        arity: Arity::Between(1, 2),
        flags: &[],
        stops_at_first_argument: false,
        run: extras::import,
    },
    Command {
        paths: &["volume prune"],
        usage: "[OPTIONS]",
        about: "Remove unused local volumes",
        arity: Arity::None,
        flags: &[&[
            switch("all", "Remove all unused volumes, not just anonymous ones").short('a'),
            filter::LONG_FLAG,
            switch("force", "Do not prompt for confirmation").short('f'),
        ]],
        stops_at_first_argument: false,
        run: prune_command,
    },
];

const VOLUMES: Listing = Listing {
    type_name: "*formatter.volumeContext",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: Some(["name: {{.Name}}", "name: {{.Name}}\ndriver: {{.Driver}}\n"]),
};

fn ls(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let format = match matches.text_or_empty("format") {
        "" if !matches.on("quiet") => session.config().volumes_format.clone(),
        format => format.to_owned(),
    };
    let filters = filter::filters(matches);
    let request =
        Request::get("/volumes").query_if(!filters.is_empty(), "filters", filters.to_query());
    let mut answer: VolumeListResponse = session.client.json(request)?;
    answer.volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<Row> = answer.volumes.iter().map(row).collect();
    print::out(&VOLUMES.render(&format, matches.on("quiet"), &rows)?)
}

/// A row of the listing.
pub fn row(volume: &Volume) -> Row {
    let usage = volume.usage_data.as_ref();
    let known = |shown: Option<String>| shown.unwrap_or_else(|| "N/A".into());
    Row::new()
        .with("Availability", "N/A")
        .with("Driver", volume.driver.clone())
        .with("Group", "N/A")
        .with_labels(volume.labels.as_ref())
        .with(
            "Links",
            known(usage.map(|usage| usage.ref_count.to_string())),
        )
        .with("Mountpoint", volume.mountpoint.clone())
        .with("Name", volume.name.clone())
        .with("Scope", volume.scope.clone())
        .with(
            "Size",
            known(usage.map(|usage| size::decimal(size::as_float(usage.size)))),
        )
        .with("Status", "N/A")
}

fn create(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = matches.text_or_empty("name");
    let argument = matches.args.first().map_or("", String::as_str);
    if !name.is_empty() && !argument.is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
        ));
    }
    let request = VolumeCreateRequest {
        driver: matches.text("driver").unwrap_or("local").to_owned(),
        driver_opts: keys_values::map(matches.list("opt")),
        labels: Some(keys_values::map(matches.list("label"))),
        name: if name.is_empty() { argument } else { name }.to_owned(),
    };
    let body = serde_json::to_value(&request).map_err(|error| Failure::new(error.to_string()))?;
    let volume: Volume = session
        .client
        .json(Request::post("/volumes/create").json(&body))?;
    print::out_line(&volume.name)
}

fn rm(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let force = matches.on("force");
    super::each::each(&matches.args, |name| {
        session
            .client
            .done(Request::delete(format!("/volumes/{name}")).query_if(force, "force", "1"))
    })
}

fn prune_command(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let what = if matches.on("all") {
        "all local volumes"
    } else {
        "anonymous local volumes"
    };
    let question = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue?"
    );
    if !matches.on("force") && !print::confirm(&question)? {
        return Ok(());
    }
    let mut filters = filter::filters(matches);
    if matches.on("all") {
        if filters.contains("all") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --all and --filter all=1",
            ));
        }
        filters.add("all", "true".into());
    }
    let (deleted, reclaimed) = prune(session, &filters)?;
    let mut out = String::new();
    if !deleted.is_empty() {
        out = format!("Deleted Volumes:\n{}\n\n", deleted.join("\n"));
    }
    out.push_str(&format!(
        "Total reclaimed space: {}\n",
        reclaimed_text(reclaimed)
    ));
    print::out(&out)
}

/// Removes unused volumes; their names, and the bytes that they took.
///
/// # Errors
/// The daemon refuses.
pub fn prune(session: &Session, filters: &Filters) -> Result<(Vec<String>, u64), Failure> {
    let request = Request::post("/volumes/prune").query_if(
        !filters.is_empty(),
        "filters",
        filters.to_query(),
    );
    let report: VolumePruneReport = session.client.json(request)?;
    Ok((
        report.volumes_deleted.unwrap_or_default(),
        report.space_reclaimed,
    ))
}
