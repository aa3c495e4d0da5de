//! Scores that outlive an interruption, and spare judging the same answers twice.
//!
//! A file beside the results has one line for each answer that was judged. Its first line says by what: the configuration, and the program that
//! judged, by a hash of its file. Scores of other judges are not used. Timeouts and our own failures are not kept, since another try may end
//! otherwise.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use real_reward::{CaseVerdict, Score, Scorer, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::progress::Progress;
use crate::records::Completion;

/// Answers that are judged between two writes.
const CHUNK: usize = 64;

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    score: Score,
}

/// Judges completions, in order; those that the file has are taken from it.
pub(crate) fn score(scorer: &Scorer, pairs: &[(&Task, &Completion)], file: &Path) -> Result<Vec<Score>> {
    let judges = json!({ "judges": { "program": this_program()?, "reward": scorer.config() } });
    let mut known = read(file, &judges);
    let mut out =
        create(file, &judges, &known).with_context(|| format!("cannot write {}", file.display()))?;
    let mut progress = Progress::new("score", pairs.len());
    let keys: Vec<String> = pairs.iter().map(|(task, completion)| key(task, completion)).collect();
    let mut seen = HashSet::new();
    let open: Vec<usize> = (0..pairs.len())
        .filter(|index| !known.contains_key(&keys[*index]) && seen.insert(&keys[*index]))
        .collect();
    let done_before = pairs.len() - open.len();
    for (number, chunk) in open.chunks(CHUNK).enumerate() {
        let items: Vec<(&Task, &str)> =
            chunk.iter().map(|index| (pairs[*index].0, pairs[*index].1.completion.as_str())).collect();
        for (index, score) in chunk.iter().zip(scorer.score_batch(&items)) {
            if is_final(&score) {
                write(&mut out, &keys[*index], &score)?;
            }
            known.insert(keys[*index].clone(), score);
        }
        out.flush().with_context(|| format!("cannot write {}", file.display()))?;
        progress.set(done_before + number * CHUNK + chunk.len(), "");
    }
    progress.finish();
    Ok(keys
        .iter()
        .zip(pairs)
        .map(|(key, (_, completion))| Score { sample: completion.sample, ..known[key].clone() })
        .collect())
}

/// Whether another try could not end otherwise.
fn is_final(score: &Score) -> bool {
    score.infra_error.is_none() && score.tests.cases.iter().all(|case| case.verdict != CaseVerdict::Timeout)
}

/// What a score depends on besides the judges.
fn key(task: &Task, completion: &Completion) -> String {
    let task = serde_json::to_string(task).expect("a task is plain data");
    format!("{:016x}{:016x}", fnv(task.as_bytes()), fnv(completion.completion.as_bytes()))
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn this_program() -> Result<String> {
    let path = std::env::current_exe().context("cannot find the program that runs")?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:016x}", fnv(&bytes)))
}

/// The scores in a file of these judges; of a line that was cut off and what follows, none.
fn read(file: &Path, judges: &Value) -> HashMap<String, Score> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    if lines.next().and_then(|first| serde_json::from_str::<Value>(first).ok()).as_ref() != Some(judges) {
        return HashMap::new();
    }
    lines.map_while(|line| serde_json::from_str(line).ok()).map(|Line { key, score }| (key, score)).collect()
}

fn create(file: &Path, judges: &Value, known: &HashMap<String, Score>) -> Result<BufWriter<File>> {
    if known.is_empty() {
        std::fs::write(file, format!("{judges}\n"))?;
    } else {
        // A line that was cut off must not swallow the next.
        let text = std::fs::read_to_string(file)?;
        let whole: String = text.split_inclusive('\n').take(known.len() + 1).collect();
        std::fs::write(file, whole)?;
    }
    Ok(BufWriter::new(OpenOptions::new().append(true).open(file)?))
}

fn write(out: &mut BufWriter<File>, key: &str, score: &Score) -> Result<()> {
    let line = Line { key: key.to_owned(), score: score.clone() };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_other_judges_and_broken_lines_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("judged.jsonl");
        let judges = json!({"judges": 1});
        let score = Score::outage("t", 0, "why");
        let mut out = create(&file, &judges, &HashMap::new()).unwrap();
        write(&mut out, "a", &score).unwrap();
        out.write_all(b"{\"key\": \"b\", \"sco").unwrap();
        drop(out);
        let known = read(&file, &judges);
        assert_eq!(known.keys().collect::<Vec<_>>(), ["a"]);
        assert!(read(&file, &json!({"judges": 2})).is_empty());

        let mut out = create(&file, &judges, &known).unwrap();
        write(&mut out, "c", &score).unwrap();
        drop(out);
        assert_eq!(read(&file, &judges).len(), 2);
    }
}
