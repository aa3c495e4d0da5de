//! `real generate`: a model answers tasks.

use std::path::PathBuf;

use anyhow::{Result, bail};
use real_lm::Checkpoint;
use real_reward::{Task, read_jsonl, write_jsonl};

use crate::Status;
use crate::policy::{self, Sampler};
use crate::progress::Progress;
use crate::records::Completion;

/// Arguments of `real generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder in Hugging Face layout, a GGUF file, or a hub name that is in the local cache.
    #[arg(long, value_name = "M")]
    model: String,
    /// The tasks, as `real tasks` prints them.
    #[arg(long, value_name = "TASKS.jsonl")]
    tasks: PathBuf,
    /// Where the completions go.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How to sample.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SamplingArgs {
    /// Sampling temperature; 0 takes the most probable token.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Nucleus sampling: the smallest set of tokens with this probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Answers a task.
    #[arg(long, default_value_t = 1)]
    pub samples: usize,
    /// Longest answer, tokens.
    #[arg(long, default_value_t = 1024)]
    pub max_new_tokens: usize,
    /// Sequences decoded at once, or requests to an endpoint.
    #[arg(long, default_value_t = 16)]
    pub concurrency: usize,
    /// End an answer where its first code block closes.
    #[arg(long)]
    pub stop_at_code_end: bool,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl SamplingArgs {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        if self.samples == 0 {
            bail!("--samples must be at least 1");
        }
        if self.samples > 1 && self.temperature <= 0.0 {
            bail!("--samples {} at temperature 0 would repeat one answer: set --temperature", self.samples);
        }
        Ok(())
    }
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let tasks: Vec<Task> = read_jsonl(&args.tasks)?;
    let checkpoint = policy::load(&args.model)?;
    let completions = generate(&checkpoint, &tasks, &args.sampling)?;
    write_jsonl(&args.out, &completions)?;
    println!("{} completions in {}", completions.len(), args.out.display());
    Ok(Status::Clean)
}

/// Completions of all tasks, in order, `samples` of each.
pub(crate) fn generate(
    checkpoint: &Checkpoint,
    tasks: &[Task],
    args: &SamplingArgs,
) -> Result<Vec<Completion>> {
    args.check()?;
    let asked: Vec<&Task> = tasks.iter().flat_map(|task| std::iter::repeat_n(task, args.samples)).collect();
    let sampler = Sampler {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens,
        concurrency: args.concurrency,
        stop_at_code_end: args.stop_at_code_end,
        seed: args.seed,
    };
    let mut progress = Progress::new("generate", asked.len());
    let responses = sampler.sample(&checkpoint.model, checkpoint, &asked, |done| progress.set(done, ""))?;
    progress.finish();
    Ok(asked
        .iter()
        .zip(responses)
        .enumerate()
        .map(|(index, (task, response))| Completion {
            task_id: task.id.clone(),
            sample: (index % args.samples) as u64,
            completion: response.text,
        })
        .collect())
}
