//! `build`, and what belongs to it.

mod agents;
mod annotation;
mod attest;
mod cache;
mod cache_mounts;
mod check;
mod context;
mod facts;
mod output;
mod progress;
mod prune;
mod request;
mod secret;
mod uploads;

use std::io::{BufRead as _, BufReader, Read};

use wharf_api::progress::Progress;

use super::image::load::upload_bar;
use super::{Arity, Command, int, list, switch, text};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::request::{address, resources};
use crate::session::Session;
use agents::Agents;
use annotation::Annotations;
use attest::{Invocation, Wanted};
use facts::Facts;
use output::{Built, Output};
use progress::Shown;

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["image build", "build", "builder build"],
        usage: "[OPTIONS] PATH | URL | -",
        about: "Build an image from a Dockerfile",
        arity: Arity::Exactly(1),
        flags: &[&[
            list("add-host", "Add a custom host-to-IP mapping (\"host:ip\")")
                .check(address::check_extra_host),
            list("allow", "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\")"),
            list("annotation", "Add annotation to the image"),
            list("attest", "Attestation parameters (format: \"type=sbom\")"),
            list("build-arg", "Set build-time variables"),
            list("build-context", "Additional build contexts (e.g., name=docker-image://image)"),
            text("builder", "There is one builder").hidden(),
            list("cache-from", "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")"),
            list("cache-to", "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")"),
            text("call", "Set method for evaluating build (\"check\", \"outline\", \"targets\")")
                .default("\"build\""),
            text("cgroup-parent", "Set the parent cgroup for the \"RUN\" instructions during build"),
            switch("check", "Shorthand for \"--call=check\""),
            switch("compress", "Compress the build context using gzip"),
            int("cpu-period", "Limit the CPU CFS (Completely Fair Scheduler) period"),
            int("cpu-quota", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
            int("cpu-shares", "CPU shares (relative weight)").short('c'),
            text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
            text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
            switch("disable-content-trust", "Skip image verification").default("true").hidden(),
            text("file", "Name of the Dockerfile (Default is \"PATH/Dockerfile\")").short('f'),
            switch("force-rm", "Always remove intermediate containers"),
            text("iidfile", "Write the image ID to the file"),
            text("isolation", "Container isolation technology").hidden(),
            list("label", "Set metadata for an image"),
            switch("load", "Load the result into the engine; it always is").hidden(),
            text("memory", "Memory limit").value("bytes").short('m').check(resources::check_bytes),
            text(
                "memory-swap",
                "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
            )
            .value("bytes")
            .check(resources::check_swap),
            text("metadata-file", "Write build result metadata to a file"),
            text("network", "Set the networking mode for the RUN instructions during build")
                .default("default"),
            switch("no-cache", "Do not use cache when building the image"),
            list("no-cache-filter", "Do not cache specified stages"),
            list("output", "Output destination (format: \"type=local,dest=path\")").short('o'),
            text("platform", "Set platform if server is multi-platform capable"),
            text("progress", "Set type of progress output (\"auto\", \"quiet\", \"plain\", \"tty\", \"classic\")")
                .default("auto"),
            text("provenance", "Shorthand for \"--attest=type=provenance\""),
            switch("push", "Shorthand for \"--output=type=registry\""),
            switch("pull", "Always attempt to pull a newer version of the image"),
            switch("quiet", "Suppress the build output and print image ID on success").short('q'),
            switch("rm", "Remove intermediate containers after a successful build").default("true"),
            text("sbom", "Shorthand for \"--attest=type=sbom\""),
            list("secret", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")"),
            list("security-opt", "Security options").value("strings"),
            text("shm-size", "Size of \"/dev/shm\"").value("bytes").check(resources::check_bytes),
            switch("squash", "Squash newly built layers into a single new layer"),
            list("ssh", "SSH agent socket or keys to expose to the build"),
            list("tag", "Name and optionally a tag in the \"name:tag\" format").short('t'),
            text("target", "Set the target build stage to build."),
            list("ulimit", "Ulimit options").check(resources::check_ulimit),
        ]],
        stops_at_first_argument: false,
        run,
    },
    prune::COMMAND,
    cache_mounts::LIST,
    cache_mounts::EXPORT,
    cache_mounts::IMPORT,
];

