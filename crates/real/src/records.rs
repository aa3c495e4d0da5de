//! Completions: what `real generate` writes and `real score` reads, one JSON object a line.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use real_reward::Task;
use serde::{Deserialize, Serialize};

/// A model's answer to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the record format names the field `completion`")]
pub(crate) struct Completion {
    /// The task.
    pub task_id: String,
    /// Number of the answer, from 0.
    #[serde(default)]
    pub sample: u64,
    /// The text of the answer.
    pub completion: String,
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
