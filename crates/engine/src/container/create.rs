//! Creating a container: check, merge, name, mount, store. All or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_api::container::{Config, CreateRequest, CreateResponse, HostConfig};
use wharf_api::error::Kind;
use wharf_api::network::NetworkingConfig;
use wharf_spec::image_config::ImageConfig;
use wharf_spec::platform::Platform;

use super::record::{MountRecord, Record, State};
use super::root_view::RootView;
use super::spec::capabilities;
use super::storage;
use super::{Container, image_config, log_driver, mounts, network, normalise, validate};
use crate::volumes::NewVolume;
use crate::volumes::copy_up::{copy_up, has_directory};
use crate::{Engine, Error, Result, clock, ids};

/// A checked request: nothing in it can be refused any more but for names and volumes.
struct Checked {
    config: Config,
    host_config: HostConfig,
    networking: Option<NetworkingConfig>,
    image_id: String,
    os: String,
    image_volumes: Vec<String>,
    log_options: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Engine {
    /// `POST /containers/create`. `platform`: `os/arch[/variant]` that the image must have.
    pub async fn container_create(
        &self,
        name: &str,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let name = name.to_owned();
        let platform = platform.map(str::to_owned);
        // Blocking work runs to its end even when the client goes away.
        let engine = self
            .handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        crate::blocking(move || engine.create(&name, platform.as_deref(), request)).await
    }

    fn create(
        &self,
        name: &str,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let mut checked = self.check(platform, request)?;
        let warnings = std::mem::take(&mut checked.warnings);
        let id = ids::random();
        let name = self.containers.reserve(name, &id)?;
        match self.make(&id, &name, checked) {
            Ok(()) => Ok(CreateResponse { id, warnings }),
            Err(error) => {
                self.undo_create(&id, &name);
                Err(error)
            }
        }
    }

    fn check(&self, platform: Option<&str>, request: CreateRequest) -> Result<Checked> {
        let CreateRequest {
            mut config,
            host_config,
            networking_config,
        } = request;
        let mut host = host_config.unwrap_or_default();
        validate::config(&mut config)?;
        capabilities::validate(&host)?;
        network::validate(host.port_bindings.as_ref())?;
        network::validate_endpoints(networking_config.as_ref())?;
        self.check_runtime(&host.runtime)?;
        super::links::check_mode(&host)?;
        validate::conflicts(&config, &host)?;
        validate::cgroup_parent(&host, &self.config.cgroup_driver)?;
        let mut warnings = validate::host_config(&mut host, &self.abilities)?;
        let image = self.find_image(&config.image)?;
        warnings.extend(check_platform(&config.image, platform, &image.1)?);
        if let Some(run) = &image.1.config {
            image_config::merge(&mut config, run);
        }
        settle_command(&mut config)?;
        let log_options = log_driver::settle(&mut host.log_config, &self.config.log)?;
        normalise::host_config(&mut host, &self.settings(), self.abilities.cgroup_v2);
        if self.is_remapped(&host) {
            crate::userns::conflicts(&host)?;
        }
        self.pin_shared_namespaces(&mut host)?;
        self.imply_labels(&mut host)?;
        let image_volumes = config
            .volumes
            .iter()
            .flatten()
            .map(|(path, _)| path.clone())
            .collect();
        Ok(Checked {
            config,
            host_config: host,
            networking: networking_config,
            image_id: image.0,
            os: image.1.os.clone(),
            image_volumes,
            log_options,
            warnings,
        })
    }

    /// Image id and configuration by name.
    fn find_image(&self, name: &str) -> Result<(String, Arc<ImageConfig>)> {
        if name.is_empty() {
            return Err(Error::invalid("no image specified"));
        }
        let image = self.store.image(name)?;
        Ok((image.id.to_string(), image.config))
    }

    /// Modes that name another container keep naming it after a rename.
    fn pin_shared_namespaces(&self, host: &mut HostConfig) -> Result<()> {
        // A missing owner of the network is only noticed at the start (moby `generateSecurityOpt`).
        for mode in [&host.ipc_mode, &host.pid_mode, &host.userns_mode] {
            if let Some(owner) = mode.strip_prefix("container:") {
                self.containers
                    .get(owner)
                    .map_err(|error| error.with_kind(Kind::Invalid))?;
            }
        }
        for mode in [
            &mut host.network_mode,
            &mut host.ipc_mode,
            &mut host.pid_mode,
            &mut host.userns_mode,
        ] {
            if let Some(container) = mode
                .strip_prefix("container:")
                .and_then(|name| self.containers.get(name).ok())
            {
                *mode = format!("container:{}", container.id);
            }
        }
        Ok(())
    }

    fn make(&self, id: &str, name: &str, checked: Checked) -> Result<()> {
        let Checked {
            mut config,
            host_config,
            networking,
            image_id,
            os,
            image_volumes,
            log_options,
            ..
        } = checked;
        normalise::hostname(&mut config, &host_config, id);
        let (path, args) =
            normalise::program(&config).ok_or_else(|| Error::invalid("no command specified"))?;
        let from = self.mounts_of_others(&host_config)?;
        let wanted = mounts::plan(&host_config, &image_volumes, from)?;
        let labels = self.new_labels(&host_config)?;
        let size = storage::size_limit(&host_config)?;
        self.store.create_rw(id, &image_id, size)?;
        let directory = self.config.container_dir(id);
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::caused("create container directory", error))?;
        let mut record = Record {
            id: id.to_owned(),
            name: name.to_owned(),
            created_ns: clock::now_ns(),
            image_id,
            path,
            args,
            networks: network::wanted(&host_config, networking, |name| {
                network::own_name(&self.network, name)
            }),
            config,
            links: self.new_links(&host_config)?,
            mounts: Vec::new(),
            driver: self.store.driver().name().to_owned(),
            os,
            log_options,
            first_id: 0,
            process_label: labels.process,
            mount_label: labels.mount,
            host_config,
        };
        let _placing = self.placing_ids.lock();
        if let crate::userns::Mode::Auto(size) = crate::userns::Mode::of(&record.host_config) {
            record.first_id = self.place_ids(size)?;
        }
        let mut anonymous = Vec::new();
        let made = self.make_volumes(&record, wanted, &mut anonymous);
        let kept = made.and_then(|mounts| {
            record.mounts = mounts;
            let container = Arc::new(Container::new(record, State::default()));
            self.database
                .save_container(id, &*container.record(), &container.state())?;
            Ok(container)
        });
        let container = kept.inspect_err(|_| self.undo_volumes(&anonymous))?;
        self.containers.add(container.clone());
        self.tell(&container, "create", &[]);
        Ok(())
    }

