//! `real eval`: Function, Quality and both of a model, an endpoint or given completions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_reward::{RewardConfig, Task, read_jsonl, write_jsonl};
use serde_json::json;

use crate::Status;
use crate::endpoint::EndpointArgs;
use crate::evaluation::{Counts, by_group, table};
use crate::generate::{SamplingArgs, generate};
use crate::records::{self, Completion};
use crate::score::score;
use crate::{endpoint, policy, tasks, tools};

/// Answers of an endpoint that is not through yet, in the output folder.
const KEPT: &str = "answers.partial.jsonl";

/// Arguments of `real eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: tasks::Which,
    #[command(flatten)]
    subject: Subject,
    /// The folder for `metrics.json`, `completions.jsonl` and `scores.jsonl`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// What is evaluated.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// A folder in Hugging Face layout, a GGUF file, or a hub name that is in the local cache.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// An OpenAI-compatible server (vLLM, llama.cpp), such as `http://localhost:8000/v1`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A file of completions.
    #[arg(long, value_name = "FILE.jsonl")]
    completions: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let tasks = tasks::load(&args.which)?;
    if tasks.is_empty() {
        bail!("there are no tasks to evaluate on");
    }
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let scorer = tools::scorer(&RewardConfig::default())?;
    let completions = completions(args, &tasks)?;
    write_jsonl(&args.out.join("completions.jsonl"), &completions)?;
    if args.subject.endpoint.is_some() {
        std::fs::remove_file(args.out.join(KEPT))
            .context("cannot remove the answers that are written elsewhere now")?;
    }
    let scores = score(&scorer, &records::pair(&tasks, &completions)?);
    write_jsonl(&args.out.join("scores.jsonl"), &scores)?;

    let all = Counts::of(&scores);
    let by_cwe = by_group(&tasks, &scores, |task| task.cwe.clone());
    let by_split = by_group(&tasks, &scores, |task| task.labels.get("split").cloned().into_iter().collect());
    let rates = |groups: &BTreeMap<String, Counts>| {
        groups
            .iter()
            .map(|(name, counts)| (name.clone(), json!(counts.rates())))
            .collect::<serde_json::Map<_, _>>()
    };
    let metrics = json!({
        "benchmark": tasks[0].benchmark,
        "tasks": tasks.len(),
        "completions": completions.len(),
        "all": all.rates(),
        "by_cwe": rates(&by_cwe),
        "by_split": rates(&by_split),
    });
    let path = args.out.join("metrics.json");
    std::fs::write(&path, serde_json::to_string_pretty(&metrics)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;

    let mut rows = vec![("all", all)];
    if by_split.len() > 1 {
        rows.extend(by_split.iter().map(|(name, counts)| (name.as_str(), *counts)));
    }
    rows.extend(by_cwe.iter().map(|(name, counts)| (name.as_str(), *counts)));
    print!("{}", table("", rows));
    println!("written to {}", args.out.display());
    Ok(Status::Clean)
}

/// The completions to judge: the endpoint's, the model's, or those given.
fn completions(args: &Args, tasks: &[Task]) -> Result<Vec<Completion>> {
    match &args.subject {
        Subject { endpoint: Some(url), .. } => {
            endpoint::answer(url, &args.endpoint, tasks, &args.sampling, &args.out.join(KEPT))
        }
        Subject { model: Some(model), .. } => generate(&policy::load(model)?, tasks, &args.sampling),
        Subject { completions: Some(file), .. } => given(file, tasks),
        Subject { .. } => bail!("--model, --endpoint or --completions is required"),
    }
}

/// Completions from a file, which must cover every task.
fn given(file: &Path, tasks: &[Task]) -> Result<Vec<Completion>> {
    let mut completions: Vec<Completion> = read_jsonl(file)?;
    let wanted: BTreeSet<&str> = tasks.iter().map(|t| t.id.as_str()).collect();
    completions.retain(|c| wanted.contains(c.task_id.as_str()));
    let answered: BTreeSet<&str> = completions.iter().map(|c| c.task_id.as_str()).collect();
    if let Some(missing) = tasks.iter().find(|t| !answered.contains(t.id.as_str())) {
        bail!(
            "{} answers {} of {} tasks; the first without an answer is `{}`",
            file.display(),
            answered.len(),
            tasks.len(),
            missing.id
        );
    }
    Ok(completions)
}
