//! `COPY` and `ADD`: no container, the layer is written as it is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::BuildError;
use super::stage::StageRun;
use super::worker::{Worker, WriteLayer};
use crate::copy::{self as place, Chmod, Layer, Options, Source, cache_text, find};
use crate::dockerfile::instruction::Copy;
use crate::files::{Content, Context, Files, Node};
use crate::ignore::Patterns;
use wharf_archive::tar::Kind;

/// A file that is in no tree: a here-document or a download.
#[derive(Clone)]
struct Loose {
    name: String,
    content: Content,
    mode: u32,
    modified: i64,
}

/// All that is to be copied.
struct Plan {
    files: Arc<dyn Files>,
    sources: Vec<Source>,
    /// Repositories, each with what stands for it in the cache if that is not its content.
    trees: Vec<(Arc<dyn Files>, Option<String>)>,
    loose: Vec<Loose>,
    destination: String,
    options: Options,
    chown: String,
    /// `ADD` unpacks local archives.
    unpack: bool,
    /// `ADD --unpack` unpacks downloads too.
    unpack_downloads: bool,
    /// Links in the image are not followed.
    link: bool,
    now: i64,
    /// No file is to be younger.
    newest: Option<i64>,
    scratch: std::path::PathBuf,
}

impl<W: Worker> StageRun<'_, W> {
    pub(super) async fn copy(&mut self, copy: &Copy, name: &'static str) -> Result<(), BuildError> {
        let plan = self.plan_copy(copy, name).await?;
        let (plan, hash) = blocking(move || {
            let loose: Vec<(String, Content)> = plan
                .loose
                .iter()
                .map(|loose| (loose.name.clone(), loose.content.clone()))
                .collect();
            let hash = plan
                .cache_text(&loose)
                .map_err(|error| BuildError::internal(format!("{name} failed: {error}")))?;
            Ok((plan, hash))
        })
        .await?;
        let remark = format!(
            "#(nop) {name} {}{hash} in {} ",
            flags_text(copy),
            copy.destination
        );
        let step = self.noted(&[remark]);
        if self.take_cached(&step)? {
            return Ok(());
        }
        let base = self.worker().files(self.image.as_deref()).await?;
        let write: WriteLayer = Box::new(move |out| plan.write(&*base, out));
        self.commit(step, Some(write)).await
    }

    async fn plan_copy(&self, copy: &Copy, name: &'static str) -> Result<Plan, BuildError> {
        let failed = move |text: String| BuildError::invalid(format!("{name} failed: {text}"));
        let context = copy.from.is_empty();
        let files: Arc<dyn Files> = if context {
            self.shared.request.context.clone()
        } else {
            self.source_files(&copy.from).await?
        };
        let mut loose: Vec<Loose> = copy
            .inline
            .iter()
            .map(|file| Loose {
                name: file.name.clone(),
                content: Content::Bytes(file.content.as_bytes().into()),
                mode: 0o644,
                modified: self.now(),
            })
            .collect();
        let (repositories, rest): (Vec<String>, Vec<String>) = copy
            .sources
            .iter()
            .cloned()
            .partition(|source| name == "ADD" && is_git(source));
        let (urls, paths): (Vec<String>, Vec<String>) = rest
            .into_iter()
            .partition(|source| name == "ADD" && is_url(source));
        let mut trees = Vec::new();
        for address in &repositories {
            let tree = self.clone_repository(address, copy).await;
            trees.push(tree.map_err(|error| error.context("ADD failed"))?);
        }
        for url in &urls {
            loose.push(
                self.download(url, copy)
                    .await
                    .map_err(|error| error.context("ADD failed"))?,
            );
        }
        let parents = copy.parents;
        let (files, sources) = if paths.is_empty() {
            (files, Vec::new())
        } else {
            let tree = files.clone();
            let sources = blocking(move || {
                find(&*tree, &paths, context, parents).map_err(|error| failed(error.to_string()))
            })
            .await?;
            (files, sources)
        };
        if sources.len() + loose.len() + trees.len() > 1
            && !copy.destination.ends_with('/')
            && copy.destination != "."
        {
            return Err(BuildError::invalid(format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        let chmod = match copy.chmod.as_str() {
            "" => None,
            text => {
                Some(Chmod::parse(text).map_err(|error| BuildError::invalid(error.to_string()))?)
            }
        };
        let exclude = Patterns::new(&copy.exclude).map_err(|error| failed(error.to_string()))?;
        Ok(Plan {
            files,
            sources,
            trees,
            loose,
            destination: destination(&self.settings.config.working_dir, &copy.destination),
            options: Options {
                owner: (context || !copy.chown.is_empty()).then_some((0, 0)),
                chmod,
                exclude,
                parents,
            },
            chown: copy.chown.clone(),
            unpack: name == "ADD" && copy.unpack != Some(false),
            unpack_downloads: copy.unpack == Some(true),
            link: copy.link,
            now: self.now(),
            newest: self.epoch(),
            scratch: self.worker().scratch(),
        })
    }

    async fn clone_repository(
        &self,
        address: &str,
        copy: &Copy,
    ) -> Result<(Arc<dyn Files>, Option<String>), BuildError> {
        let keep = copy.keep_git_dir == Some(true);
        let (tree, commit) = self
            .worker()
            .repository(address, keep, &self.output)
            .await?;
        if !copy.checksum.is_empty() && !commit.starts_with(&copy.checksum) {
            return Err(BuildError::invalid(format!(
                "expected checksum to match {}, got {commit}",
                copy.checksum
            )));
        }
        // What git keeps for itself differs from clone to clone.
        let known = keep.then(|| {
            let (_, fragment) = address.split_once('#').unwrap_or_default();
            let (_, part) = fragment.split_once(':').unwrap_or_default();
            format!("git:{commit}:{part}")
        });
        Ok((tree, known))
    }

    async fn download(&self, url: &str, copy: &Copy) -> Result<Loose, BuildError> {
        let fetched = self.worker().fetch(url, &self.output).await?;
        if !copy.checksum.is_empty() {
            let content = fetched.content.clone();
            let hash = blocking(move || {
                place::content_hex(&content)
                    .map_err(|error| BuildError::internal(error.to_string()))
            });
            let digest = format!("sha256:{}", hash.await?);
            if digest != copy.checksum {
                return Err(BuildError::invalid(format!(
                    "digest mismatch {digest}: {}",
                    copy.checksum
                )));
            }
        }
        if fetched.name.is_empty() && copy.destination.ends_with('/') {
            return Err(BuildError::invalid(format!(
                "cannot determine filename for source {url}"
            )));
        }
        Ok(Loose {
            name: fetched.name,
            content: fetched.content,
            mode: 0o600,
            modified: fetched.modified,
        })
    }
}

impl Plan {
    /// What stands for all of it in history and cache.
    fn cache_text(&self, loose: &[(String, Content)]) -> std::io::Result<String> {
        let exclude = &self.options.exclude;
        if self.trees.is_empty() {
            return cache_text(&*self.files, &self.sources, loose, exclude);
        }
        let mut texts = Vec::new();
        if !self.sources.is_empty() || !loose.is_empty() {
            texts.push(cache_text(&*self.files, &self.sources, loose, exclude)?);
        }
        for (tree, known) in &self.trees {
            texts.push(match known {
                Some(known) => known.clone(),
                None => cache_text(&**tree, &[whole()], &[], exclude)?,
            });
        }
        Ok(match texts.as_slice() {
            [one] => one.clone(),
            many => format!("multi:{}", place::digest_hex(many.join(",").as_bytes())),
        })
    }

    fn write(mut self, base: &dyn Files, out: &mut dyn std::io::Write) -> Result<(), String> {
        if !self.chown.is_empty() {
            let owner = place::owner(&self.chown, base).map_err(|error| {
                format!("unable to convert uid/gid chown string to host mapping: {error}")
            })?;
            self.options.owner = Some(owner);
        }
        let unlinked = Unlinked(base);
        let base = if self.link { &unlinked } else { base };
        let mut layer = Layer::new(base, self.now);
        layer.no_newer_than(self.newest);
        let mut fill = || {
            self.trees
                .iter()
                .try_for_each(|(tree, _)| self.place_tree(&mut layer, &**tree))?;
            self.sources
                .iter()
                .try_for_each(|source| self.place(&mut layer, source))?;
            self.loose
                .iter()
                .try_for_each(|loose| self.place_loose(&mut layer, loose))
        };
        fill()
            .and_then(|()| layer.write(out).map_err(|error| error.to_string()))
            .map_err(|text: String| format!("failed to copy files: {text}"))
    }

    /// All of a repository.
    fn place_tree(&self, layer: &mut Layer<'_>, tree: &dyn Files) -> Result<(), String> {
        let (options, number) = (&self.options, next_tree());
        place::place(layer, tree, &whole(), &self.destination, options, number)
            .map_err(|error| error.to_string())
    }

    /// Unpacks an archive; `false` if it is none.
    fn unpack(&self, layer: &mut Layer<'_>, content: &Content) -> Result<bool, String> {
        if !place::is_archive(content).map_err(|error| error.to_string())? {
            return Ok(false);
        }
        let archive =
            Context::receive(content.reader(), &self.scratch).map_err(|error| error.to_string())?;
        let options = Options {
            owner: (!self.chown.is_empty())
                .then_some(self.options.owner)
                .flatten(),
            chmod: self.options.chmod.clone(),
            ..Options::default()
        };
        place::unpack(layer, &archive, &self.destination, &options, next_tree())
            .map_err(|error| error.to_string())?;
        Ok(true)
    }

    fn place(&self, layer: &mut Layer<'_>, source: &Source) -> Result<(), String> {
        let text = |error: place::LayerError| error.to_string();
        if self.unpack
            && !source.directory
            && let Ok(content) = self.files.content(&source.resolved)
            && self.unpack(layer, &content)?
        {
            return Ok(());
        }
        place::place(
            layer,
            &*self.files,
            source,
            &self.destination,
            &self.options,
            0,
        )
        .map_err(text)
    }

    fn place_loose(&self, layer: &mut Layer<'_>, loose: &Loose) -> Result<(), String> {
        if self.unpack_downloads && self.unpack(layer, &loose.content)? {
            return Ok(());
        }
        let mut tree = LooseTree(BTreeMap::new());
        tree.0.insert(loose.name.as_bytes().to_vec(), loose.clone());
        let source = Source {
            path: loose.name.as_bytes().to_vec(),
            resolved: loose.name.as_bytes().to_vec(),
            directory: false,
            pivot: 0,
        };
        let options = Options {
            parents: false,
            ..self.options.clone()
        };
        place::place(
            layer,
            &tree,
            &source,
            &self.destination,
            &options,
            next_tree(),
        )
        .map_err(|error| error.to_string())
    }
}

/// The root of a tree as a source.
fn whole() -> Source {
    Source {
        path: Vec::new(),
        resolved: Vec::new(),
        directory: true,
        pivot: 0,
    }
}

/// A tree whose links are not there: what `--link` puts somewhere replaces them.
struct Unlinked<'a>(&'a dyn Files);

impl Files for Unlinked<'_> {
    fn resolve(&self, path: &[u8]) -> std::io::Result<Vec<u8>> {
        crate::files::Nothing.resolve(path)
    }

    fn entry(&self, path: &[u8]) -> std::io::Result<Option<Node>> {
        let mut part = path;
        while let Some((directory, _)) = crate::files::split(part) {
            let found = self.0.entry(part)?;
            if found.is_some_and(|node| node.entry.kind == Kind::Symlink) {
                return Ok(None);
            }
            part = directory;
        }
        self.0.entry(path)
    }

    fn names(&self, path: &[u8]) -> std::io::Result<Vec<Vec<u8>>> {
        self.0.names(path)
    }

    fn content(&self, path: &[u8]) -> std::io::Result<Content> {
        self.0.content(path)
    }

    fn known_digest(&self, path: &[u8]) -> Option<[u8; 32]> {
        self.0.known_digest(path)
    }
}

