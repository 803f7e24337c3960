//! Networks.

use http::StatusCode;
use wharf_api::network::{ConnectRequest, DisconnectRequest, NetworkCreateRequest};

use super::Outcome;
use crate::http::request::Call;
use crate::http::respond;

/// `GET /networks`.
pub async fn list(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().network_list(call.filters()?).await?,
    ))
}

/// `GET /networks/{id}`. What `verbose` would show in addition belongs to swarms: there is none.
pub async fn inspect(call: Call) -> Outcome {
    call.query.strict_flag("verbose")?;
    let scope = call.query.get("scope");
    let network = call.engine().network_inspect(call.name(), scope).await?;
    Ok(respond::ok(&network))
}

/// `POST /networks/create`. IPv4 can be switched off since 1.48.
pub async fn create(mut call: Call) -> Outcome {
    let mut request: NetworkCreateRequest = call.json().await?;
    if call.version.before(48) {
        request.enable_ipv4 = None;
    }
    Ok(respond::json(
        StatusCode::CREATED,
        &call.engine().network_create(request).await?,
    ))
}

/// `DELETE /networks/{id}`.
pub async fn remove(call: Call) -> Outcome {
    call.engine().network_remove(call.name()).await?;
    Ok(respond::no_content())
}

/// `POST /networks/prune`.
pub async fn prune(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().network_prune(call.filters()?).await?,
    ))
}

/// `POST /networks/{id}/connect`.
pub async fn connect(mut call: Call) -> Outcome {
    let request: ConnectRequest = call.json().await?;
    call.engine().network_connect(call.name(), request).await?;
    Ok(respond::empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`.
pub async fn disconnect(mut call: Call) -> Outcome {
    let request: DisconnectRequest = call.json().await?;
    call.engine()
        .network_disconnect(call.name(), request)
        .await?;
    Ok(respond::empty(StatusCode::OK))
}
