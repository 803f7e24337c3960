//! `RUN`: a container like any other, from create to remove.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use wharf_api::container::{CreateRequest, HostConfig};
use wharf_api::stream::{HEADER_LEN, Stream, decode_header};
use wharf_build::dockerfile::instruction::{Network, Security};
use wharf_build::solve::{BuildError, MakeConfig, Output, RunStep};

use super::mounts::Prepared;
use super::worker::{EngineWorker, failed, parse, stored};
use crate::container::attach::AttachOptions;
use crate::container::remove::Removal;
use crate::container::wait::Condition;
use crate::{Engine, Error, blocking};

/// A container of a build: gone when this is, unless it is kept.
struct Worn {
    engine: Arc<Engine>,
    id: String,
    keep: bool,
}

const REMOVAL: Removal = Removal {
    force: true,
    volumes: true,
    link: false,
};

impl Worn {
    async fn remove(mut self) -> Result<(), Error> {
        self.keep = true;
        self.engine.container_remove(&self.id, REMOVAL).await
    }
}

impl Drop for Worn {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
        // The build failed or was called off in the middle of something: nobody waits for this.
        tokio::spawn(async move {
            if let Err(error) = engine.container_remove(&id, REMOVAL).await {
                tracing::warn!(container = id, %error, "left-over container of a build");
            }
        });
    }
}

impl Engine {
    /// Removes containers of builds that an earlier daemon did not live to finish.
    pub(crate) fn clear_builds(&self) {
        let Some(engine) = self.handle() else { return };
        self.clear_step_files();
        let left: Vec<String> = self
            .containers
            .all()
            .iter()
            .filter(|container| container.record().host_config.wharf.build_step)
            .map(|container| container.id.clone())
            .collect();
        for id in left {
            let worn = Worn {
                engine: engine.clone(),
                id,
                keep: false,
            };
            drop(worn);
        }
    }

    /// Removes secrets and sockets of agents that steps had.
    fn clear_step_files(&self) {
        let entries = std::fs::read_dir(&self.config.exec_root)
            .into_iter()
            .flatten();
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with("secret-") && !name.starts_with("agent-") {
                continue;
            }
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "left-over mount of a build");
            }
        }
    }

    /// A container that the client wants to look at is nobody's any more.
    fn keep_build_container(&self, id: &str) -> Result<(), Error> {
        let container = self.containers.get(id)?;
        container.edit_record(&self.database, |record| {
            record.host_config.wharf.build_step = false;
        })
    }
}

impl EngineWorker {
    pub(super) async fn run_step(
        &self,
        step: RunStep,
        config: MakeConfig,
        output: &Output,
    ) -> Result<String, BuildError> {
        let mut host = self.host_config(&step)?;
        let command = step.config.cmd.clone().unwrap_or_default().join(" ");
        let parent = step.image.clone();
        let prepared = Prepared::make(self, parent.as_deref(), step.mounts, &mut host).await?;
        let mut container = step.config;
        container
            .env
            .get_or_insert_default()
            .extend(prepared.environment.iter().cloned());
        container.image = match &parent {
            Some(image) => image.clone(),
            None => self.empty_image()?,
        };
        let engine = &self.engine;
        let created = engine
            .container_create(
                "",
                None,
                CreateRequest {
                    config: container,
                    host_config: Some(host),
                    networking_config: None,
                },
            )
            .await
            .map_err(|error| failed(&error))?;
        let worn = Worn {
            engine: engine.clone(),
            id: created.id.clone(),
            keep: false,
        };
        let _secrets = engine
            .builds
            .keep_secrets(&created.id, &prepared.secrets, engine);
        for warning in &created.warnings {
            output.text(format!(" ---> [Warning] {warning}\n"));
        }
        output.running_in(&created.id);
        let code = match self.follow(&created.id, output).await {
            Ok(code) => code,
            Err(error) => {
                self.finish_failed(worn, output).await;
                return Err(error);
            }
        };
        if code != 0 {
            self.finish_failed(worn, output).await;
            return Err(BuildError::exit(&command, code));
        }
        let image = self
            .commit(
                &created.id,
                parent.as_deref(),
                &prepared,
                config,
                step.newest,
            )
            .await?;
        drop(prepared);
        self.finish_container(worn, output).await?;
        Ok(image)
    }

    async fn finish_container(&self, mut worn: Worn, output: &Output) -> Result<(), BuildError> {
        if !self.options.remove {
            worn.keep = true;
            return self
                .engine
                .keep_build_container(&worn.id)
                .map_err(|error| failed(&error));
        }
        let id = worn.id.clone();
        worn.remove().await.map_err(|error| failed(&error))?;
        output.removed(&id);
        Ok(())
    }