/// Numbers trees, so that inodes of different ones are not taken for each other.
fn next_tree() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Loose files as a tree.
struct LooseTree(BTreeMap<Vec<u8>, Loose>);

impl Files for LooseTree {
    fn resolve(&self, path: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(path.to_vec())
    }

    fn entry(&self, path: &[u8]) -> std::io::Result<Option<Node>> {
        Ok(self.0.get(path).map(|loose| Node {
            entry: crate::files::file_entry(
                path,
                loose.mode,
                loose.content.length(),
                loose.modified,
            ),
            inode: None,
        }))
    }

    fn names(&self, _path: &[u8]) -> std::io::Result<Vec<Vec<u8>>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn content(&self, path: &[u8]) -> std::io::Result<Content> {
        match self.0.get(path) {
            Some(loose) => Ok(loose.content.clone()),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    fn known_digest(&self, _path: &[u8]) -> Option<[u8; 32]> {
        None
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Addresses of repositories (moby `builder/remotecontext/urlutil`).
pub fn is_git(address: &str) -> bool {
    let before_fragment = address.split('#').next().unwrap_or_default();
    (is_url(address) && before_fragment.ends_with(".git"))
        || ["git://", "github.com/", "git@", "ssh://"]
            .iter()
            .any(|prefix| address.starts_with(prefix))
}

/// The flags that make a difference, as history has them.
fn flags_text(copy: &Copy) -> String {
    let mut text = String::new();
    for (name, value) in [("chown", &copy.chown), ("chmod", &copy.chmod)] {
        if !value.is_empty() {
            text.push_str(&format!("--{name}={value} "));
        }
    }
    if copy.link {
        text.push_str("--link ");
    }
    if copy.keep_git_dir == Some(true) {
        text.push_str("--keep-git-dir=true ");
    }
    if copy.parents {
        text.push_str("--parents ");
    }
    for pattern in &copy.exclude {
        text.push_str(&format!("--exclude={pattern} "));
    }
    if let Some(unpack) = copy.unpack {
        text.push_str(&format!("--unpack={unpack} "));
    }
    text
}

/// A relative destination is below the working directory; a slash at its end stays.
fn destination(workdir: &str, wanted: &str) -> String {
    let joined = if wanted.starts_with('/') {
        wanted.to_owned()
    } else {
        format!("/{workdir}/{wanted}")
    };
    let mut cleaned = crate::path::clean(&joined);
    if (wanted.ends_with('/') || wanted == "." || wanted.ends_with("/.")) && !cleaned.ends_with('/')
    {
        cleaned.push('/');
    }
    cleaned
}

/// Blocking work, off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BuildError::internal(error.to_string())),
    }
}