    fn mounts_of_others(&self, host: &HostConfig) -> Result<Vec<(String, Vec<MountRecord>)>> {
        let lookup = |text: &String| {
            let (name, mode) = mounts::parse_volumes_from(text)?;
            let container = self
                .containers
                .get(name)
                .map_err(|error| error.with_kind(Kind::Invalid))?;
            Ok((mode.to_owned(), container.record().mounts.clone()))
        };
        host.volumes_from.iter().flatten().map(lookup).collect()
    }

    /// Creates the volumes among the mounts and fills those that take over the image's content.
    /// `anonymous` gets the names of those that go with the container.
    fn make_volumes(
        &self,
        record: &Record,
        wanted: mounts::Wanted,
        anonymous: &mut Vec<String>,
    ) -> Result<Vec<MountRecord>> {
        let mut made = Vec::with_capacity(wanted.len());
        for (_, mut mount) in wanted {
            if mount.kind == "image" {
                let image = self.find_image(&mount.name)?.0;
                mount.image_layer = format!("{}-mount-{}", record.id, made.len());
                self.store.create_rw(&mount.image_layer, &image, None)?;
            }
            if mount.kind == "volume" && mount.source.is_empty() {
                let spec = record
                    .host_config
                    .mounts
                    .iter()
                    .find(|spec| validate::clean(&spec.target) == mount.destination);
                let options = spec
                    .and_then(|spec| spec.volume_options.clone())
                    .unwrap_or_default();
                let driver_options = options
                    .driver_config
                    .map(|driver| driver.options)
                    .unwrap_or_default();
                let labels = (!options.labels.is_empty()).then_some(options.labels);
                let (volume, new) = self.volumes.create(NewVolume {
                    name: mount.name.clone(),
                    driver: mount.driver.clone(),
                    options: driver_options,
                    labels,
                })?;
                mount.anonymous = volume.is_anonymous() && mount.name.is_empty();
                mount.name.clone_from(&volume.name);
                mount.driver.clone_from(&volume.driver);
                mount.source = self.volumes.mountpoint(&volume);
                if mount.mode.is_empty() && !mount.anonymous {
                    mount.mode = "z".into();
                }
                if new {
                    self.tell_volume("create", &volume.name, BTreeMap::new());
                }
                if mount.anonymous {
                    anonymous.push(volume.name);
                }
            }
            made.push(mount);
        }
        self.populate(&record.id, &made)?;
        Ok(made)
    }

