//! Networks.

use http::StatusCode;
use wharf_api::network::NetworkCreateRequest;

use super::Outcome;
use crate::http::request::Call;
use crate::http::respond;

/// `GET /networks`.
pub async fn list(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().network_list(call.filters()?).await?,
    ))
}

/// `GET /networks/{id}`.
pub async fn inspect(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().network_inspect(call.name()).await?,
    ))
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
