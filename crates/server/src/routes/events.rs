//! `GET /events`: what happened and what happens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_api::{gojson, time};

use super::Outcome;
use crate::http::body::Chunk;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;

/// Streams events; the answer's head goes out at once.
pub async fn events(call: Call) -> Outcome {
    let moment = |name| {
        time::parse_unix(call.query.get(name))
            .map_err(|e| ApiError::invalid(format!("invalid value for '{name}': {e}")))
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.query.get("since"),
            call.query.get("until")
        )));
    }
    let only_past = until.is_some_and(|until| until <= now());
    let subscription = call
        .engine()
        .events
        .subscribe(since, until, call.filters()?)?;
    let (send, chunks) = mpsc::channel(64);
    tokio::spawn(async move {
        let work = forward(subscription, send.clone(), only_past);
        match until.filter(|_| !only_past) {
            None => work.await,
            // The end of the time asked for ends the stream.
            Some(until) => drop(tokio::time::timeout(left_until(until), work).await),
        }
    });
    Ok(respond::stream("application/json", chunks))
}

async fn forward(
    mut subscription: wharf_engine::events::Subscription,
    send: mpsc::Sender<Chunk>,
    only_past: bool,
) {
    for event in std::mem::take(&mut subscription.past) {
        if send.send(Ok(line(&event))).await.is_err() {
            return;
        }
    }
    if only_past {
        return;
    }
    loop {
        let event = tokio::select! {
            event = subscription.next() => event,
            () = send.closed() => return,
        };
        let Some(event) = event else { return };
        if send.send(Ok(line(&event))).await.is_err() {
            return;
        }
    }
}

fn line(event: &wharf_api::events::Event) -> Bytes {
    gojson::to_line(event).into()
}

fn now() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}

fn left_until(until: i64) -> Duration {
    Duration::from_nanos(u64::try_from(until.saturating_sub(now())).unwrap_or(0))
}