    /// Lets new volumes take over what the image has at their destinations.
    fn populate(&self, id: &str, mounts: &[MountRecord]) -> Result<()> {
        let takers: Vec<&MountRecord> = mounts
            .iter()
            .filter(|mount| mount.kind == "volume" && !mount.no_copy && mount.subpath.is_empty())
            .collect();
        if takers.is_empty() {
            return Ok(());
        }
        let failed = |error| Error::caused("failed to populate volume", error);
        let root = RootView::read_only(&self.store.rootfs(id)?).map_err(failed)?;
        for mount in takers {
            // Otherwise a server that is away would be in the way already here.
            if !has_directory(&root, &mount.destination) {
                continue;
            }
            let data = self
                .volumes
                .access(&mount.name, id)
                .map_err(|error| error.context("failed to populate volume"))?;
            let copied = copy_up(&root, &mount.destination, &data).map_err(failed);
            self.release_volume(&mount.name, id);
            copied?;
        }
        Ok(())
    }

    /// Nobody would ever find the volumes of a container that was not made.
    fn undo_volumes(&self, anonymous: &[String]) {
        for name in anonymous {
            let removed = self
                .volumes
                .remove(name, false, |path| self.store.discard(path));
            match removed {
                Ok(()) => self.tell_volume("destroy", name, BTreeMap::new()),
                Err(error) => {
                    tracing::warn!(volume = name, %error, "left-over volume of a failed create");
                }
            }
        }
    }

    fn undo_create(&self, id: &str, name: &str) {
        self.containers.remove(id);
        self.containers.release(name);
        if let Err(error) = self.store.remove_rw(id) {
            tracing::warn!(container = id, %error, "left-over read-write layer of a failed create");
        }
        for layer in self.store.rw_containers() {
            if layer.starts_with(id)
                && let Err(error) = self.store.remove_rw(&layer)
            {
                tracing::warn!(layer, %error, "left-over layer of a failed create");
            }
        }
        let directory = self.config.container_dir(id);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(container = id, %error, "left-over directory of a failed create");
            }
            _ => {}
        }
        if let Err(error) = self.database.delete_container(id) {
            tracing::warn!(container = id, %error, "left-over row of a failed create");
        }
    }
}

/// An entry point of one empty word resets the image's. Nothing to run is refused.
fn settle_command(config: &mut Config) -> Result<()> {
    if config
        .entrypoint
        .as_ref()
        .is_some_and(|words| words.len() == 1 && words[0].is_empty())
    {
        config.entrypoint = None;
    }
    if image_config::is_empty(config.entrypoint.as_ref())
        && image_config::is_empty(config.cmd.as_ref())
    {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

fn check_platform(name: &str, wanted: Option<&str>, image: &ImageConfig) -> Result<Option<String>> {
    let has = image.platform();
    if let Some(text) = wanted.filter(|text| !text.is_empty()) {
        let wanted = Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
        if !wanted.runs(&has) {
            return Err(Error::not_found(format!(
                "image with reference {name} was found but does not provide the specified platform ({})",
                wanted.format_all()
            )));
        }
        return Ok(None);
    }
    let host = Platform::host();
    if host.runs(&has) {
        return Ok(None);
    }
    Ok(Some(format!(
        "The requested image's platform ({}) does not match the detected host platform ({}) and no specific platform was requested",
        has.format_all(),
        host.format_all()
    )))
}
