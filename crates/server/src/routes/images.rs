//! Images: everything but moving them in and out.

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use wharf_api::gojson;
use wharf_api::image::{ImageInspect, ImageSummary};
use wharf_api::version::ApiVersion;

use super::Outcome;
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;

/// `GET /images/json`.
pub async fn list(call: Call) -> Outcome {
    let mut filters = call.filters()?;
    let old = call.query.get("filter");
    if call.version.before(25) && !old.is_empty() && !filters.contains("reference") {
        filters.add("reference", old.to_owned());
    }
    let shared_size = !call.version.before(42) && call.query.flag("shared-size");
    let mut images = call
        .engine()
        .image_list(call.query.flag("all"), filters, shared_size)
        .await?;
    images
        .iter_mut()
        .for_each(|image| age_summary(image, call.version));
    Ok(respond::ok(&images))
}

/// Makes a list entry what `version` showed.
fn age_summary(image: &mut ImageSummary, version: ApiVersion) {
    if version.before(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
        image.repo_tags.push("<none>:<none>".to_owned());
        image.repo_digests.push("<none>@<none>".to_owned());
    }
    if version.before(44) {
        image.virtual_size = Some(image.size);
    }
    if version.before(51) {
        image.containers = -1;
    }
}

/// `GET /images/{name}/json`.
pub async fn inspect(call: Call) -> Outcome {
    let image = call.engine().image_inspect(call.name()).await?;
    Ok(aged_inspect(image, inspect_version(&call)))
}

/// The version to answer in. `docker-compose` 1 asks in whatever version is newest and then reads `ContainerConfig`, which ended with
/// 1.44: without it, no container of it can be made anew.
fn inspect_version(call: &Call) -> ApiVersion {
    let agent = call.parts.headers.get(http::header::USER_AGENT);
    let is_compose = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"docker-compose/1."));
    match is_compose && !call.version.before(45) {
        true => wharf_api::version::v(1, 44),
        false => call.version,
    }
}

/// The answer `version` gave. Below 1.52 moby merges it from maps, which escapes HTML and puts `Config` last.
fn aged_inspect(mut image: ImageInspect, version: ApiVersion) -> Response<Body> {
    if version.before(44) {
        image.virtual_size = Some(image.size);
        if image.created.is_empty() {
            image.created = wharf_api::time::ZERO.to_owned();
        }
    }
    let container = image.container.take().unwrap_or_default();
    let settings = image.container_config.take();
    let mut value = serde_json::to_value(&image).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        if version.before(50) {
            add_container_fields(object);
        }
        if version.before(45) {
            object.insert("Container".into(), json!(container));
            let settings = settings.unwrap_or_else(|| no_container(&image));
            object.insert("ContainerConfig".into(), settings);
        }
    }
    respond::bytes(
        StatusCode::OK,
        respond::JSON,
        gojson::to_line(&value).into(),
    )
}

/// What an image that was made from no container has as `ContainerConfig`: an object, because `docker-compose` 1 reads in it. It
/// looks there for the volumes that the image declares, so these are told.
fn no_container(image: &ImageInspect) -> Value {
    json!({
        "Hostname": "", "Domainname": "", "User": "",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": null, "Cmd": null, "Image": "", "Volumes": image.config.volumes,
        "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    })
}

/// Up to 1.49 an image's `Config` had a container's fields, always empty.
fn add_container_fields(inspect: &mut Map<String, Value>) {
    let Some(Value::Object(config)) = inspect.remove("Config") else {
        return;
    };
    let mut fields: std::collections::BTreeMap<String, Value> = config.into_iter().collect();
    for name in [
        "AttachStderr",
        "AttachStdin",
        "AttachStdout",
        "OpenStdin",
        "StdinOnce",
        "Tty",
    ] {
        fields.insert(name.to_owned(), json!(false));
    }
    for name in ["Domainname", "Hostname", "Image"] {
        fields.insert(name.to_owned(), json!(""));
    }
    inspect.insert("Config".to_owned(), fields.into_iter().collect());
}

/// `GET /images/{name}/history`.
pub async fn history(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().image_history(call.name()).await?,
    ))
}

/// `POST /images/{name}/tag`.
pub async fn tag(call: Call) -> Outcome {
    call.engine()
        .image_tag(call.name(), call.query.get("repo"), call.query.get("tag"))
        .await?;
    Ok(respond::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`.
pub async fn remove(call: Call) -> Outcome {
    if call.name().trim().is_empty() {
        return Err(ApiError::invalid("image name cannot be blank"));
    }
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    Ok(respond::ok(
        &call
            .engine()
            .image_remove(call.name(), force, no_prune)
            .await?,
    ))
}

/// `POST /images/prune`.
pub async fn prune(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().image_prune(call.filters()?).await?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::version::v;

    fn inspect_text(minor: u16) -> String {
        let mut image = ImageInspect::default();
        image.config.cmd = Some(vec!["a&b".into()]);
        match aged_inspect(image, v(1, minor)).into_body() {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).expect("JSON"),
            _ => String::new(),
        }
    }

    #[test]
    fn image_config_comes_last_and_grows_with_age() {
        let new = r#""Config":{"Cmd":["a\u0026b"],"Entrypoint":null,"Env":null,"Labels":null,"OnBuild":null,"User":"","Volumes":null,"WorkingDir":""}}"#;
        assert!(
            inspect_text(51).trim_end().ends_with(new),
            "{}",
            inspect_text(51)
        );
        let old = r#""Config":{"AttachStderr":false,"AttachStdin":false,"AttachStdout":false,"Cmd":["a\u0026b"],"Domainname":"","Entrypoint":null,"Env":null,"Hostname":"","Image":"","Labels":null,"OnBuild":null,"OpenStdin":false,"StdinOnce":false,"Tty":false,"User":"","Volumes":null,"WorkingDir":""}}"#;
        assert!(
            inspect_text(49).trim_end().ends_with(old),
            "{}",
            inspect_text(49)
        );
        assert!(
            inspect_text(43).contains(r#""VirtualSize":0"#)
                && !inspect_text(44).contains("VirtualSize")
        );
    }

    #[test]
    fn the_container_an_image_was_made_from_is_told_before_1_45() {
        let text = |minor, settings: Option<Value>| {
            let mut image = ImageInspect::default();
            image.config.volumes =
                Some([("/data".to_owned(), wharf_api::container::Empty {})].into());
            image.container_config = settings;
            match aged_inspect(image, v(1, minor)).into_body() {
                Body::Full(bytes) => {
                    serde_json::from_slice::<Value>(&bytes).expect("JSON")["ContainerConfig"]
                        .clone()
                }
                _ => Value::Null,
            }
        };
        let recorded = json!({"Cmd": ["x"]});
        assert_eq!(text(44, Some(recorded.clone())), recorded);
        assert_eq!(text(38, None)["Volumes"], json!({"/data": {}}));
        assert_eq!(text(45, Some(recorded)), Value::Null);
    }

    #[test]
    fn untagged_images_had_names_before_1_43() {
        let aged = |minor| {
            let mut image = ImageSummary {
                containers: 3,
                ..ImageSummary::default()
            };
            age_summary(&mut image, v(1, minor));
            (image.repo_tags.len(), image.virtual_size, image.containers)
        };
        assert_eq!(
            (aged(42), aged(43), aged(50), aged(51)),
            (
                (1, Some(0), -1),
                (0, Some(0), -1),
                (0, None, -1),
                (0, None, 3)
            )
        );
    }
}
