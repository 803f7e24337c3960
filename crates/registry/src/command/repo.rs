//! `repo ls|tags|rm|usage`

use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, Place};
use crate::config::units::show_size;
use crate::content::{Content, ContentError, Settings};
use crate::name::{RepoName, Tag};
use crate::run::open_existing;

#[derive(Debug, Subcommand)]
pub(super) enum Repo {
    /// List repositories with their tags and sizes
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        place: Place,
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// List the tags of a repository
    Tags {
        #[command(flatten)]
        place: Place,
        /// Repository
        name: String,
    },
    /// Remove repositories, or single tags (NAME:TAG); blobs go with the next gc
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        place: Place,
        /// Repositories or tags
        #[arg(required = true)]
        names: Vec<String>,
    },
}

fn open(place: &Place) -> Result<Content, Failure> {
    let config = place.load()?;
    Ok(Content::new(open_existing(&config)?, Settings::of(&config)))
}

fn parse(name: &str) -> Result<RepoName, Failure> {
    RepoName::parse(name).ok_or_else(|| format!("{name:?} is no repository name").into())
}

pub(super) async fn run(command: &Repo) -> Result<ExitCode, Failure> {
    match command {
        Repo::Ls { place, quiet } => list(&open(place)?, *quiet).await?,
        Repo::Tags { place, name } => {
            let content = open(place)?;
            let repo = existing(&content, name).await?;
            for tagged in content.tagged(&repo).await? {
                println!("{:<30} {}", tagged.tag, tagged.digest);
            }
        }
        Repo::Rm { place, names } => {
            let content = open(place)?;
            for name in names {
                remove(&content, name).await?;
                println!("{name}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(content: &Content, quiet: bool) -> Result<(), Failure> {
    if !quiet {
        println!("{:<40} {:>6} {:>12}", "REPOSITORY", "TAGS", "SIZE");
    }
    for repo in content.repositories().await? {
        if quiet {
            println!("{repo}");
            continue;
        }
        let tags = content.tags(&repo).await?.len();
        println!(
            "{:<40} {tags:>6} {:>12}",
            repo.as_str(),
            show_size(content.usage(&repo).await?)
        );
    }
    Ok(())
}

/// A repository that there is.
async fn existing(content: &Content, name: &str) -> Result<RepoName, Failure> {
    let repo = parse(name)?;
    match content.require_repository(&repo).await {
        Ok(()) => Ok(repo),
        Err(ContentError::NameUnknown) => Err(format!("there is no repository {repo}").into()),
        Err(error) => Err(error.into()),
    }
}

async fn remove(content: &Content, name: &str) -> Result<(), Failure> {
    let Some((repo, tag)) = name.split_once(':') else {
        let repo = existing(content, name).await?;
        return Ok(content.remove_repository(&repo).await?);
    };
    let tag = Tag::parse(tag).ok_or_else(|| format!("{tag:?} is no tag"))?;
    let repo = existing(content, repo).await?;
    match content.remove_tag(&repo, &tag).await {
        Err(ContentError::ManifestUnknown) => Err(format!("there is no tag {name}").into()),
        other => Ok(other?),
    }
}
