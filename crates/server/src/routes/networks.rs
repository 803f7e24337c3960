//! Networks: list and inspect.

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
