//! `build`, and what belongs to it.

mod check;
mod context;
mod output;
mod progress;
mod prune;
mod request;
mod secret;

use std::io::{BufRead as _, BufReader, Read};

use wharf_api::progress::Progress;

use super::{Arity, Command, int, list, switch, text};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::request::{address, resources};
use crate::session::Session;
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
            list("allow", "Allow extra privileged entitlement (e.g., \"network.host\")"),
            list("build-arg", "Set build-time variables"),
            list("build-context", "Additional build contexts (e.g., name=docker-image://image)"),
            list("cache-from", "Images to consider as cache sources").value("strings"),
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
            list("output", "Output destination (format: \"type=local,dest=path\")").short('o'),
            text("platform", "Set platform if server is multi-platform capable"),
            text("progress", "Set type of progress output (\"auto\", \"quiet\", \"plain\", \"tty\", \"classic\")")
                .default("auto"),
            switch("pull", "Always attempt to pull a newer version of the image"),
            switch("quiet", "Suppress the build output and print image ID on success").short('q'),
            switch("rm", "Remove intermediate containers after a successful build").default("true"),
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
    let outputs = output::parse(matches.list("output"))?;
    let mut source = context::open(matches)?;
    let request = request::make(matches, &source)?;
    let mut response = session.client.send(match &mut source.body {
        Some(body) => request.stream(body, "application/x-tar"),
        None => request,
    })?;
    let mut shown = Shown::new(matches);
    let result = follow(&mut response.body, &mut shown);
    shown.finish(&result);
    let image = result?;
    if let Some(path) = matches.text("iidfile") {
        std::fs::write(path, &image)
            .map_err(|error| Failure::new(format!("open {path}: {error}")))?;
    }
    if let Some(path) = matches.text("metadata-file") {
        let document = serde_json::json!({
            "containerimage.config.digest": image,
            "containerimage.digest": image,
        });
        std::fs::write(path, format!("{document:#}"))
            .map_err(|error| Failure::new(format!("open {path}: {error}")))?;
    }
    for output in &outputs {
        output.write(session, &image, matches)?;
    }
    if matches.on("quiet") || matches.text_or_empty("progress") == "quiet" {
        print::out_line(&image)?;
    }
    Ok(())
}

/// Shows what comes until the end; gives the image's ID.
fn follow(body: &mut impl Read, shown: &mut Shown) -> Result<String, Failure> {
    let mut image = String::new();
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
        if let Some(id) = progress.aux.as_ref().and_then(|aux| aux["ID"].as_str()) {
            image = id.to_owned();
            continue;
        }
        if image.is_empty() && progress.stream.starts_with("sha256:") {
            // All that a quiet build says.
            progress.stream.trim().clone_into(&mut image);
            continue;
        }
        shown.line(&progress)?;
    }
    Ok(image)
}
