//! The Python environment of the judges, set up when it is first needed.

use anyhow::{Context, Result};
use real_reward::{RewardConfig, Scorer, Tools};

/// The environment; built with progress on standard error where it is not there yet.
pub(crate) fn ensure() -> Result<Tools> {
    Tools::install(&mut |line| eprintln!("{line}"))
        .context("cannot set up the Python environment of the judges")
}

/// The judges, ready.
pub(crate) fn scorer(config: &RewardConfig) -> Result<Scorer> {
    Scorer::new(config.clone(), &ensure()?).context("cannot start the judges")
}
