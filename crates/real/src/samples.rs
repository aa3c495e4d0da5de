//! What was asked, answered and judged: the records of `samples/` in a run folder and of `samples.jsonl` in that of an evaluation.

use std::borrow::Cow;

use real_reward::{Score, Task};
use serde::{Deserialize, Serialize};

/// One answer with all that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample<'a> {
    /// The task.
    pub task_id: Cow<'a, str>,
    /// The weaknesses that the task provokes.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub cwe: Cow<'a, [String]>,
    /// The task's label `split`: `test`, or `held-out` for templates that training never saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Cow<'a, str>>,
    /// The last message of the prompt.
    pub prompt: Cow<'a, str>,
    /// The answer.
    pub completion: Cow<'a, str>,
    /// Its tokens, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// The verdicts.
    pub score: Cow<'a, Score>,
}

impl<'a> Sample<'a> {
    /// The record of one answer.
    pub(crate) fn new(task: &'a Task, completion: &'a str, tokens: Option<usize>, score: &'a Score) -> Self {
        Self {
            task_id: Cow::Borrowed(&task.id),
            cwe: Cow::Borrowed(&task.cwe),
            split: task.labels.get("split").map(|split| Cow::Borrowed(split.as_str())),
            prompt: Cow::Borrowed(task.messages.last().map_or("", |message| &message.content)),
            completion: Cow::Borrowed(completion),
            tokens,
            score: Cow::Borrowed(score),
        }
    }
}
