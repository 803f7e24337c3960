//! What Go accepts is accepted, and comes out again as Go writes it.

use super::{from_slice, to_string};
use crate::container::{Config, ContainerInspect, CreateRequest, HostConfig};
use crate::image::ImageSummary;
use crate::network::Network;

#[test]
fn null_is_the_zero_value_of_every_type() {
    let body = br#"{"Hostname":null,"Tty":null,"Env":null,"Volumes":null,"ExposedPorts":null,"StopTimeout":null,
        "Healthcheck":{"Test":null,"Interval":null},"Labels":{"a":null}}"#;
    let config: Config = from_slice(body).expect("lenient");
    assert_eq!(config.healthcheck, Some(Default::default()));
    assert_eq!(
        config
            .labels
            .as_ref()
            .and_then(|l| l.get("a"))
            .map(String::as_str),
        Some("")
    );
    assert_eq!(
        config,
        Config {
            healthcheck: config.healthcheck.clone(),
            labels: config.labels.clone(),
            ..Config::default()
        }
    );
    let host: HostConfig =
        from_slice(br#"{"ConsoleSize":null,"LogConfig":null,"PortBindings":{"80/tcp":null}}"#)
            .expect("lenient");
    assert_eq!(
        host.port_bindings.and_then(|p| p.get("80/tcp").cloned()),
        Some(None)
    );
}

#[test]
fn keys_match_in_any_case_and_the_last_wins() {
    let config: Config =
        from_slice(br#"{"image":"a","IMAGE":"b","workingdir":"/x","unknown":1}"#).expect("lenient");
    assert_eq!(
        (config.image.as_str(), config.working_dir.as_str()),
        ("b", "/x")
    );
}

#[test]
fn command_is_a_list_or_one_text() {
    let config: Config =
        from_slice(br#"{"Cmd":"ls -l","Entrypoint":["sh","-c"],"Shell":null}"#).expect("lenient");
    assert_eq!(config.cmd, Some(vec!["ls -l".to_owned()]));
    assert_eq!(config.entrypoint.map(|e| e.len()), Some(2));
}

#[test]
fn wrong_shapes_are_refused() {
    for body in [
        &br#"{"Tty":"yes"}"#[..],
        br#"{"Env":"a"}"#,
        br#"{"StopTimeout":"1"}"#,
        b"[]",
        b"{",
        b"{} x",
        br#"{"Cmd":[1]}"#,
    ] {
        assert!(
            from_slice::<Config>(body).is_err(),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn create_request_keeps_its_parts_apart() {
    let body =
        br#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none","Memory":1048576},
        "NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}"#;
    let request: CreateRequest = from_slice(body).expect("well formed");
    assert_eq!(request.config.image, "busybox");
    assert_eq!(
        request.host_config.as_ref().map(|h| h.memory),
        Some(1_048_576)
    );
    let again: CreateRequest = from_slice(to_string(&request).as_bytes()).expect("our own");
    assert_eq!(again, request);
    let bare: CreateRequest = from_slice(br#"{"Image":"a"}"#).expect("well formed");
    assert!(bare.host_config.is_none() && bare.networking_config.is_none());
}

/// Field order and null/[]/{} as moby 28 writes an empty value of each type.
#[test]
fn empty_values_read_as_dockers() {
    let config = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#;
    assert_eq!(to_string(&Config::default()), config);
    let host = r#"{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":null},"NetworkMode":"","PortBindings":null,"RestartPolicy":{"Name":"","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":null,"DnsOptions":null,"DnsSearch":null,"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":null,"BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,"BlkioDeviceReadIOps":null,"BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":null,"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,"OomKillDisable":null,"PidsLimit":null,"Ulimits":null,"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null}"#;
    assert_eq!(to_string(&HostConfig::default()), host);
    let inspect = to_string(&ContainerInspect::default());
    assert_eq!(
        inspect,
        format!(
            r#"{{"Id":"","Created":"","Path":"","Args":[],"State":{{"Status":"","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":0,"Error":"","StartedAt":"","FinishedAt":""}},"Image":"","ResolvConfPath":"","HostnamePath":"","HostsPath":"","LogPath":"","Name":"","RestartCount":0,"Driver":"","Platform":"","MountLabel":"","ProcessLabel":"","AppArmorProfile":"","ExecIDs":null,"HostConfig":{host},"GraphDriver":{{"Data":null,"Name":""}},"Mounts":[],"Config":{config},"NetworkSettings":{{"Bridge":"","SandboxID":"","SandboxKey":"","Ports":{{}},"HairpinMode":false,"LinkLocalIPv6Address":"","LinkLocalIPv6PrefixLen":0,"SecondaryIPAddresses":null,"SecondaryIPv6Addresses":null,"EndpointID":"","Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","MacAddress":"","Networks":{{}}}}}}"#
        )
    );
    assert_eq!(
        to_string(&ImageSummary::default()),
        r#"{"Containers":0,"Created":0,"Id":"","Labels":null,"ParentId":"","RepoDigests":[],"RepoTags":[],"SharedSize":0,"Size":0}"#
    );
    assert_eq!(
        to_string(&Network::default()),
        r#"{"Name":"","Id":"","Created":"","Scope":"","Driver":"","EnableIPv4":false,"EnableIPv6":false,"IPAM":{"Driver":"","Options":null,"Config":null},"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Containers":{},"Options":{},"Labels":{}}"#
    );
}