    /// Its command failed or did not start. Only who keeps all containers (`--rm=false`) finds this one; it is gone before the answer ends.
    async fn finish_failed(&self, mut worn: Worn, output: &Output) {
        let id = worn.id.clone();
        let done = if self.options.remove {
            worn.remove().await
        } else {
            worn.keep = true;
            self.engine.keep_build_container(&id)
        };
        match done {
            Ok(()) if self.options.force_remove => output.removed(&id),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "left-over container of a build"),
        }
    }

    async fn commit(
        &self,
        container: &str,
        parent: Option<&str>,
        prepared: &Prepared,
        config: MakeConfig,
        newest: Option<i64>,
    ) -> Result<String, BuildError> {
        let store = self.engine.store.clone();
        prepared.clean(&store, container)?;
        if let Some(newest) = newest {
            let written = store.written_dir(container).map_err(stored)?;
            blocking(move || {
                age_files(&written, newest)
                    .map_err(|error| Error::caused("set the time of the step's files", error))
            })
            .await
            .map_err(|error| failed(&error))?;
        }
        let container = container.to_owned();
        let parent = parent.map(parse).transpose()?;
        blocking(move || {
            let id = store.commit(&container, |layered| config(layered.diff.as_ref()))?;
            if let Some(parent) = parent {
                store.set_parent(&id, &parent)?;
            }
            Ok(id.to_string())
        })
        .await
        .map_err(|error| failed(&error))
    }

    /// Starts a container and passes its output on to the end; gives its exit code.
    async fn follow(&self, id: &str, output: &Output) -> Result<i64, BuildError> {
        let engine = &self.engine;
        let wrong = |error: Error| failed(&error);
        let (ours, theirs) = UnixStream::pair()
            .and_then(|(ours, theirs)| {
                ours.set_nonblocking(true)?;
                Ok((tokio::net::UnixStream::from_std(ours)?, theirs))
            })
            .map_err(|error| BuildError::internal(error.to_string()))?;
        let options = AttachOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachOptions::default()
        };
        let attach = engine.container_attach(id, options).await.map_err(wrong)?;
        engine
            .attach_client(attach, OwnedFd::from(theirs), Vec::new())
            .await
            .map_err(wrong)?;
        let wait = engine
            .container_wait(id, Condition::NextExit)
            .await
            .map_err(wrong)?;
        engine.container_start(id).await.map_err(wrong)?;
        pass_on(ours, output)
            .await
            .map_err(|error| BuildError::internal(error.to_string()))?;
        let answer = wait.finish().await;
        match answer.error {
            Some(error) => Err(BuildError::internal(error.message)),
            None => Ok(answer.status_code),
        }
    }

    fn host_config(&self, step: &RunStep) -> Result<HostConfig, BuildError> {
        let mut host = self.options.host.clone();
        host.wharf.build_step = true;
        match step.network {
            Network::Default => {}
            Network::None => host.network_mode = "none".to_owned(),
            Network::Host if host.network_mode == "host" => {}
            Network::Host => {
                self.check_entitled("network.host", self.engine.config.builder.network_host)?;
                host.network_mode = "host".to_owned();
            }
        }
        if step.security == Security::Insecure {
            let allowed = self.engine.config.builder.security_insecure;
            self.check_entitled("security.insecure", allowed)?;
            host.privileged = true;
        }
        Ok(host)
    }

    /// Both the daemon's configuration and the client must allow it.
    fn check_entitled(&self, name: &str, allowed: bool) -> Result<(), BuildError> {
        if !allowed {
            return Err(BuildError::invalid(format!(
                "granting entitlement {name} is not allowed by build daemon configuration"
            )));
        }
        let asked = |given: &String| given == name || given == "all";
        if !self.options.extras.allow.iter().any(asked) {
            return Err(BuildError::invalid(format!(
                "{name} is not allowed: build with --allow {name}"
            )));
        }
        Ok(())
    }

    /// An image without files, for a `RUN` upon nothing.
    fn empty_image(&self) -> Result<String, BuildError> {
        let platform = wharf_spec::platform::Platform::host();
        let config = serde_json::json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        self.engine
            .store
            .restore_step(None, config.to_string().as_bytes())
            .map(|id| id.to_string())
            .map_err(stored)
    }
}

/// Gives files that are younger than `newest` that time. Links are not followed.
fn age_files(path: &std::path::Path, newest: i64) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            age_files(&entry?.path(), newest)?;
        }
    }
    if (metadata.mtime(), metadata.mtime_nsec()) <= (newest, 0) {
        return Ok(());
    }
    let time = Timespec {
        tv_sec: newest,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Passes framed output on: standard error in red, characters whole.
async fn pass_on(mut from: tokio::net::UnixStream, output: &Output) -> std::io::Result<()> {
    let mut rests = [Vec::new(), Vec::new()];
    let mut header = [0; HEADER_LEN];
    loop {
        match from.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let (stream, length) = decode_header(header).map_err(std::io::Error::other)?;
        let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
        from.read_exact(&mut payload).await?;
        let rest = &mut rests[usize::from(stream == Stream::Stderr)];
        rest.extend_from_slice(&payload);
        let text = whole_characters(rest);
        if text.is_empty() {
            continue;
        }
        if stream == Stream::Stderr {
            output.error_text(&text);
        } else {
            output.text(text);
        }
    }
}

/// Takes all but an unfinished character at the end.
fn whole_characters(bytes: &mut Vec<u8>) -> String {
    let end = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let rest = bytes.split_off(end);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_torn() {
        let mut bytes = "aä".as_bytes()[..2].to_vec();
        assert_eq!(whole_characters(&mut bytes), "a");
        bytes.extend_from_slice(&"ä".as_bytes()[1..]);
        assert_eq!(whole_characters(&mut bytes), "ä");
        let mut bytes = vec![b'a', 0xff, b'b'];
        assert_eq!(whole_characters(&mut bytes), "a\u{fffd}b");
    }
}
