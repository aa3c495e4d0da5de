//! `cargo xtask bench reward`: what a test, a program and a batch cost the judges, that memory stays flat, and that nothing is left behind; beside
//! the published graders, where a checkout of them is given.
//!
//! The measuring is an example of `real_reward`, so that this crate stays quick to build. The published graders run as they are, from
//! `bench/published.py`, on the very same completions, one after the other and without a sandbox, as their trainer calls them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Arguments of `cargo xtask bench reward`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder of the data sets, with `safesql/` and `seccodeplt/`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Programs over which memory must stay flat.
    #[arg(long, default_value_t = 2000)]
    programs: usize,
    /// A checkout of the published graders (`verl/utils/reward_score/` in it).
    #[arg(long, value_name = "DIR")]
    published: Option<PathBuf>,
    /// Completions that the published graders judge; they take about a quarter of a second for each.
    #[arg(long, default_value_t = 64)]
    published_completions: usize,
    /// The interpreter that has what the published graders import: numpy, mypy, sympy, pyarrow.
    #[arg(long, default_value = "python3")]
    python: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is inside of the workspace")?;
    let data = args.data.clone().unwrap_or_else(|| root.join("../shared/data"));
    let folder = tempfile::tempdir()?;
    let completions = folder.path().join("completions.jsonl");
    // A place of its own, so that the temporary files that are counted at the end are nobody else's.
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;
    cargo(&["build", "--release", "--package", "real_reward", "--example", "bench_reward"])?;
    let mut command = Command::new(root.join("target/release/examples/bench_reward"));
    command.args(["--programs", &args.programs.to_string()]).env("TMPDIR", &temporary);
    if data.is_dir() {
        command.arg("--data").arg(&data).arg("--write").arg(&completions);
    }
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    match &args.published {
        Some(checkout) if data.is_dir() => published(args, checkout, &data, &completions),
        Some(_) => bail!("the published graders need --data"),
        None => {
            eprintln!("skipped: the published graders: there is no --published");
            Ok(())
        }
    }
}

fn published(args: &Args, checkout: &Path, data: &Path, completions: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/published.py");
    let status = Command::new(&args.python)
        .arg(script)
        .arg(checkout)
        .arg(data)
        .arg(completions)
        .arg(args.published_completions.to_string())
        .status()
        .with_context(|| format!("cannot start {}", args.python))?;
    if !status.success() {
        bail!("the published graders failed");
    }
    Ok(())
}
