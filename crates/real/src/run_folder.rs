//! The folder that a run writes: configuration, metrics, samples, checkpoints.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::tensorboard::EventFile;

/// The folder of the run in progress.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    metrics: File,
    events: EventFile,
}

/// What to do where the folder holds a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Refuse.
    Refuse,
    /// Remove it.
    Overwrite,
    /// Go on with this step: its line of `metrics.jsonl` and later ones are dropped.
    Resume {
        /// The first step that is still to do.
        next_step: usize,
    },
}

impl RunFolder {
    /// Makes or opens the folder and saves the resolved configuration.
    pub(crate) fn open(config: &Config, existing: Existing) -> Result<Self> {
        let path = config.run.dir.clone();
        let failed = || format!("cannot set up the run folder {}", path.display());
        let metrics_path = path.join("metrics.jsonl");
        match existing {
            Existing::Refuse if path.join("config.toml").exists() => bail!(
                "{} holds a run already: go on with it (--resume), replace it (--overwrite), or choose another folder (--set run.dir=…)",
                path.display()
            ),
            Existing::Overwrite => remove_run(&path).with_context(failed)?,
            Existing::Resume { next_step } => {
                truncate_metrics(&metrics_path, next_step).with_context(failed)?;
            }
            Existing::Refuse => {}
        }
        std::fs::create_dir_all(path.join("samples")).with_context(failed)?;
        write_whole(&path.join("config.toml"), &config.to_toml()?).with_context(failed)?;
        let metrics = OpenOptions::new().create(true).append(true).open(metrics_path).with_context(failed)?;
        let events = EventFile::create(&path.join("tensorboard")).with_context(failed)?;
        Ok(Self { path, metrics, events })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One line of `metrics.jsonl`, and the same as `TensorBoard` scalars.
    pub(crate) fn log(&mut self, step: usize, values: &BTreeMap<String, f64>) -> Result<()> {
        let mut line = Map::new();
        line.insert("step".to_owned(), step.into());
        for (name, value) in values {
            line.insert(name.clone(), Value::from(*value));
            self.events
                .scalar(name, step as u64, *value as f32)
                .context("cannot write TensorBoard events")?;
        }
        writeln!(self.metrics, "{}", Value::Object(line)).context("cannot write metrics.jsonl")
    }
}

/// Removes what a run writes, and nothing else that may lie in the folder.
fn remove_run(path: &Path) -> std::io::Result<()> {
    if !path.join("config.toml").exists() {
        return Ok(());
    }
    for folder in ["samples", "checkpoints", "tensorboard", "sft"] {
        match std::fs::remove_dir_all(path.join(folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for file in ["config.toml", "metrics.jsonl", "interrupted.safetensors"] {
        match std::fs::remove_file(path.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Drops the lines of `next_step` and later ones, and a line that was cut off.
fn truncate_metrics(path: &Path, next_step: usize) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let kept: String = text
        .lines()
        .filter(|line| {
            serde_json::from_str::<Value>(line)
                .ok()
                .and_then(|row| row["step"].as_u64())
                .is_some_and(|step| step < next_step as u64)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    Ok(write_whole(path, &kept)?)
}

/// Writes a file so that whoever finds it finds all of it, even when this process is killed on the way.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(&partial, path)
}

/// The metrics of a finished or running run, for tests and reports.
#[cfg(test)]
pub(crate) fn read_metrics(path: &Path) -> Result<Vec<Map<String, Value>>> {
    Ok(real_reward::read_jsonl(&path.join("metrics.jsonl"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_drops_later_and_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n{\"st").unwrap();
        truncate_metrics(&path, 2).unwrap();
        assert_eq!(read_metrics(folder.path()).unwrap().len(), 2);
    }
}
