//! A registry in a side's network namespace: ours beside our daemon, Debian's `docker-registry` beside a reference.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wharf_e2e::deadline::wait_until;
use wharf_e2e::engine::{Kind, kill, wharf_program};

use crate::image;
use crate::side::Side;

const ADDRESS: &str = "127.0.0.1:5007";

/// Killed on drop; its content goes too.
#[derive(Debug)]
pub(crate) struct Registry {
    process: Child,
    home: PathBuf,
}

impl Registry {
    /// An empty one.
    pub(crate) fn start(side: &mut Side) -> Result<Registry> {
        let home = image::directory()?.join(format!("registry-{}", side.name));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home)?;
        let kind = side.kind();
        let netns = side.engine()?.netns();
        let mut command = match kind {
            Kind::Wharf => {
                let mut command = netns.command(&wharf_program());
                command.args(["registry", "serve", "--log-level", "error"]);
                command.args(["--listen", ADDRESS, "--root"]).arg(&home);
                command
            }
            Kind::Reference => {
                let mut command = netns.command("docker-registry".as_ref());
                command.arg("serve").arg(configure(&home)?);
                command
            }
        };
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start a registry")?;
        let registry = Registry { process, home };
        wait_until("the registry to answer", Duration::from_secs(20), || {
            curl(side, &[&registry.url("/v2/")]).is_ok()
        });
        Ok(registry)
    }

    /// `http://…` of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{ADDRESS}{path}")
    }

    /// Peak of resident memory so far, in MiB.
    pub(crate) fn peak(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("the peak of memory")?;
        Ok(peak.parse::<f64>()? / 1024.0)
    }

    /// Pushes a file as a blob in one request: its digest, and the seconds that the request took.
    pub(crate) fn push_blob(&self, side: &mut Side, file: &Path) -> Result<(String, f64)> {
        let digest = format!("sha256:{}", digest(file)?);
        let uploads = self.url("/v2/bench/blobs/uploads/");
        let begun = curl(
            side,
            &[
                "-o",
                "/dev/null",
                "-w",
                "%header{location}",
                "-X",
                "POST",
                &uploads,
            ],
        )?;
        let location = match begun.starts_with('/') {
            true => self.url(&begun),
            false => begun,
        };
        let join = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{join}digest={digest}");
        let file = file.to_str().context("a plain path")?;
        // Without asking first whether it may send: that is another round.
        let took = curl(
            side,
            &["-w", "%{time_total}", "-H", "Expect:", "-T", file, &target],
        )?;
        Ok((digest, took.parse()?))
    }

    /// Pushes a manifest under the tag `1`.
    pub(crate) fn push_manifest(&self, side: &mut Side, text: &str) -> Result<()> {
        let target = self.url("/v2/bench/manifests/1");
        let kind = format!("Content-Type: {}", MANIFEST);
        curl(
            side,
            &["-X", "PUT", "-H", &kind, "--data-binary", text, &target],
        )
        .map(drop)
    }
}

/// The media type of an image's manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Drop for Registry {
    fn drop(&mut self) {
        kill(self.process.id());
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

fn configure(home: &Path) -> Result<PathBuf> {
    let file = home.join("config.yml");
    let data = home.join("data");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{ADDRESS}\"}}\n",
        data.display()
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

fn curl(side: &mut Side, args: &[&str]) -> Result<String> {
    let mut command = side.engine()?.netns().command("curl".as_ref());
    let output = command.args(["-sS", "--fail"]).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {args:?}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn digest(file: &Path) -> Result<String> {
    let output = std::process::Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.split_whitespace()
        .next()
        .map(str::to_owned)
        .context("a digest")
}
