//! The files of records that commands hand to each other: tasks, completions, scores, one JSON object a line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use real_reward::Task;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A model's answer to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Completion {
    /// The task.
    pub task_id: String,
    /// Number of the answer, from 0.
    #[serde(default)]
    pub sample: usize,
    /// The text of the answer.
    pub completion: String,
}

/// Reads a file of JSON lines; empty lines are skipped.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut records = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{} line {}", path.display(), index + 1);
        let line = line.with_context(place)?;
        if !line.trim().is_empty() {
            records.push(serde_json::from_str(&line).with_context(place)?);
        }
    }
    Ok(records)
}

/// Writes a file of JSON lines, whole or not at all.
pub(crate) fn write<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    let partial = path.with_extension("partial");
    let mut out = BufWriter::new(File::create(&partial).with_context(failed)?);
    for record in records {
        serde_json::to_writer(&mut out, &record).with_context(failed)?;
        out.write_all(b"\n").with_context(failed)?;
    }
    out.flush().with_context(failed)?;
    std::fs::rename(&partial, path).with_context(failed)
}

/// Each completion with its task. A completion of an unknown task, or two with one number, are errors.
pub(crate) fn pair<'a>(
    tasks: &'a [Task],
    completions: &'a [Completion],
) -> Result<Vec<(&'a Task, &'a Completion)>> {
    let by_id: BTreeMap<&str, &Task> = tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let mut seen = BTreeMap::new();
    completions
        .iter()
        .enumerate()
        .map(|(index, completion)| {
            let Some(task) = by_id.get(completion.task_id.as_str()) else {
                bail!("completion {}: no task has the id `{}`", index + 1, completion.task_id);
            };
            if let Some(first) = seen.insert((&completion.task_id, completion.sample), index) {
                bail!(
                    "completions {} and {}: both are sample {} of task `{}`",
                    first + 1,
                    index + 1,
                    completion.sample,
                    completion.task_id
                );
            }
            Ok((*task, completion))
        })
        .collect()
}
