//! The engine about itself.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, PRAGMA};
use http::{Method, StatusCode};
use wharf_api::system::Info;
use wharf_api::version::ApiVersion;
use wharf_engine::info::disk_usage::Wanted;

use super::Outcome;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;

/// `1`: the classic builder. BuildKit would be `2`.
const BUILDER_VERSION: HeaderValue = HeaderValue::from_static("1");

/// `GET` and `HEAD /_ping`.
pub async fn ping(call: Call) -> Outcome {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = if call.parts.method == Method::HEAD {
        let mut response = respond::empty(StatusCode::OK);
        response.headers_mut().insert(CONTENT_TYPE, text);
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        response
    } else {
        respond::bytes(StatusCode::OK, text, Bytes::from_static(b"OK"))
    };
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", BUILDER_VERSION);
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    Ok(response)
}

/// `GET /version`.
pub async fn version(call: Call) -> Outcome {
    Ok(respond::ok(&call.engine().version().await?))
}

/// `GET /info`.
pub async fn info(call: Call) -> Outcome {
    let mut info = call.engine().info().await?;
    let authorization = call.server.authorizer().plugin_names();
    if !authorization.is_empty() {
        info.plugins.authorization = Some(authorization);
    }
    age(&mut info, call.version);
    Ok(respond::ok(&info))
}

/// `GET /plugins`: managed plugins, which cannot be installed here, so there is none. Clients that look over a whole engine ask.
pub async fn plugins(call: Call) -> Outcome {
    call.filters()?;
    let none: [&str; 0] = [];
    Ok(respond::ok(&none))
}

/// Takes from `info` what `version` did not have, and gives back what it had.
fn age(info: &mut Info, version: ApiVersion) {
    if version.before(44) {
        info.runtimes
            .values_mut()
            .for_each(|runtime| runtime.status.clear());
    }
    if version.before(49) {
        info.firewall_backend = None;
        for commit in [
            &mut info.containerd_commit,
            &mut info.runc_commit,
            &mut info.init_commit,
        ] {
            commit.expected = Some(commit.id.clone());
        }
    }
    if version.before(50) {
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
    }
}

/// `POST /wharf/system/check`, an extension: what is damaged, and with `repair` what was mended.
pub async fn check(call: Call) -> Outcome {
    let repair = call.query.flag("repair");
    Ok(respond::ok(&call.engine().system_check(repair).await?))
}

/// `GET /system/df`.
pub async fn disk_usage(call: Call) -> Outcome {
    let kinds = call.query.all("type");
    let everything = call.version.before(42) || kinds.is_empty();
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(unknown) = kinds
        .iter()
        .find(|kind| !everything && !known.contains(&kind.as_str()))
    {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| everything || kinds.iter().any(|k| k == kind);
    let wanted = Wanted {
        containers: wanted("container"),
        images: wanted("image"),
        volumes: wanted("volume"),
        build_cache: wanted("build-cache"),
    };
    let mut usage = call.engine().disk_usage(wanted).await?;
    if call.version.before(44) {
        for image in usage.images.iter_mut().flatten() {
            image.virtual_size = Some(image.size);
        }
    }
    Ok(respond::ok(&usage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::version::v;

    #[test]
    fn old_clients_get_the_old_info() {
        let text = |version| {
            let mut info = Info::default();
            info.runc_commit.id = "abc".into();
            info.firewall_backend = Some(Default::default());
            age(&mut info, version);
            wharf_api::gojson::to_string(&info)
        };
        assert!(text(v(1, 51)).contains(r#""RuncCommit":{"ID":"abc"}"#));
        assert!(text(v(1, 51)).contains("FirewallBackend") && !text(v(1, 51)).contains("BridgeNf"));
        assert!(text(v(1, 48)).contains(r#""RuncCommit":{"ID":"abc","Expected":"abc"}"#));
        assert!(text(v(1, 48)).contains(r#""BridgeNfIptables":false,"BridgeNfIp6tables":false"#));
        assert!(!text(v(1, 48)).contains("FirewallBackend"));
    }
}
