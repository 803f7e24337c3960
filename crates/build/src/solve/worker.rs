//! What a build needs of an engine.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use wharf_api::container::Config;
use wharf_spec::digest::DiffId;
use wharf_spec::image_config::ImageConfig;
use wharf_spec::platform::Platform;

use super::error::BuildError;
use super::output::Output;
use crate::dockerfile::instruction::{Mount, Network, Security};
use crate::files::{Content, Files};

/// Writes a layer's tar; its error is Docker's text.
pub type WriteLayer = Box<dyn FnOnce(&mut dyn Write) -> Result<(), String> + Send>;

/// Makes the config of a new image from the digest of its new layer, `None` if there is nothing in that.
pub type MakeConfig = Box<dyn FnOnce(Option<&DiffId>) -> Vec<u8> + Send>;

/// A `RUN` to execute.
pub struct RunStep {
    /// Image it runs in; `None` is an empty one.
    pub image: Option<String>,
    /// Settings of its container.
    pub config: Config,
    /// Its mounts.
    pub mounts: Vec<RunMount>,
    /// Its network.
    pub network: Network,
    /// Its confinement.
    pub security: Security,
    /// No file that it leaves behind is to be younger: seconds since 1970.
    pub newest: Option<i64>,
}

/// A mount with its source found.
pub struct RunMount {
    /// As written.
    pub mount: Mount,
    /// The image whose files a bind shows, if they are an image's.
    pub image: Option<String>,
    /// Tree of a bind, or of what a new cache begins with, and the path in it.
    pub files: Option<(Arc<dyn Files>, Vec<u8>)>,
}

/// What a named context is.
pub enum Named {
    /// An image.
    Image(String),
    /// Files.
    Files(Arc<dyn Files>),
}

/// The engine as a build sees it. Images are named by their full IDs.
pub trait Worker: Send + Sync + 'static {
    /// The image of a `FROM` or `--from`; it is pulled if it is missing, or if the build is told to pull.
    fn base(
        &self,
        name: &str,
        platform: Option<&Platform>,
        output: &Output,
    ) -> impl Future<Output = Result<String, BuildError>> + Send;

    /// The config of an image.
    fn image(&self, id: &str) -> Result<ImageConfig, BuildError>;

    /// The image that a step with these settings made before, upon this parent. `parent` is `None` upon nothing; `settings` are those that
    /// the image has for containers.
    fn cached(
        &self,
        parent: Option<&str>,
        step: &Config,
        settings: &Config,
    ) -> Result<Option<String>, BuildError>;

    /// The files of an image.
    fn files(
        &self,
        image: Option<&str>,
    ) -> impl Future<Output = Result<Arc<dyn Files>, BuildError>> + Send;

    /// Adds an image: its parent, and a layer above if there is one.
    fn extend(
        &self,
        parent: Option<&str>,
        layer: Option<WriteLayer>,
        config: MakeConfig,
    ) -> impl Future<Output = Result<String, BuildError>> + Send;

    /// Runs a command and adds an image of what it changed. What it was run in is gone afterwards, unless the build keeps it.
    fn run(
        &self,
        step: RunStep,
        config: MakeConfig,
        output: &Output,
    ) -> impl Future<Output = Result<String, BuildError>> + Send;

    /// The context of that name.
    fn context(
        &self,
        name: &str,
        output: &Output,
    ) -> impl Future<Output = Result<Named, BuildError>> + Send;

    /// The files of a repository that `ADD` names, and its commit. `keep_git` keeps `.git`.
    fn repository(
        &self,
        address: &str,
        keep_git: bool,
        output: &Output,
    ) -> impl Future<Output = Result<(Arc<dyn Files>, String), BuildError>> + Send;

    /// Downloads a file that `ADD` names.
    fn fetch(
        &self,
        url: &str,
        output: &Output,
    ) -> impl Future<Output = Result<Fetched, BuildError>> + Send;

    /// A directory for files without a name.
    fn scratch(&self) -> PathBuf;
}

/// A downloaded file.
pub struct Fetched {
    /// Name the address ends in; empty if it ends in a slash.
    pub name: String,
    /// What is in it.
    pub content: Content,
    /// Seconds since 1970, of `Last-Modified`; 0 if that is not known.
    pub modified: i64,
}