/// `build`
///
/// # Errors
/// The context cannot be read, or the build fails: then with the exit code of the command that did.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let call = if matches.on("check") {
        "check"
    } else {
        matches.text_or_empty("call")
    };
    if !call.is_empty() && call != "build" {
        return check::run(matches, call);
    }
    let plan = Plan::read(matches)?;
    let mut source = context::open(matches)?;
    let agents = Agents::offer(session, matches.list("ssh"))?;
    let request = request::make(session, matches, &source, &plan.names, &agents)?;
    let started = now();
    let bar = upload_bar(0, source.body.is_none() || !progress::on_terminal(matches));
    let mut body = source.body.as_mut().map(|body| bar.wrap_read(body));
    let response = session.client.send(match &mut body {
        Some(body) => request.stream(body, "application/x-tar"),
        None => request,
    });
    bar.finish_and_clear();
    let mut response = response?;
    let mut shown = Shown::new(matches);
    let result = follow(&mut response.body, &mut shown);
    shown.finish(&result);
    let facts = result?;
    if let Some(path) = matches.text("iidfile") {
        write_file(path, &facts.image)?;
    }
    let arguments = request::arguments(session, matches.list("build-arg"));
    // A result that is the same every time says the same time, too.
    let epoch = arguments.get("SOURCE_DATE_EPOCH").cloned().flatten();
    let epoch: Option<i64> = epoch.and_then(|text| text.parse().ok());
    let invocation = Invocation {
        matches,
        arguments: &arguments,
        remote: &source.remote,
        started: epoch.unwrap_or(started),
        finished: epoch.unwrap_or_else(now),
    };
    plan.write(session, &facts, &invocation)?;
    if matches.on("quiet") || matches.text_or_empty("progress") == "quiet" {
        print::out_line(&facts.image)?;
    }
    Ok(())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn write_file(path: &str, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::new(format!("open {path}: {error}")))
}

/// What is to become of the result.
struct Plan {
    names: Vec<String>,
    outputs: Vec<Output>,
    caches: cache::Targets,
    annotations: Annotations,
    wanted: Wanted,
    metadata: Option<String>,
}

impl Plan {
    /// What cannot be is refused before anything is built.
    fn read(matches: &Matches) -> Result<Plan, Failure> {
        let outputs = output::parse(matches)?;
        let mut names = matches.list("tag").to_vec();
        names.extend(outputs.iter().flat_map(|output| output.names.clone()));
        Ok(Plan {
            names,
            outputs,
            caches: cache::Targets::parse(matches.list("cache-to"))?,
            annotations: Annotations::parse(matches.list("annotation"))?,
            wanted: Wanted::parse(matches)?,
            metadata: matches.text("metadata-file").map(str::to_owned),
        })
    }

    fn write(
        &self,
        session: &Session,
        facts: &Facts,
        invocation: &Invocation<'_>,
    ) -> Result<(), Failure> {
        let built = Built {
            session,
            facts,
            names: &self.names,
            annotations: &self.annotations,
            wanted: &self.wanted,
            invocation,
        };
        let mut digest = facts.image.clone();
        for output in &self.outputs {
            if let Some(pushed) = output.write(&built)? {
                digest = pushed;
            }
        }
        self.caches.write(session, facts)?;
        let Some(path) = &self.metadata else {
            return Ok(());
        };
        let mut document = serde_json::json!({
            "containerimage.config.digest": facts.image,
            "containerimage.digest": digest,
        });
        if let Some(provenance) = &self.wanted.provenance {
            document["buildx.build.provenance"] = provenance.statement(facts, invocation).1;
        }
        if !self.names.is_empty() {
            document["image.name"] = serde_json::json!(self.names.join(","));
        }
        write_file(path, &format!("{document:#}"))
    }
}

/// Shows what comes until the end; gives what the daemon tells of the result.
fn follow(body: &mut impl Read, shown: &mut Shown) -> Result<Facts, Failure> {
    let mut facts = Facts::default();
    for line in BufReader::new(body).lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let progress: Progress = wharf_api::gojson::from_slice(line.as_bytes())
            .map_err(|error| Failure::new(format!("unexpected answer: {error}")))?;
        if let Some(detail) = &progress.error_detail {
            let code = u8::try_from(detail.code).unwrap_or(1).max(1);
            return Err(Failure::with_code(code, detail.message.clone()));
        }
        if let Some(aux) = &progress.aux {
            if let Some(id) = aux["ID"].as_str() {
                id.clone_into(&mut facts.image);
            }
            if let Some(told) = aux.get("wharf.build") {
                facts = serde_json::from_value(told.clone())
                    .map_err(|error| Failure::new(format!("unexpected answer: {error}")))?;
            }
            continue;
        }
        if facts.image.is_empty() && progress.stream.starts_with("sha256:") {
            // All that a quiet build says.
            progress.stream.trim().clone_into(&mut facts.image);
            continue;
        }
        shown.line(&progress)?;
    }
    Ok(facts)
}
