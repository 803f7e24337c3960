//! `POST /containers/{id}/update`: limits and restart policy of a container that exists (moby `daemon/update.go`).

use wharf_api::container::{HostConfig, UpdateRequest, UpdateResponse};
use wharf_runtime::plan::{CgroupWrite, plan_update, plan_update_properties};
use wharf_runtime::systemd::{self, Property};
use wharf_spec::runtime::LinuxResources;

use super::start::plan_error;
use super::status::Status;
use super::{Live, limits, restart_policy, spec};
use crate::{Engine, Error, Result};

impl Engine {
    /// Changes limits, live where the container runs, and the restart policy.
    pub async fn container_update(
        &self,
        name: &str,
        request: UpdateRequest,
    ) -> Result<UpdateResponse> {
        let container = self.containers.get(name)?;
        let mut wanted = request.0;
        let mut warnings = limits::validate(&mut wanted, &self.abilities, true)?;
        restart_policy::validate(&wanted.restart_policy).map_err(Error::invalid)?;
        let context =
            |error: Error| error.context(format!("Cannot update container {}", container.id));
        if matches!(container.status(), Status::Removing | Status::Dead) {
            return Err(context(Error::internal(
                "container is marked for removal and cannot be \"update\"",
            )));
        }
        let mut merged = container.record().host_config.clone();
        merge(&mut merged, &wanted).map_err(context)?;
        if let (Some(live), false) = (container.live(), container.status() == Status::Restarting) {
            let own = container.record().host_config.clone();
            self.change_limits(&live, &own, &merged)
                .await
                .map_err(context)?;
        }
        container.edit_record(&self.database, |record| record.host_config = merged)?;
        self.tell(&container, "update", &[]);
        warnings.dedup();
        Ok(UpdateResponse {
            warnings: Some(warnings),
        })
    }

    /// Applies new limits, or takes all of them back.
    async fn change_limits(&self, live: &Live, own: &HostConfig, new: &HostConfig) -> Result<()> {
        let path = live.plan.cgroup.path.clone();
        let (before, after) = (self.plan_limits(live, own)?, self.plan_limits(live, new)?);
        let scope = live.plan.cgroup.scope.clone();
        let properties = self.plan_properties(live, new)?;
        crate::blocking(move || {
            if let Some(scope) = scope {
                systemd::change(&scope, &properties)
                    .map_err(|error| Error::caused("failed to update the limits", error))?;
            }
            path.write(&after).map_err(|error| {
                // The refusal is what the client must hear. It names the kernel's reason itself.
                let _ = path.write(&before);
                Error::internal(format!("failed to update the limits: {error}"))
            })
        })
        .await
    }

    fn plan_properties(&self, live: &Live, host: &HostConfig) -> Result<Vec<(String, Property)>> {
        let mut resources = LinuxResources::default();
        spec::resources::fill(&mut resources, host)?;
        plan_update_properties(&live.plan.cgroup.path, &resources).map_err(plan_error)
    }

    fn plan_limits(&self, live: &Live, host: &HostConfig) -> Result<Vec<CgroupWrite>> {
        let mut resources = LinuxResources::default();
        resources.set_devices(None);
        spec::resources::fill(&mut resources, host)?;
        plan_update(&live.plan.cgroup.path, &resources, &self.host).map_err(plan_error)
    }
}

