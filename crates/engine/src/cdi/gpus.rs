//! `--gpus`: a number of graphics processors becomes names of CDI devices, of the first vendor that has any here.

use wharf_api::container::DeviceRequest;

use super::Devices;

/// Kinds that vendors of graphics processors use, in the order in which they are tried, with the driver names that mean them.
const KINDS: [(&str, &str); 2] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu")];

/// The names that `request` means. `None`: nothing here can answer it.
pub fn names(request: &DeviceRequest, devices: &Devices) -> Option<Vec<String>> {
    let is_gpu = |set: &Vec<String>| set.iter().any(|capability| capability == "gpu");
    let (_, kind) = KINDS.iter().find(|(driver, kind)| {
        let meant = match request.driver.as_str() {
            "" => request.capabilities.iter().flatten().any(is_gpu),
            named => named == *driver,
        };
        meant && devices.has_kind(kind)
    })?;
    let ids = match &request.device_ids {
        Some(ids) if !ids.is_empty() => ids.clone(),
        _ if request.count < 0 => vec!["all".to_owned()],
        _ => (0..request.count).map(|index| index.to_string()).collect(),
    };
    // What is named in full already stays.
    let full = |id: String| {
        if id.contains('=') {
            id
        } else {
            format!("{kind}={id}")
        }
    };
    Some(ids.into_iter().map(full).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::document::Document;

    #[test]
    fn numbers_become_names() {
        let text = "{cdiVersion: 0.6.0, kind: amd.com/gpu, devices: [{name: '0'}, {name: all}]}";
        let mut devices = Devices::default();
        let document = Document::parse(text).expect("valid");
        devices.add(std::path::Path::new("/x"), 0, document);
        let ask = |driver: &str, count, ids: &[&str]| {
            let request = DeviceRequest {
                driver: driver.into(),
                count,
                device_ids: Some(ids.iter().map(|id| (*id).to_owned()).collect()),
                capabilities: Some(vec![vec!["gpu".into()]]),
                options: None,
            };
            names(&request, &devices).map(|names| names.join(" "))
        };
        for (driver, count, ids, expected) in [
            ("", -1, &[][..], Some("amd.com/gpu=all")),
            ("", 2, &[], Some("amd.com/gpu=0 amd.com/gpu=1")),
            ("amd", 0, &["0"], Some("amd.com/gpu=0")),
            ("nvidia", -1, &[], None),
        ] {
            assert_eq!(
                ask(driver, count, ids).as_deref(),
                expected,
                "{driver} {count}"
            );
        }
    }
}
