//! Volumes.

use http::StatusCode;
use wharf_api::volume::VolumeCreateRequest;

use super::Outcome;
use crate::http::request::Call;
use crate::http::respond;

/// `GET /volumes`.
pub async fn list(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().volume_list(call.filters()?).await?,
    ))
}

/// `POST /volumes/create`.
pub async fn create(mut call: Call) -> Outcome {
    let request: VolumeCreateRequest = call.json().await?;
    Ok(respond::json(
        StatusCode::CREATED,
        &call.engine().volume_create(request).await?,
    ))
}

/// `GET /volumes/{name}`.
pub async fn inspect(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().volume_inspect(call.name()).await?,
    ))
}

/// `DELETE /volumes/{name}`.
pub async fn remove(call: Call) -> Outcome {
    call.engine()
        .volume_remove(call.name(), call.query.flag("force"))
        .await?;
    Ok(respond::no_content())
}

/// `POST /volumes/prune`. Before 1.42 named volumes were pruned too.
pub async fn prune(call: Call) -> Outcome {
    let mut filters = call.filters()?;
    if call.version.before(42) {
        filters.remove("all");
        filters.add("all", "true".to_owned());
    }
    Ok(respond::ok(&call.engine().volume_prune(filters).await?))
}
