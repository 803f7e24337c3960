//! `GET /containers/{id}/json`.

use std::path::Path;

use wharf_api::container::{ContainerInspect, DriverData, State as WireState};

use super::record::{Record, State};
use super::status::Status;
use super::{Container, network};
use crate::{Engine, Result, clock};

impl Engine {
    /// Everything about a container. `size`: count the bytes of its layers too, which takes a walk.
    pub async fn container_inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.containers.get(name)?;
        let mut answer = self.describe(&container)?;
        if size {
            let (store, id) = (self.store.clone(), container.id.clone());
            let (rw, all) = crate::blocking(move || Ok(store.rw_size(&id)?)).await?;
            answer.size_rw = i64::try_from(rw).ok();
            answer.size_root_fs = i64::try_from(all).ok();
        }
        Ok(answer)
    }

    fn describe(&self, container: &Container) -> Result<ContainerInspect> {
        let (record, state) = (container.record(), container.state());
        let directory = self.config.container_dir(&record.id);
        let shared = self.files_dir(&record);
        let in_dir = |directory: &Path, name: &str| {
            // Docker makes these files at the first start.
            if state.started_before {
                directory.join(name).display().to_string()
            } else {
                String::new()
            }
        };
        let path = |name: &str| in_dir(&shared, name);
        let logs = record.host_config.log_config.kind == "json-file";
        let exec_ids = container.exec_ids();
        Ok(ContainerInspect {
            id: record.id.clone(),
            created: clock::text(Some(record.created_ns)),
            path: record.path.clone(),
            args: record.args.clone(),
            state: wire_state(&state),
            image: record.image_id.clone(),
            resolv_conf_path: path("resolv.conf"),
            hostname_path: path("hostname"),
            hosts_path: path("hosts"),
            log_path: if logs {
                in_dir(&directory, &format!("{}-json.log", record.id))
            } else {
                String::new()
            },
            name: format!("/{}", record.name),
            restart_count: i64::from(state.restart_count),
            driver: record.driver.clone(),
            platform: record.os.clone(),
            app_armor_profile: super::spec::security::apparmor(
                &record.host_config,
                self.host.features.apparmor,
            )
            .filter(|_| state.started_before)
            .unwrap_or_default(),
            mount_label: record.mount_label.clone(),
            process_label: record.process_label.clone(),
            exec_ids: (!exec_ids.is_empty()).then_some(exec_ids),
            host_config: self.host_config_shown(&record),
            graph_driver: self.graph_driver(&record)?,
            mounts: record
                .mounts
                .iter()
                .map(super::record::MountRecord::to_point)
                .collect(),
            config: record.config.clone(),
            network_settings: network::settings(&record, &state),
            ..ContainerInspect::default()
        })
    }

    /// As stored, with the daemon's default limits that apply.
    fn host_config_shown(&self, record: &Record) -> wharf_api::container::HostConfig {
        let mut host = record.host_config.clone();
        host.links = self.links_shown(record);
        let own = host.ulimits.get_or_insert_default();
        for limit in self.config.ulimits.values() {
            if !own.iter().any(|mine| mine.name == limit.name) {
                own.push(limit.clone());
            }
        }
        if own.is_empty() && record.host_config.ulimits.is_none() {
            host.ulimits = None;
        }
        host
    }

    fn graph_driver(&self, record: &Record) -> Result<DriverData> {
        let (name, data) = self.store.graph_driver(&record.id)?;
        Ok(DriverData {
            data: Some(data),
            name,
        })
    }
}

fn wire_state(state: &State) -> WireState {
    WireState {
        status: state.status.as_str().into(),
        running: state.status.is_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: i64::from(state.pid),
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: clock::text(state.started_ns),
        finished_at: clock::text(state.finished_ns),
        health: state.health.clone(),
    }
}
