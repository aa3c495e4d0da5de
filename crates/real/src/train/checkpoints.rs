//! What a run saves and goes on from.
//!
//! A checkpoint is a folder in Hugging Face layout with one file more, for critic and optimisers. It is written beside its place and
//! renamed, so that one that is there is whole. Everything else that a run needs to go on follows from its configuration and the number
//! of the step: the order of the prompts, the random numbers, and which lines of `metrics.jsonl` are from the future.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_lm::{Checkpoint, PpoTrainer, WeightType};

use crate::config::Config;

/// The file of a checkpoint that holds the optimisers and the critic.
const TRAINER_STATE: &str = "trainer.safetensors";

/// The folder of a checkpoint that holds a low-rank adaptation by itself, for the PEFT library. The checkpoint has it merged.
const ADAPTER: &str = "adapter";

/// The checkpoint after so many steps.
pub(super) fn name(step: usize) -> String {
    format!("step-{step:06}")
}

/// Saves the state into a run folder. `base` has what is not trained: the tokenizer and the like.
pub(super) fn save(base: &Checkpoint, trainer: &PpoTrainer, name: &str, run: &Path) -> Result<PathBuf> {
    let path = run.join("checkpoints").join(name);
    let partial = path.with_extension("partial");
    base.save_with(&*trainer.policy()?, &partial, WeightType::F32)?;
    trainer.save_state(&partial.join(TRAINER_STATE))?;
    if let Some(lora) = trainer.lora() {
        lora.save(&partial.join(ADAPTER), "..")?;
    }
    if path.exists() {
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    std::fs::rename(&partial, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Gives the trainer the state that [`save`] wrote.
pub(super) fn restore(trainer: &mut PpoTrainer, path: &Path) -> Result<()> {
    Ok(trainer.restore(Checkpoint::load(path)?.model, &path.join(TRAINER_STATE))?)
}

/// Where to go on: the last checkpoint of this very run. A run of another configuration is refused, but for its length.
pub(super) fn resumption(config: &Config) -> Result<Option<(usize, PathBuf)>> {
    let path = config.run.dir.join("config.toml");
    let saved = std::fs::read_to_string(&path)
        .with_context(|| format!("there is no run to resume: cannot read {}", path.display()))?;
    let mut saved = Config::parse(&saved, &[]).with_context(|| format!("in {}", path.display()))?;
    saved.train = config.train.clone();
    if saved != *config {
        bail!("{} is not the configuration to resume with: only [train] may differ", path.display());
    }
    latest_checkpoint(&config.run.dir)
}

/// The last checkpoint of the run in `run`, with its step.
fn latest_checkpoint(run: &Path) -> Result<Option<(usize, PathBuf)>> {
    let folder = run.join("checkpoints");
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut latest = None;
    for entry in entries {
        let path = entry?.path();
        let step =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("step-")?.parse().ok());
        if let Some(step) = step
            && latest.as_ref().is_none_or(|(best, _)| step > *best)
        {
            latest = Some((step, path));
        }
    }
    Ok(latest)
}
