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

/// Further judges, with another configuration and, where that asks for no other, the same sandbox.
pub(crate) fn beside(scorer: &Scorer, config: &RewardConfig) -> Result<Scorer> {
    scorer.beside(config.clone(), &ensure()?).context("cannot start the judges of the evaluation")
}
