//! A build: stages run side by side, each step by step; what was done before is taken from the cache.

mod copy;
mod error;
mod output;
mod run;
mod stage;
mod worker;

pub use copy::is_git;
pub use error::{BuildError, Fault};
pub use output::{Output, Piece, short};
pub use stage::is_same;
pub use worker::{Fetched, MakeConfig, Named, RunMount, RunStep, Worker, WriteLayer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wharf_spec::platform::Platform;

use crate::dockerfile::Dockerfile;
use crate::dockerfile::instruction::Step;
use crate::dockerfile::scope::Scope;
use crate::files::Files;
use crate::graph::{Graph, graph};
use stage::StageRun;

/// What to build.
pub struct Request {
    /// The Dockerfile.
    pub file: Dockerfile,
    /// The build context.
    pub context: Arc<dyn Files>,
    /// Build arguments; one without a value takes its default.
    pub arguments: BTreeMap<String, Option<String>>,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// Stage to build; the last if empty.
    pub target: String,
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// Stages that take nothing from the cache, by name or number.
    pub no_cache_stages: Vec<String>,
    /// Containers of metadata steps are told to be removed.
    pub remove: bool,
    /// Platform to build for.
    pub platform: Option<Platform>,
    /// Names of further contexts, in lower case.
    pub contexts: BTreeSet<String>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The image.
    pub image: String,
    /// The images of the other stages that were built.
    pub stages: Vec<String>,
    /// The image that the last stage, and those it stands on, began with; `None` if with nothing.
    pub base: Option<String>,
}

/// A finished stage.
#[derive(Debug, Clone)]
struct Done {
    image: Option<String>,
    /// What it began with, or what the stage it is based on did.
    base: Option<String>,
    scope: Scope,
}

type Results = Vec<watch::Receiver<Option<Arc<Done>>>>;

/// What all stages share.
struct Shared<W> {
    worker: Arc<W>,
    request: Request,
    graph: Graph,
    /// Before the first stage.
    scope: Scope,
    total: usize,
    results: Results,
}

/// Builds. Dropping the future ends everything that is under way.
pub async fn solve<W: Worker>(
    worker: Arc<W>,
    mut request: Request,
    mut tell: impl FnMut(Piece),
) -> Result<Outcome, BuildError> {
    let host = Platform::host();
    let target = request.platform.clone().unwrap_or_else(|| host.clone());
    let mut scope = Scope::new(request.arguments.clone(), &target, &host);
    for step in &request.file.globals {
        scope
            .declare_global(step, request.file.escape)
            .map_err(|problem| BuildError::invalid(problem.to_string()))?;
    }
    let graph = graph(&request.file, &scope, &request.target, &request.contexts)
        .map_err(|error| BuildError::invalid(error.text))?;
    for (stage, vertex) in request.file.stages.iter_mut().zip(&graph.stages) {
        if vertex.replaced {
            stage.steps.clear();
        }
    }
    let labels = std::mem::take(&mut request.labels);
    let steps = &mut request.file.stages[graph.target].steps;
    steps.extend(labels.iter().map(|(key, value)| Step::label(key, value)));
    for warning in &request.file.warnings {
        tell(red(&format!(
            "[WARNING]: Empty continuation line found in: {}\n",
            warning.line_text
        )));
    }
    if !request.file.warnings.is_empty() {
        tell(red(
            "[WARNING]: Empty continuation lines will become errors in a future release.\n",
        ));
    }
    run_stages(worker, request, graph, scope, &mut tell).await
}

fn red(text: &str) -> Piece {
    Piece::Text(format!("\u{1b}[91m{text}\u{1b}[0m"))
}

async fn run_stages<W: Worker>(
    worker: Arc<W>,
    request: Request,
    graph: Graph,
    scope: Scope,
    tell: &mut impl FnMut(Piece),
) -> Result<Outcome, BuildError> {
    let needed: Vec<usize> = (0..graph.stages.len())
        .filter(|index| graph.stages[*index].needed)
        .collect();
    let globals = request.file.globals.len();
    let steps_of = |index: usize| 1 + request.file.stages[index].steps.len();
    let total = globals + needed.iter().map(|index| steps_of(*index)).sum::<usize>();
    for (index, step) in request.file.globals.iter().enumerate() {
        tell(Piece::Text(format!(
            "Step {}/{total} : {}",
            index + 1,
            step.source
        )));
        tell(Piece::Text("\n".to_owned()));
    }
    let first_steps: Vec<usize> = needed
        .iter()
        .scan(globals + 1, |next, index| {
            let first = *next;
            *next += steps_of(*index);
            Some(first)
        })
        .collect();
    let (senders, results): (Vec<_>, Results) =
        graph.stages.iter().map(|_| watch::channel(None)).unzip();
    let mut senders: Vec<Option<_>> = senders.into_iter().map(Some).collect();
    let target = graph.target;
    let shared = Arc::new(Shared {
        worker,
        request,
        graph,
        scope,
        total,
        results,
    });
    let mut tasks = JoinSet::new();
    let mut outputs = Vec::new();
    for (index, first) in needed.into_iter().zip(first_steps) {
        let (send, pieces) = mpsc::unbounded_channel();
        outputs.push((index, pieces));
        let (shared, result) = (shared.clone(), senders[index].take());
        tasks.spawn(async move {
            let done = StageRun::new(&shared, index, first, Output::new(send))
                .run()
                .await;
            match done {
                Ok(done) => {
                    if let Some(result) = result {
                        result.send_replace(Some(Arc::new(done)));
                    }
                    (index, Ok(()))
                }
                Err(error) => (index, Err(error)),
            }
        });
    }
    // Stages that are not needed never have a result, and nobody waits for one.
    drop(senders);
    follow(&mut tasks, outputs, tell).await?;
    finish(&shared, target, tell)
}

type Pieces = mpsc::UnboundedReceiver<Piece>;

type Ended = Option<Result<(usize, Result<(), BuildError>), tokio::task::JoinError>>;

/// Tells what stages say, one stage after the other, until all are done or one fails.
async fn follow(
    tasks: &mut JoinSet<(usize, Result<(), BuildError>)>,
    mut outputs: Vec<(usize, Pieces)>,
    tell: &mut impl FnMut(Piece),
) -> Result<(), BuildError> {
    outputs.reverse();
    let mut done = BTreeSet::new();
    while let Some((index, pieces)) = outputs.last_mut() {
        let index = *index;
        let ended = tokio::select! {
            biased;
            piece = pieces.recv() => match piece {
                Some(piece) => {
                    tell(piece);
                    continue;
                }
                // It has no more to say. Whether it failed is known before the next one begins to speak.
                None if done.contains(&index) => {
                    outputs.pop();
                    continue;
                }
                None => tasks.join_next().await,
            },
            ended = tasks.join_next(), if !tasks.is_empty() => ended,
        };
        match outcome(ended) {
            Ok(Some(index)) => drop(done.insert(index)),
            // No task is left: whoever is silent now stays so.
            Ok(None) => drop(done.insert(index)),
            Err((failed, error)) => {
                if let Some(failed) = failed {
                    tell_rest(&mut outputs, failed, tell);
                }
                return Err(error);
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        outcome(Some(ended)).map_err(|(_, error)| error)?;
    }
    Ok(())
}

/// The stage that ended; an error with the stage it comes from. One that only follows from another's is none of its own.
fn outcome(ended: Ended) -> Result<Option<usize>, (Option<usize>, BuildError)> {
    match ended {
        None => Ok(None),
        Some(Ok((index, Ok(())))) => Ok(Some(index)),
        Some(Ok((index, Err(error)))) if error.follows => Ok(Some(index)),
        Some(Ok((index, Err(error)))) => Err((Some(index), error)),
        Some(Err(error)) => Err((None, BuildError::internal(error.to_string()))),
    }
}

/// What the present stage and the one that failed had to say.
fn tell_rest(outputs: &mut [(usize, Pieces)], failed: usize, tell: &mut impl FnMut(Piece)) {
    for (index, pieces) in outputs.iter_mut().rev() {
        if *index == failed {
            while let Ok(piece) = pieces.try_recv() {
                tell(piece);
            }
        }
    }
}

fn finish<W: Worker>(
    shared: &Shared<W>,
    target: usize,
    tell: &mut impl FnMut(Piece),
) -> Result<Outcome, BuildError> {
    let mut scope = shared.scope.clone();
    for result in &shared.results {
        if let Some(done) = result.borrow().as_ref() {
            scope.merge_references(&done.scope);
        }
    }
    let mut unused = scope.unused();
    // Words to the builder, which no Dockerfile declares.
    unused.retain(|name| !name.starts_with("BUILDKIT_") && name != "SOURCE_DATE_EPOCH");
    if !unused.is_empty() {
        tell(Piece::Text(format!(
            "[Warning] One or more build-args [{}] were not consumed\n",
            unused.join(" ")
        )));
    }
    let image = shared.results[target]
        .borrow()
        .as_ref()
        .and_then(|done| done.image.clone());
    let base = shared.results[target]
        .borrow()
        .as_ref()
        .and_then(|done| done.base.clone());
    let stages = (0..shared.results.len())
        .filter(|index| *index != target)
        .filter_map(|index| shared.results[index].borrow().as_ref()?.image.clone())
        .collect();
    image
        .map(|image| Outcome {
            image,
            stages,
            base,
        })
        .ok_or_else(|| BuildError::internal("No image was generated. Is your Dockerfile empty?"))
}
