//! Trying again: object stores fail now and then, and one call in twenty is no reason to fail a push.

use std::time::Duration;

/// How often a call is made in all.
const TRIES: u32 = 5;

/// Before the second call; doubled each time.
const PAUSE: Duration = Duration::from_millis(30);

/// Calls until it works, is refused for good, or was tried often enough.
pub(super) async fn retry<T, F>(mut call: impl FnMut() -> F) -> object_store::Result<T>
where
    F: Future<Output = object_store::Result<T>>,
{
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if is_passing(&error) => {
                tracing::debug!(%error, "the object store failed; trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            answer => return answer,
        }
    }
    call().await
}

/// Whether the answer may be another one next time.
fn is_passing(error: &object_store::Error) -> bool {
    !matches!(
        error,
        object_store::Error::NotFound { .. }
            | object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotModified { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented
            | object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
            | object_store::Error::InvalidPath { .. }
            | object_store::Error::UnknownConfigurationKey { .. }
    )
}
