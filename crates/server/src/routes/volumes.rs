//! Volumes.

use http::StatusCode;
use wharf_api::volume::VolumeCreateRequest;

use super::Outcome;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;
use crate::http::transfer::{self, BodyReader};

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

// What follows is not Docker's: it is under a path of our own.

/// `POST /wharf/volumes/{name}/rename?to=`.
pub async fn rename(call: Call) -> Outcome {
    call.engine()
        .volume_rename(call.name(), target(&call)?)
        .await?;
    Ok(respond::no_content())
}

/// `POST /wharf/volumes/{name}/clone?to=`.
pub async fn clone(call: Call) -> Outcome {
    let volume = call
        .engine()
        .volume_clone(call.name(), target(&call)?)
        .await?;
    made(&call, &volume.name).await
}

/// `POST /wharf/volumes/{name}/snapshot?to=`; without a name one is made of the time.
pub async fn snapshot(call: Call) -> Outcome {
    let volume = call
        .engine()
        .volume_snapshot(call.name(), call.query.get("to"))
        .await?;
    made(&call, &volume.name).await
}

/// `GET /wharf/volumes/{name}/archive`.
pub async fn export(call: Call) -> Outcome {
    let archive = call.engine().volume_export(call.name()).await?;
    let chunks = transfer::in_pieces(move |send| archive.write(send));
    Ok(respond::stream("application/x-tar", chunks))
}

/// `PUT /wharf/volumes/{name}/archive`: the volume is made when it does not exist.
pub async fn import(call: Call) -> Outcome {
    let (engine, name) = (call.engine().clone(), call.name().to_owned());
    engine
        .volume_import(&name, BodyReader::new(call.body))
        .await?;
    Ok(respond::ok(&engine.volume_inspect(&name).await?))
}

fn target(call: &Call) -> Result<&str, ApiError> {
    match call.query.get("to") {
        "" => Err(ApiError::invalid("bad parameter: to cannot be empty")),
        name => Ok(name),
    }
}

async fn made(call: &Call, name: &str) -> Outcome {
    Ok(respond::json(
        StatusCode::CREATED,
        &call.engine().volume_inspect(name).await?,
    ))
}