/// Takes over what the request names (moby `UpdateContainer`).
fn merge(own: &mut HostConfig, wanted: &HostConfig) -> Result<()> {
    check_conflicts(own, wanted)?;
    let numbers = [
        (&mut own.cpu_shares, wanted.cpu_shares),
        (&mut own.nano_cpus, wanted.nano_cpus),
        (&mut own.cpu_period, wanted.cpu_period),
        (&mut own.cpu_quota, wanted.cpu_quota),
        (&mut own.memory, wanted.memory),
        (&mut own.memory_swap, wanted.memory_swap),
        (&mut own.memory_reservation, wanted.memory_reservation),
        (&mut own.kernel_memory_tcp, wanted.kernel_memory_tcp),
        (&mut own.cpu_realtime_period, wanted.cpu_realtime_period),
        (&mut own.cpu_realtime_runtime, wanted.cpu_realtime_runtime),
    ];
    for (mine, theirs) in numbers {
        if theirs != 0 {
            *mine = theirs;
        }
    }
    if wanted.blkio_weight != 0 {
        own.blkio_weight = wanted.blkio_weight;
    }
    for (mine, theirs) in [
        (&mut own.cpuset_cpus, &wanted.cpuset_cpus),
        (&mut own.cpuset_mems, &wanted.cpuset_mems),
    ] {
        if !theirs.is_empty() {
            theirs.clone_into(mine);
        }
    }
    merge_devices(own, wanted);
    if wanted.pids_limit.is_some() {
        own.pids_limit = wanted.pids_limit;
    }
    if wanted.memory_swappiness.is_some() {
        own.memory_swappiness = wanted.memory_swappiness;
    }
    if wanted.oom_kill_disable.is_some() {
        own.oom_kill_disable = wanted.oom_kill_disable;
    }
    if !wanted.restart_policy.name.is_empty() {
        own.restart_policy = wanted.restart_policy.clone();
    }
    Ok(())
}

/// Limits per block device: a list that is given replaces the one there was.
fn merge_devices(own: &mut HostConfig, wanted: &HostConfig) {
    if wanted.blkio_weight_device.is_some() {
        own.blkio_weight_device
            .clone_from(&wanted.blkio_weight_device);
    }
    for (mine, theirs) in [
        (
            &mut own.blkio_device_read_bps,
            &wanted.blkio_device_read_bps,
        ),
        (
            &mut own.blkio_device_write_bps,
            &wanted.blkio_device_write_bps,
        ),
        (
            &mut own.blkio_device_read_iops,
            &wanted.blkio_device_read_iops,
        ),
        (
            &mut own.blkio_device_write_iops,
            &wanted.blkio_device_write_iops,
        ),
    ] {
        if theirs.is_some() {
            mine.clone_from(theirs);
        }
    }
}

fn check_conflicts(own: &HostConfig, wanted: &HostConfig) -> Result<()> {
    let conflict = |text: &str| Err(Error::conflict(text));
    if wanted.nano_cpus > 0 && own.cpu_period > 0 {
        return conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        );
    }
    if wanted.nano_cpus > 0 && own.cpu_quota > 0 {
        return conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        );
    }
    if wanted.cpu_period > 0 && own.nano_cpus > 0 {
        return conflict(
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        );
    }
    if wanted.cpu_quota > 0 && own.nano_cpus > 0 {
        return conflict(
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        );
    }
    let swap = if wanted.memory_swap != 0 {
        wanted.memory_swap
    } else {
        own.memory_swap
    };
    if wanted.memory > 0 && swap > 0 && wanted.memory > swap {
        return conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    let restarts = !matches!(wanted.restart_policy.name.as_str(), "" | "no");
    if own.auto_remove && restarts {
        return conflict(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let mut own = HostConfig {
            memory: 100,
            memory_swap: 200,
            cpu_shares: 5,
            ..HostConfig::default()
        };
        let wanted = HostConfig {
            memory: 150,
            ..HostConfig::default()
        };
        merge(&mut own, &wanted).expect("merge");
        assert_eq!((own.memory, own.memory_swap, own.cpu_shares), (150, 200, 5));
        let too_much = HostConfig {
            memory: 300,
            ..HostConfig::default()
        };
        assert!(merge(&mut own, &too_much).is_err());
    }

    #[test]
    fn auto_removed_containers_get_no_restart_policy() {
        let mut own = HostConfig {
            auto_remove: true,
            ..HostConfig::default()
        };
        let mut wanted = HostConfig::default();
        wanted.restart_policy.name = "always".into();
        assert_eq!(
            merge(&mut own, &wanted).expect_err("refused").to_string(),
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        );
    }
}
