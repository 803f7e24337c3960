//! The layout of the store. Every key is made here.
//!
//! ```text
//! oci-layout, index.json            a plain OCI layout other tools can read (local directory only)
//! blobs/<algorithm>/<hex>           content, once for all repositories
//! catalog/<name, / as @>            one empty object per repository: listing them is listing one prefix
//! repos/<name>/_tags/<tag>          which manifest
//! repos/<name>/_manifests/<a>/<hex> this repository has the manifest; its media type
//! repos/<name>/_blobs/<a>/<hex>     this repository has the blob; its size
//! repos/<name>/_referrers/<a>/<hex>/<a>-<hex>  a descriptor of who refers to the manifest
//! uploads/<id>/…                    what is being pushed
//! leases/<a>/<hex>                  when a blob was last promised to somebody (object store only; else the file's own time)
//! condemned/<a>-<hex>               garbage collection is about to remove it
//! corrupt/<a>-<hex>                 found damaged by the scrub
//! auth/…                            the key of tokens, robot accounts
//! ```
//!
//! No component of a repository's name begins with `_` and none has capitals or `@`, so no name can reach another's entries.

use wharf_spec::digest::Digest;

use crate::name::{RepoName, Tag};

/// A blob's content.
pub fn blob(digest: &Digest) -> String {
    format!("blobs/{}", slashed(digest))
}

/// A repository's place in the catalog.
pub fn catalog(repo: &RepoName) -> String {
    format!("{CATALOG}{}", repo.as_str().replace('/', "@"))
}

/// Prefix of the catalog.
pub const CATALOG: &str = "catalog/";

/// Prefix of uploads.
pub const UPLOADS: &str = "uploads/";

/// Prefix of the marks of garbage collection.
pub const CONDEMNED: &str = "condemned/";

/// Prefix of robot accounts.
pub const ROBOTS: &str = "auth/robots/";

/// The repository of an entry of the catalog.
pub fn catalog_name(entry: &str) -> Option<RepoName> {
    RepoName::parse(&entry.replace('@', "/"))
}

/// Prefix of a repository's tags.
pub fn tags(repo: &RepoName) -> String {
    format!("repos/{repo}/_tags/")
}

/// A tag.
pub fn tag(repo: &RepoName, tag: &Tag) -> String {
    format!("repos/{repo}/_tags/{tag}")
}

/// Prefix of a repository's manifests.
pub fn manifests(repo: &RepoName) -> String {
    format!("repos/{repo}/_manifests/")
}

/// A manifest.
pub fn manifest(repo: &RepoName, digest: &Digest) -> String {
    format!("repos/{repo}/_manifests/{}", slashed(digest))
}

/// Prefix of a repository's blobs.
pub fn repo_blobs(repo: &RepoName) -> String {
    format!("repos/{repo}/_blobs/")
}

/// A blob in a repository.
pub fn repo_blob(repo: &RepoName, digest: &Digest) -> String {
    format!("repos/{repo}/_blobs/{}", slashed(digest))
}

/// Prefix of who refers to a manifest.
pub fn referrers(repo: &RepoName, subject: &Digest) -> String {
    format!("repos/{repo}/_referrers/{}/", slashed(subject))
}

/// One who refers to a manifest.
pub fn referrer(repo: &RepoName, subject: &Digest, from: &Digest) -> String {
    format!("{}{}", referrers(repo, subject), dashed(from))
}

/// A lease.
pub fn lease(digest: &Digest) -> String {
    format!("leases/{}", slashed(digest))
}

/// A mark of garbage collection.
pub fn condemned(digest: &Digest) -> String {
    format!("{CONDEMNED}{}", dashed(digest))
}

/// Where damaged content goes.
pub fn corrupt(digest: &Digest) -> String {
    format!("corrupt/{}", dashed(digest))
}

/// Everything of an upload.
pub fn upload(id: &str) -> String {
    format!("{UPLOADS}{id}/")
}

/// `sha256/<hex>` as it stands in a listing.
pub fn parse_slashed(text: &str) -> Option<Digest> {
    Digest::parse(&text.replacen('/', ":", 1)).ok()
}

/// `sha256-<hex>` as it stands in a listing.
pub fn parse_dashed(text: &str) -> Option<Digest> {
    Digest::parse(&text.replacen('-', ":", 1)).ok()
}

fn slashed(digest: &Digest) -> String {
    digest.as_str().replacen(':', "/", 1)
}

fn dashed(digest: &Digest) -> String {
    digest.as_str().replacen(':', "-", 1)
}
