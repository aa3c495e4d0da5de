//! What a run or an evaluation has left in its folder, read for a report.
//!
//! A folder is read as it is: a run may still be going on, and its last line may be half written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::evaluation::Counts;

/// A record of `samples/`.
pub(super) type Sample = crate::samples::Sample<'static>;

impl Sample {
    /// What tells samples of one evaluation apart.
    pub(super) fn key(&self) -> (&str, u64) {
        (&self.task_id, self.score.sample)
    }

    /// The split of the task.
    pub(super) fn split(&self) -> &str {
        self.split.as_deref().unwrap_or("test")
    }
}

/// One evaluation: answers to the same tasks at some step.
#[derive(Debug, Clone)]
pub(super) struct Evaluation {
    pub step: usize,
    pub samples: Vec<Sample>,
}

impl Evaluation {
    /// The samples of the split that the headline figures are of.
    pub(super) fn test(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.split() != "held-out")
    }

    /// Counts over these.
    pub(super) fn counts(&self) -> Counts {
        Counts::of(self.test().map(|sample| sample.score.as_ref()))
    }
}

/// The metrics of one step.
pub(super) type Row = Map<String, Value>;

/// A run of `real train`, or one evaluation of `real eval`.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub name: String,
    /// The configuration as saved, and as we understand it: an older run may have another form.
    pub config_text: String,
    pub config: Option<Config>,
    pub metrics: Vec<Row>,
    /// Of supervised fine-tuning.
    pub sft_metrics: Vec<Row>,
    /// In order of steps.
    pub evaluations: Vec<Evaluation>,
    /// Evaluations on a few tasks, in order of steps.
    pub watched: Vec<Evaluation>,
    /// Rollouts that were kept, by step.
    pub rollouts: Vec<Evaluation>,
    /// `metrics.json` of an evaluation.
    pub figures: Option<Value>,
}

impl Run {
    /// Reads a folder of `real train`, or of `real eval`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        // `seed-1` says nothing without the setting that it is a run of.
        let parts =
            name.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy().into_owned());
        let name = match parts.collect::<Vec<_>>().as_slice() {
            [last, setting] if last.starts_with("seed-") => format!("{setting}, {last}"),
            [last, ..] => last.clone(),
            [] => "run".to_owned(),
        };
        if path.join("config.toml").exists() {
            Self::of_training(path, name)
        } else {
            Self::of_eval(path, name)
        }
    }

    fn of_training(path: &Path, name: String) -> Result<Self> {
        let config_text = fs::read_to_string(path.join("config.toml"))
            .with_context(|| format!("cannot read the configuration in {}", path.display()))?;
        let samples = |prefix: &str| evaluations(&path.join("samples"), prefix);
        Ok(Self {
            name,
            config: Config::parse(&config_text, &[]).ok(),
            config_text,
            metrics: rows(&path.join("metrics.jsonl"))?,
            sft_metrics: rows(&path.join("sft/metrics.jsonl"))?,
            evaluations: samples("eval-")?,
            watched: samples("watch-")?,
            rollouts: samples("step-")?,
            figures: None,
        })
    }

    fn of_eval(path: &Path, name: String) -> Result<Self> {
        let file = path.join("samples.jsonl");
        if !file.exists() {
            bail!(
                "{} is neither a run folder (config.toml), nor one of an evaluation (samples.jsonl), nor of an experiment (experiment.toml)",
                path.display()
            );
        }
        let samples = real_reward::read_jsonl(&file)?;
        Ok(Self {
            name,
            config_text: String::new(),
            config: None,
            metrics: Vec::new(),
            sft_metrics: Vec::new(),
            evaluations: vec![Evaluation { step: 0, samples }],
            watched: Vec::new(),
            rollouts: Vec::new(),
            figures: fs::read_to_string(path.join("metrics.json"))
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok()),
        })
    }

    /// The evaluation before training, if there is a later one too.
    pub(super) fn before(&self) -> Option<&Evaluation> {
        self.evaluations.first().filter(|_| self.evaluations.len() > 1)
    }

    /// The last evaluation.
    pub(super) fn after(&self) -> Option<&Evaluation> {
        self.evaluations.last()
    }

    /// Steps that are done.
    pub(super) fn steps(&self) -> usize {
        self.metrics.last().and_then(|row| row.get("step")?.as_u64()).unwrap_or(0) as usize
    }

    /// Steps that the run is to have.
    pub(super) fn planned(&self) -> usize {
        self.config.as_ref().map_or(self.steps(), |config| config.train.steps)
    }

    /// It has not done all of its steps.
    pub(super) fn is_unfinished(&self) -> bool {
        self.config.is_some() && (self.steps() < self.planned() || self.metrics.is_empty())
    }

    /// The steps and values of a metric.
    pub(super) fn metric(&self, name: &str) -> Vec<(f64, f64)> {
        values(&self.metrics, name)
    }
}

/// The steps and values of a metric.
pub(super) fn values(rows: &[Row], name: &str) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((row.get("step")?.as_f64()?, row.get(name)?.as_f64()?))).collect()
}

/// The lines of a metrics file that are whole; none where there is no file.
fn rows(path: &Path) -> Result<Vec<Row>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The files `PREFIXnnnnnn.jsonl` of a folder, by their number.
fn evaluations(folder: &Path, prefix: &str) -> Result<Vec<Evaluation>> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| {
            name.to_str()?.strip_prefix(prefix)?.strip_suffix(".jsonl")?.parse::<usize>().ok()
        });
        if let Some(step) = number {
            files.insert(step, path);
        }
    }
    files
        .into_iter()
        .map(|(step, path)| Ok(Evaluation { step, samples: real_reward::read_jsonl(&path)? }))
        .collect()
}
