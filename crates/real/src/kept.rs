//! Answers that outlive an interruption: a file that grows with each of them.
//!
//! ```text
//!  {"model": "qwen", "temperature": 0.0, …}                              the settings, which must be the same to go on
//!  {"task_id": "starter-7", "sample": 0, "completion": "…"}              as the answers came
//! ```

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_reward::Task;
use serde_json::Value;

use crate::records::Completion;

/// The answers that have come.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    file: File,
    completions: HashMap<(String, u64), String>,
}

impl Kept {
    /// Takes over what an earlier evaluation with the same settings has left. A line that was cut off when it was killed goes.
    pub(crate) fn open(path: &Path, settings: &Value) -> Result<Self> {
        let context = || format!("cannot use {}", path.display());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(context),
        };
        let mut completions = HashMap::new();
        let mut whole = 0;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            if whole == 0 {
                Self::same_settings(path, line, settings)?;
            } else if let Ok(Completion { task_id, sample, completion }) = serde_json::from_str(line) {
                completions.insert((task_id, sample), completion);
            } else {
                break;
            }
            whole += line.len();
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).with_context(context)?;
        file.set_len(whole as u64).with_context(context)?;
        if whole == 0 {
            writeln!(file, "{settings}").with_context(context)?;
        }
        Ok(Self { path: path.to_owned(), file, completions })
    }

    /// Answers there are.
    pub(crate) fn len(&self) -> usize {
        self.completions.len()
    }

    /// How many answers there are and where, in words.
    pub(crate) fn described(&self) -> String {
        format!("{} answers are kept in {}", self.len(), self.path.display())
    }

    /// The answers to all that was asked, in that order.
    ///
    /// # Panics
    /// If one has not come.
    pub(crate) fn all(&self, asked: &[(&Task, u64)]) -> Vec<Completion> {
        asked
            .iter()
            .map(|(task, sample)| Completion {
                task_id: task.id.clone(),
                sample: *sample,
                completion: self.get((task, *sample)).expect("every answer has come").to_owned(),
            })
            .collect()
    }

    fn same_settings(path: &Path, line: &str, settings: &Value) -> Result<()> {
        if serde_json::from_str::<Value>(line).is_ok_and(|earlier| earlier == *settings) {
            return Ok(());
        }
        bail!(
            "{} holds answers of an evaluation with other settings: {}; remove it, choose another folder, or repeat those settings",
            path.display(),
            line.trim_end()
        )
    }

    pub(crate) fn get(&self, (task, sample): (&Task, u64)) -> Option<&str> {
        self.completions.get(&(task.id.clone(), sample)).map(String::as_str)
    }

    /// Writes an answer through to the file.
    pub(crate) fn push(&mut self, completion: Completion) -> Result<()> {
        let line = serde_json::to_string(&completion)? + "\n";
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.completions.insert((completion.task_id, completion.sample), completion.completion);
        Ok(())
    }
}
