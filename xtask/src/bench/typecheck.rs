//! `cargo xtask bench typecheck`: zuban beside mypy, in verdicts and in time, on the references of APPS+.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Arguments of `cargo xtask bench typecheck`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder of the data sets, with `apps/`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is inside of the workspace")?;
    let data = args.data.clone().unwrap_or_else(|| root.join("../shared/data"));
    if !data.is_dir() {
        bail!("{} is not there; name the folder of the data sets with --data", data.display());
    }
    let data = data.to_string_lossy();
    cargo(&["run", "--release", "--package", "real_reward", "--example", "bench_typecheck", "--", &data])
}
