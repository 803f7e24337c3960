//! Files that are no registry's: what `ADD` and remote build contexts name.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;

use crate::error::RegistryError;
use crate::registry::Registry;
use crate::transport::transport_error;

/// Bytes written at once.
const PIECE: usize = 1 << 20;

/// A downloaded file.
#[derive(Debug)]
pub struct Download {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// What is in it, from the file's start.
    pub file: File,
    /// How many bytes that are.
    pub length: u64,
}

impl Registry {
    /// Downloads a file of at most `limit` bytes, with the proxies and certificates of registries.
    /// `authorization` is the value of that header. The bytes go into `file`, an empty one.
    pub async fn download(
        &self,
        url: &str,
        limit: u64,
        authorization: Option<&str>,
        file: File,
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
            file,
            length: 0,
        };
        let (mut gathered, mut ends) = (Vec::new(), false);
        while !ends {
            match response.chunk().await.map_err(failed)? {
                Some(piece) => gathered.extend_from_slice(&piece),
                None => ends = true,
            }
            if gathered.len() >= PIECE || ends {
                download = keep(download, std::mem::take(&mut gathered)).await?;
            }
            if download.length > limit {
                return Err(RegistryError::Invalid(format!(
                    "{url} is larger than {limit} bytes"
                )));
            }
        }
        Ok(download)
    }
}

/// Writes a piece, off the async threads: a disk may take its time.
async fn keep(mut download: Download, piece: Vec<u8>) -> Result<Download, RegistryError> {
    let written = tokio::task::spawn_blocking(move || {
        download.file.write_all(&piece)?;
        download.length += piece.len() as u64;
        Ok(download)
    });
    let written: std::io::Result<Download> = written
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    written.map_err(|error| RegistryError::Invalid(format!("keep a download: {error}")))
}
