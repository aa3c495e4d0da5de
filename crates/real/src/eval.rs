//! `real eval`: Function, Quality and both of a model or of given completions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use real_reward::{RewardConfig, Task, read_jsonl, write_jsonl};
use serde_json::json;

use crate::Status;
use crate::evaluation::{Counts, by_group, table};
use crate::generate::{SamplingArgs, generate};
use crate::records::{self, Completion};
use crate::score::score;
use crate::{policy, tasks, tools};

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
}

/// What is evaluated.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// A folder in Hugging Face layout, a GGUF file, or a hub name that is in the local cache.
    #[arg(long, value_name = "M")]
    model: Option<String>,
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

/// The completions to judge: those given, which must cover every task, or the model's.
fn completions(args: &Args, tasks: &[Task]) -> Result<Vec<Completion>> {
    let Some(file) = &args.subject.completions else {
        let model = args.subject.model.as_deref().context("--model or --completions is required")?;
        return generate(&policy::load(model)?, tasks, &args.sampling);
    };
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
