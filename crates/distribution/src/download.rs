//! Files that are no registry's: what `ADD` and remote build contexts name.

use std::collections::HashMap;

use crate::error::RegistryError;
use crate::registry::Registry;
use crate::transport::transport_error;

/// A downloaded file.
#[derive(Debug, Clone, Default)]
pub struct Download {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Registry {
    /// Downloads a file of at most `limit` bytes, with the proxies and certificates of registries.
    /// `authorization` is the value of that header.
    pub async fn download(
        &self,
        url: &str,
        limit: usize,
        authorization: Option<&str>,
    ) -> Result<Download, RegistryError> {
        let failed = |error: reqwest::Error| transport_error("Get", url, &error);
        let authority = url
            .split_once("://")
            .map_or(url, |(_, rest)| rest)
            .split(['/', '?', '#'])
            .next()
            .unwrap_or_default();
        let client = self.state().clients.get(&self.config(), authority, true)?;
        let mut request = client.get(url);
        if let Some(value) = authorization {
            request = request.header(http::header::AUTHORIZATION, value);
        }
        let mut response = request.send().await.map_err(failed)?;
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let mut download = Download {
            status: response.status().as_u16(),
            headers,
            bytes: Vec::new(),
        };
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            download.bytes.extend_from_slice(&piece);
            if download.bytes.len() > limit {
                return Err(RegistryError::Invalid(format!(
                    "{url} is larger than {limit} bytes"
                )));
            }
        }
        Ok(download)
    }
}
