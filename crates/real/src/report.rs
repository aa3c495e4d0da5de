//! `real report`: one HTML page on a run, an evaluation or an experiment, which needs no network and no other file.
//!
//! The page answers first whether it worked, in one sentence, and then shows what the answer rests on, down to the programs: numbers link to
//! the samples that they count. [`data`] reads a folder; [`run`](mod@run) puts the page of a run together; [`chart`], [`highlight`] and
//! [`html`] know how things look, and nothing of runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Status;
use crate::experiment::DESCRIPTION;

mod chart;
mod data;
mod experiment;
mod hacking;
mod highlight;
mod html;
mod programs;
mod run;
mod verdict;

/// Name of the page inside a run folder.
const PAGE: &str = "report.html";

/// Arguments of `real report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, of an evaluation, or of an experiment.
    #[arg(value_name = "RUN|EXPERIMENT")]
    folder: PathBuf,
    /// Where the page goes; `report.html` in the folder without it.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let page = render(&args.folder)?;
    let out = args.out.clone().unwrap_or_else(|| args.folder.join(PAGE));
    save(&out, &page)?;
    println!("{}", out.display());
    Ok(Status::Clean)
}

/// Writes the page of a run into its folder. A run that is training calls this as it goes on; a page that cannot be written is a warning.
pub(crate) fn refresh(folder: &Path) {
    let written = render(folder).and_then(|page| save(&folder.join(PAGE), &page));
    if let Err(error) = written {
        tracing::warn!("the report was not written: {error:#}");
    }
}

/// Whether the run in this folder has done all of its steps.
pub(crate) fn is_finished(folder: &Path) -> bool {
    folder.join("config.toml").exists() && data::Run::read(folder).is_ok_and(|run| !run.is_unfinished())
}

fn render(folder: &Path) -> Result<String> {
    let page = if folder.join(DESCRIPTION).exists() {
        experiment::page(folder)?
    } else {
        run::page(&data::Run::read(folder)?)
    };
    Ok(page.render())
}

/// Puts the page in its place in one step, so that whoever looks at it never sees half of it.
fn save(path: &Path, page: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, page).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
