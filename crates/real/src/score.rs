//! `real score`: completions in, one line per completion and a summary out.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use real_reward::{Score, Scorer, Task, read_jsonl, write_jsonl};

use crate::Status;
use crate::config;
use crate::evaluation::{Counts, table};
use crate::progress::Progress;
use crate::records::{self, Completion};
use crate::tools;

/// Completions that are judged between two updates of the progress display.
const CHUNK: usize = 64;

/// Arguments of `real score`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tasks, as `real tasks` prints them.
    #[arg(long, value_name = "TASKS.jsonl")]
    tasks: PathBuf,
    /// The completions: `{"task_id", "sample", "completion"}` a line.
    #[arg(long, value_name = "FILE.jsonl")]
    completions: PathBuf,
    /// α, the weight of quality against function.
    #[arg(long)]
    alpha: Option<f64>,
    /// Change a value of the reward, such as `--set aggregation=gated`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where the scores go; standard output without it.
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let config = config::reward(args.alpha, &args.set)?;
    let tasks: Vec<Task> = read_jsonl(&args.tasks)?;
    let completions: Vec<Completion> = read_jsonl(&args.completions)?;
    let pairs = records::pair(&tasks, &completions)?;
    let scorer = tools::scorer(&config)?;
    let scores = score(&scorer, &pairs);
    if let Some(path) = &args.out {
        write_jsonl(path, &scores)?;
    } else {
        let mut out = BufWriter::new(std::io::stdout().lock());
        for score in &scores {
            serde_json::to_writer(&mut out, score)?;
            out.write_all(b"\n").context("cannot write the scores")?;
        }
        out.flush()?;
    }
    eprint!("{}", table("", [("all", Counts::of(&scores))]));
    let rewards: Vec<f64> = scores.iter().filter_map(|s| s.reward).collect();
    eprintln!("mean reward {:+.4}", rewards.iter().sum::<f64>() / rewards.len().max(1) as f64);
    Ok(Status::Clean)
}

/// Judges completions, in order, with a progress display.
pub(crate) fn score(scorer: &Scorer, pairs: &[(&Task, &Completion)]) -> Vec<Score> {
    let mut progress = Progress::new("score", pairs.len());
    let mut scores = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(CHUNK) {
        let items: Vec<(&Task, &str)> =
            chunk.iter().map(|(task, c)| (*task, c.completion.as_str())).collect();
        for (score, (_, completion)) in scorer.score_batch(&items).into_iter().zip(chunk) {
            scores.push(Score { sample: completion.sample, ..score });
        }
        progress.set(scores.len(), "");
    }
    progress.finish();
    scores
}
