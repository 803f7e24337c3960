//! Plain requests to others: webhooks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A client that trusts what the system trusts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// A new one.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Client, String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .user_agent(concat!("wharf-registry/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Client)
            .map_err(|error| error.to_string())
    }

    /// Posts a text. Anything but a 2xx is an error.
    ///
    /// # Errors
    /// A sentence.
    pub async fn post(
        &self,
        url: &str,
        headers: &BTreeMap<String, String>,
        body: String,
        timeout: Duration,
    ) -> Result<(), String> {
        let request = headers
            .iter()
            .fold(self.0.post(url), |request, (name, value)| {
                request.header(name, value)
            });
        let response = request
            .timeout(timeout)
            .body(body)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("status {status}")),
        }
    }
}
