//! `real generate`: a model answers tasks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_lm::cuda::{Engine, PREFILL_TOKENS, Purpose as EngineFor};
use real_lm::memory::Decoding;
use real_lm::{BlockModel, Checkpoint, Device, Writer};
use real_reward::{Message, Task, read_jsonl, write_jsonl};
use serde_json::{Value, json};

use crate::Status;
use crate::kept::Kept;
use crate::policy::{self, Response, Sampler};
use crate::progress::Progress;
use crate::records::Completion;
use crate::seeds::{Purpose, derive};

/// Answers are kept whenever this many times `--concurrency` have come.
const CHUNK: usize = 4;

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
    /// A system message before every task, such as one that asks for secure code.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// With a GGUF file: compute with its quantised weights as they are. Several times faster for a few sequences, and a little different.
    #[arg(long)]
    pub quantized: bool,
    /// What computes: `cpu`, or `cuda` for the first NVIDIA GPU.
    #[arg(long, default_value = "cpu", conflicts_with = "quantized")]
    pub device: Device,
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

    /// The tasks with the system message in front, if there is one.
    pub(crate) fn prompted(&self, mut tasks: Vec<Task>) -> Vec<Task> {
        if let Some(system) = &self.system {
            for task in &mut tasks {
                task.messages.insert(0, Message { role: "system".to_owned(), content: system.clone() });
            }
        }
        tasks
    }

    /// The model on the first GPU.
    fn engine(&self, checkpoint: &Checkpoint, tasks: &[Task]) -> Result<Engine> {
        let prompts = tasks.iter().map(|task| Ok(policy::prompt_ids(checkpoint, task)?.len()));
        let max_prompt = prompts.collect::<Result<Vec<usize>>>()?.into_iter().max().unwrap_or(0);
        let decoding = Decoding { max_prompt, max_response: self.max_new_tokens, batch: self.concurrency };
        Ok(Engine::open(&checkpoint.model, &decoding.on_gpu(EngineFor::Scoring, PREFILL_TOKENS))?)
    }

    fn sampler(&self, seed: u64) -> Sampler {
        Sampler {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: self.max_new_tokens,
            concurrency: self.concurrency,
            stop_at_code_end: self.stop_at_code_end,
            seed,
        }
    }

    /// What answers depend on besides the model and the task.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "concurrency": self.concurrency,
            "stop_at_code_end": self.stop_at_code_end,
            "seed": self.seed,
            "system": self.system,
            "quantized": self.quantized,
            "device": self.device,
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let tasks = args.sampling.prompted(read_jsonl(&args.tasks)?);
    let kept = args.out.with_extension("partial.jsonl");
    let completions = generate(&args.model, &tasks, &args.sampling, &kept)?;
    write_jsonl(&args.out, &completions)?;
    std::fs::remove_file(&kept).context("cannot remove the answers that are written elsewhere now")?;
    println!("{} completions in {}", completions.len(), args.out.display());
    Ok(Status::Clean)
}

/// Completions of all tasks, in order, `samples` of each. Answers are kept in the file `kept` as they come, and those that are there already
/// are not written again.
pub(crate) fn generate(
    model: &str,
    tasks: &[Task],
    args: &SamplingArgs,
    kept: &Path,
) -> Result<Vec<Completion>> {
    args.check()?;
    let mut settings = args.settings();
    settings["model"] = model.into();
    let mut kept = Kept::open(kept, &settings)?;
    if kept.len() > 0 {
        eprintln!("{}: going on from there", kept.described());
    }
    let asked: Vec<(&Task, u64)> =
        tasks.iter().flat_map(|task| (0..args.samples as u64).map(move |sample| (task, sample))).collect();
    let checkpoint = policy::load(model)?;
    let read_blocks = || BlockModel::from_gguf(Path::new(model)).context("--quantized needs a GGUF file");
    let blocks = args.quantized.then(read_blocks).transpose()?;
    let mut engine = (args.device == Device::Cuda).then(|| args.engine(&checkpoint, tasks)).transpose()?;
    let mut writer = match (&mut engine, &blocks) {
        (Some(engine), _) => Writer::Gpu(engine),
        (_, Some(blocks)) => Writer::from(blocks),
        _ => Writer::from(&checkpoint.model),
    };
    let mut progress = Progress::new("generate", asked.len());
    for (index, chunk) in asked.chunks((CHUNK * args.concurrency).max(1)).enumerate() {
        if chunk.iter().all(|asked| kept.get(*asked).is_some()) {
            continue;
        }
        // The seed belongs to the chunk, so that a chunk gets the same answers whether those before it are made now or were kept.
        let sampler = args.sampler(derive(args.seed, Purpose::Sampling, index as u64));
        let mut done = kept.len();
        let asked: Vec<&Task> = chunk.iter().map(|(task, _)| *task).collect();
        let show = |_: usize, _: &Response| {
            done += 1;
            progress.set(done, "");
        };
        let responses = sampler.sample(&mut writer, &checkpoint, &asked, || false, show)?;
        for ((task, sample), response) in chunk.iter().zip(responses) {
            kept.push(Completion { task_id: task.id.clone(), sample: *sample, completion: response.text })?;
        }
    }
    progress.finish();
    Ok(kept.all(&asked))
}
