//! HTTP: one client per registry's trust, and what its errors mean.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Client, Proxy, Response};

use crate::config::{Config, host_of};
use crate::dns::Dns;
use crate::error::RegistryError;
use crate::proxy::Proxies;
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that sends nothing for so long is as good as gone.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// No text of a registry that we show is longer.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Clients by `host[:port]` and whether certificates are verified, with what certificates they were made of.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    clients: Mutex<HashMap<(String, bool), (Client, tls::Stamp)>>,
    pub(crate) dns: Dns,
}

impl Clients {
    /// The client for a registry.
    pub(crate) fn get(
        &self,
        config: &Config,
        authority: &str,
        verify: bool,
    ) -> Result<Client, RegistryError> {
        let key = (authority.to_owned(), verify);
        let stamp = tls::stamp(&config.certs_dir, authority);
        if let Some((client, made_of)) = self.clients.lock().get(&key)
            && *made_of == stamp
        {
            return Ok(client.clone());
        }
        let client = self.build(config, authority, verify)?;
        self.clients.lock().insert(key, (client.clone(), stamp));
        Ok(client)
    }

    fn build(
        &self,
        config: &Config,
        authority: &str,
        verify: bool,
    ) -> Result<Client, RegistryError> {
        let failed = |error: reqwest::Error| RegistryError::Invalid(chain(&error));
        let mut builder = Client::builder()
            .use_preconfigured_tls(tls::client_config(&config.certs_dir, authority, verify)?)
            .user_agent(&config.user_agent)
            .dns_resolver(std::sync::Arc::new(self.dns.clone()))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_only()
            .no_proxy();
        let proxies = Proxies::new(config)?;
        if !proxies.is_empty() {
            builder = builder.proxy(Proxy::custom(move |url| proxies.of(url).cloned()));
        }
        builder.build().map_err(failed)
    }
}

/// Turns a failed exchange into Go's words.
pub(crate) fn transport_error(method: &str, url: &str, error: &reqwest::Error) -> RegistryError {
    let (text, spoke_tls) = describe(error, url);
    let mut name = method.to_ascii_lowercase();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    RegistryError::Transport {
        method: name,
        url: url.to_owned(),
        text,
        spoke_tls,
    }
}

fn describe(error: &reqwest::Error, url: &str) -> (String, bool) {
    let address = authority_with_port(url);
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.starts_with("lookup ") {
            return (format!("dial tcp: {text}"), false);
        }
        if let Some(tls) = tls_error(error) {
            return tls_text(tls, url);
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(text) = io_text(io, &address)
        {
            return (text, false);
        }
        cause = error.source();
    }
    if error.is_timeout() {
        let text = if error.is_connect() {
            format!("dial tcp {address}: i/o timeout")
        } else {
            "net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned()
        };
        return (text, false);
    }
    (chain(error), false)
}

/// The error of TLS in an error, however often I/O errors are wrapped around it (their `source` passes over what they hold).
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    tls_error(inner)
}

fn io_text(error: &std::io::Error, address: &str) -> Option<String> {
    use std::io::ErrorKind as K;
    let what = match error.kind() {
        K::ConnectionRefused => "connect: connection refused",
        K::HostUnreachable => "connect: no route to host",
        K::NetworkUnreachable => "connect: network is unreachable",
        K::ConnectionReset => return Some("read: connection reset by peer".to_owned()),
        K::UnexpectedEof => return Some("unexpected EOF".to_owned()),
        _ => return None,
    };
    Some(format!("dial tcp {address}: {what}"))
}

/// Go's words, and whether the other end spoke TLS at all.
fn tls_text(error: &rustls::Error, url: &str) -> (String, bool) {
    use rustls::{CertificateError as C, Error as E};
    let host = url::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default();
    let x509 = |why: String| {
        (
            format!("tls: failed to verify certificate: x509: {why}"),
            true,
        )
    };
    match error {
        E::InvalidCertificate(C::UnknownIssuer) => {
            x509("certificate signed by unknown authority".to_owned())
        }
        E::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => x509("certificate has expired or is not yet valid".to_owned()),
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => x509(
            format!("certificate is not valid for any names, but wanted to match {host}"),
        ),
        E::InvalidCertificate(other) => x509(other.to_string()),
        E::InvalidMessage(_) => (
            "http: server gave HTTP response to HTTPS client".to_owned(),
            false,
        ),
        other => (format!("remote error: tls: {other}"), true),
    }
}

fn authority_with_port(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else {
        return String::new();
    };
    let host = url.host_str().unwrap_or_default();
    let host = if host_of(host) == "localhost" {
        "127.0.0.1"
    } else {
        host
    };
    format!("{host}:{}", url.port_or_known_default().unwrap_or(0))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}

/// The answer if its status is below 400, else why.
pub(crate) async fn checked(response: Response) -> Result<Response, RegistryError> {
    let status = response.status().as_u16();
    if status < 400 {
        return Ok(response);
    }
    let retry_after = retry_after(&response);
    let body = limited(response, MAX_ERROR_BODY).await.unwrap_or_default();
    Err(RegistryError::from_answer(status, retry_after, &body))
}

/// At most `limit` bytes of a body; `None` if it is longer or breaks off.
pub(crate) async fn limited(mut response: Response, limit: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(None) => return Some(body),
            _ => return None,
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response
        .headers()
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_errors_are_found_and_told_as_go_tells_them() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::other(std::io::Error::other(tls));
        let found = tls_error(&wrapped).expect("it is in there");
        assert_eq!(
            tls_text(found, "https://r/v2/"),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                    .to_owned(),
                true
            )
        );
    }
}
