//! `POST /containers/create`: what each API version could say, brought to what the newest says.

use http::StatusCode;
use wharf_api::container::{Config, CreateRequest, HostConfig, Mount};
use wharf_api::network::{EndpointSettings, NetworkingConfig};
use wharf_api::version::ApiVersion;

use super::Outcome;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;

/// Creates a container.
pub async fn create(mut call: Call) -> Outcome {
    if call.body_is_empty() {
        return Err(ApiError::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    let mut request: CreateRequest = call.json().await?;
    if request == CreateRequest::default() {
        return Err(ApiError::invalid(
            "config cannot be empty in order to create a container",
        ));
    }
    let warnings = bring_up_to_date(&mut request, call.version)?;
    let platform = if call.version.before(41) {
        ""
    } else {
        call.query.get("platform")
    };
    let (name, engine) = (call.query.get("name"), call.engine());
    let mut created = engine
        .container_create(name, Some(platform).filter(|p| !p.is_empty()), request)
        .await?;
    created.warnings.extend(warnings);
    Ok(respond::json(StatusCode::CREATED, &created))
}

/// Rewrites `request` as a client of the newest API would have written it; the warnings are for its client
/// (moby `daemon/server/router/container`).
fn bring_up_to_date(
    request: &mut CreateRequest,
    version: ApiVersion,
) -> Result<Vec<String>, ApiError> {
    let host = request.host_config.get_or_insert_default();
    let networking = request.networking_config.get_or_insert_default();
    use_default_network(host, networking);
    age_host_config(host, version);
    check_mounts(&mut host.mounts, version)?;
    if let Some(health) = request
        .config
        .healthcheck
        .as_mut()
        .filter(|_| version.before(44))
    {
        health.start_interval = 0;
    }
    age_endpoints(networking, version)?;
    let mut warnings = Vec::new();
    warnings.extend(volume_driver_warning(host, version));
    warnings.extend(move_mac_address(
        &mut request.config,
        host,
        networking,
        version,
    )?);
    // 0 and below mean "no limit", which is also what nothing means.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    Ok(warnings)
}

/// `default` and nothing at all are the bridge.
fn use_default_network(host: &mut HostConfig, networking: &mut NetworkingConfig) {
    if !matches!(host.network_mode.as_str(), "" | "default") {
        return;
    }
    host.network_mode = "bridge".to_owned();
    if let Some(endpoints) = &mut networking.endpoints_config
        && let Some(endpoint) = endpoints.remove("default")
    {
        endpoints.insert("bridge".to_owned(), endpoint);
    }
}

/// Takes away what `version` did not have, and fills in what its clients relied on.
fn age_host_config(host: &mut HostConfig, version: ApiVersion) {
    if version.before(40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    if version.before(42) {
        host.console_size = [0, 0];
    } else {
        host.kernel_memory = 0;
    }
    if version.before(43) {
        host.annotations.clear();
    }
    // An empty list of bindings meant one binding to any port.
    for bindings in host
        .port_bindings
        .iter_mut()
        .flat_map(|ports| ports.values_mut())
    {
        let bindings = bindings.get_or_insert_default();
        if bindings.is_empty() {
            bindings.push(Default::default());
        }
    }
}

fn check_mounts(mounts: &mut [Mount], version: ApiVersion) -> Result<(), ApiError> {
    for mount in mounts {
        let is = |kind: &str| mount.kind == kind;
        if version.before(40) {
            mount
                .bind_options
                .iter_mut()
                .for_each(|bind| bind.non_recursive = false);
        }
        if version.before(42) {
            // These did not exist, or were not looked at.
            mount
                .bind_options
                .iter_mut()
                .for_each(|bind| bind.create_mountpoint = false);
            let (volume, tmpfs) = (is("volume"), is("tmpfs"));
            mount.volume_options = mount.volume_options.take().filter(|_| volume);
            mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| tmpfs);
        } else {
            for (name, given, wanted) in [
                ("VolumeOptions", mount.volume_options.is_some(), "volume"),
                ("BindOptions", mount.bind_options.is_some(), "bind"),
                ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
            ] {
                if given && !is(wanted) {
                    return Err(ApiError::invalid(format!(
                        "{name} must not be specified on mount type {:?}",
                        mount.kind
                    )));
                }
            }
        }
        check_new_mount_fields(mount, version)?;
    }
    Ok(())
}

fn check_new_mount_fields(mount: &mut Mount, version: ApiVersion) -> Result<(), ApiError> {
    let needs = |what: &str, minor: u16| {
        Err(ApiError::invalid(format!(
            "{what} needs API v1.{minor} or newer"
        )))
    };
    if version.before(44) && mount.kind == "bind" {
        let bind = mount.bind_options.get_or_insert_default();
        if bind.read_only_force_recursive {
            return needs("BindOptions.ReadOnlyForceRecursive", 44);
        }
        // Read-only binds were not recursive then.
        bind.read_only_non_recursive |= mount.read_only;
    }
    if version.before(45)
        && mount
            .volume_options
            .as_ref()
            .is_some_and(|volume| !volume.subpath.is_empty())
    {
        return needs("VolumeOptions.Subpath", 45);
    }
    if version.before(48) && mount.kind == "image" {
        return needs("Mount type \"Image\"", 48);
    }
    Ok(())
}

fn age_endpoints(networking: &mut NetworkingConfig, version: ApiVersion) -> Result<(), ApiError> {
    let Some(endpoints) = &mut networking.endpoints_config else {
        return Ok(());
    };
    if version.before(44) && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        return Err(ApiError::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    if version.before(48) {
        endpoints
            .values_mut()
            .flatten()
            .for_each(|endpoint| endpoint.gw_priority = 0);
    }
    Ok(())
}

fn volume_driver_warning(host: &HostConfig, version: ApiVersion) -> Option<String> {
    let names_driver = |m: &Mount| {
        m.volume_options
            .as_ref()
            .and_then(|v| v.driver_config.as_ref())
            .is_some_and(|d| !d.name.is_empty())
    };
    let ignored = host
        .mounts
        .iter()
        .any(|m| m.kind == "volume" && !names_driver(m));
    (!version.before(48) && !host.volume_driver.is_empty() && ignored).then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned()
    })
}

/// A container-wide MAC address goes to the endpoint of the main network, where it belongs since 1.44.
fn move_mac_address(
    config: &mut Config,
    host: &HostConfig,
    networking: &mut NetworkingConfig,
    version: ApiVersion,
) -> Result<Option<String>, ApiError> {
    let address = config.mac_address.clone();
    if address.is_empty() {
        if version.before(44) {
            // The old API did not look there.
            let endpoints = networking
                .endpoints_config
                .iter_mut()
                .flat_map(|map| map.values_mut().flatten());
            endpoints.for_each(|endpoint| endpoint.mac_address.clear());
        }
        return Ok(None);
    }
    let has_endpoint = !matches!(host.network_mode.as_str(), "host" | "none")
        && !host.network_mode.starts_with("container:");
    if !has_endpoint {
        let refusal = ApiError::invalid("conflicting options: mac-address and the network mode");
        return if version.before(44) {
            Err(refusal)
        } else {
            Ok(Some(MAC_WARNING.to_owned()))
        };
    }
    let endpoint = main_endpoint(networking, &host.network_mode, version)?;
    if !version.before(44) && !endpoint.mac_address.is_empty() && endpoint.mac_address != address {
        return Err(ApiError::invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    endpoint.mac_address = address;
    Ok((!version.before(44)).then(|| MAC_WARNING.to_owned()))
}

const MAC_WARNING: &str = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";

/// The endpoint of the network that the network mode names, made when there is none at all.
fn main_endpoint<'a>(
    networking: &'a mut NetworkingConfig,
    mode: &str,
    version: ApiVersion,
) -> Result<&'a mut EndpointSettings, ApiError> {
    let endpoints = networking.endpoints_config.get_or_insert_default();
    // Before 1.44 there is at most one, and it is meant whatever its name.
    let only = endpoints
        .keys()
        .next()
        .filter(|_| version.before(44))
        .cloned();
    let key = only.unwrap_or_else(|| mode.to_owned());
    if !endpoints.is_empty() && !endpoints.contains_key(&key) {
        return Err(ApiError::invalid(
            "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
        ));
    }
    Ok(endpoints.entry(key).or_default().get_or_insert_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::gojson;
    use wharf_api::version::v;

    fn aged(body: &str, minor: u16) -> (CreateRequest, Result<Vec<String>, String>) {
        let mut request: CreateRequest = gojson::from_slice(body.as_bytes()).expect("well formed");
        let outcome = bring_up_to_date(&mut request, v(1, minor)).map_err(|e| e.message);
        (request, outcome)
    }

    fn host(request: &CreateRequest) -> &HostConfig {
        request.host_config.as_ref().expect("filled in")
    }

    #[test]
    fn default_network_is_the_bridge() {
        for body in [
            r#"{"Image":"a"}"#,
            r#"{"HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["x"]}}}}"#,
        ] {
            assert_eq!(host(&aged(body, 51).0).network_mode, "bridge");
        }
        let (request, _) = aged(
            r#"{"NetworkingConfig":{"EndpointsConfig":{"default":null}}}"#,
            51,
        );
        let endpoints = request
            .networking_config
            .and_then(|n| n.endpoints_config)
            .expect("given");
        assert!(endpoints.contains_key("bridge") && !endpoints.contains_key("default"));
    }

    #[test]
    fn old_versions_get_their_defaults() {
        let (request, _) = aged(
            r#"{"HostConfig":{"ConsoleSize":[1,2],"Annotations":{"a":"b"}}}"#,
            39,
        );
        assert_eq!(host(&request).ipc_mode, "shareable");
        assert_eq!(
            (
                host(&request).console_size,
                host(&request).annotations.len()
            ),
            ([0, 0], 0)
        );
        let (request, _) = aged(r#"{"HostConfig":{"ConsoleSize":[1,2],"PidsLimit":-1}}"#, 51);
        assert_eq!(
            (
                host(&request).ipc_mode.as_str(),
                host(&request).console_size,
                host(&request).pids_limit
            ),
            ("", [1, 2], None)
        );
    }

    #[test]
    fn options_of_another_mount_type_are_refused_since_1_42() {
        let body = r#"{"HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{"NoCopy":true}}]}}"#;
        assert_eq!(
            aged(body, 51).1,
            Err("VolumeOptions must not be specified on mount type \"bind\"".to_owned())
        );
        let (request, outcome) = aged(body, 41);
        assert!(outcome.is_ok() && host(&request).mounts[0].volume_options.is_none());
    }

    #[test]
    fn several_networks_need_1_44() {
        let body = r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#;
        assert!(aged(body, 51).1.is_ok());
        assert_eq!(
            aged(body, 43).1,
            Err("Container cannot be created with multiple network endpoints: a, b".to_owned())
        );
    }

    #[test]
    fn mac_address_moves_to_the_main_endpoint() {
        let body = r#"{"MacAddress":"02:00:00:00:00:01"}"#;
        let (request, outcome) = aged(body, 51);
        assert_eq!(outcome, Ok(vec![MAC_WARNING.to_owned()]));
        let endpoints = request
            .networking_config
            .and_then(|n| n.endpoints_config)
            .expect("made");
        assert_eq!(
            endpoints["bridge"].as_ref().map(|e| e.mac_address.as_str()),
            Some("02:00:00:00:00:01")
        );
        assert_eq!(aged(body, 40).1, Ok(vec![]));
        let on_host = r#"{"MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"host"}}"#;
        assert_eq!(
            aged(on_host, 40).1,
            Err("conflicting options: mac-address and the network mode".to_owned())
        );
    }

    #[test]
    fn empty_port_bindings_mean_any_port() {
        let (request, _) = aged(
            r#"{"HostConfig":{"PortBindings":{"80/tcp":null,"81/tcp":[]}}}"#,
            51,
        );
        let ports = host(&request).port_bindings.as_ref().expect("given");
        assert!(
            ports
                .values()
                .all(|bindings| bindings.as_ref().is_some_and(|b| b.len() == 1))
        );
    }
}
