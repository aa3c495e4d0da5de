//! `real eval`: Function, Quality and both of a model, an endpoint, given completions, or the tasks' own solutions.
//!
//! An evaluation that was interrupted goes on when the same command is given again: answers are kept as they come, and so are scores, until
//! both stand in their files. Judging the same answers again costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_reward::{Score, SolutionKind, Task, read_jsonl, write_jsonl};
use serde_json::{Value, json};

use crate::Status;
use crate::endpoint::EndpointArgs;
use crate::evaluation::{Counts, Profile, by_group, by_weakness, coverage_table, pass_at_k, table};
use crate::generate::{SamplingArgs, generate};
use crate::records::{self, Completion};
use crate::samples::Sample;
use crate::{causes, endpoint, judged, tasks, tools};

/// Answers of an evaluation that is not through yet, in the output folder.
const KEPT: &str = "answers.partial.jsonl";

/// Causes of failure that are printed.
const CAUSES_SHOWN: usize = 8;

/// Arguments of `real eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: tasks::Which,
    #[command(flatten)]
    subject: Subject,
    /// The folder for `metrics.json`, `completions.jsonl`, `scores.jsonl` and `samples.jsonl`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What counts as right and good: `honest`, or `paper` for the definitions of the paper's scripts.
    #[arg(long, default_value = "honest")]
    profile: Profile,
    /// The folder of another evaluation, to compare the weaknesses that were found.
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
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
    /// The tasks' own solutions of a kind, which puts the judges to the test: `secure`, `insecure`, `wrong`, `untyped`, or `reference`.
    #[arg(long, value_name = "KIND")]
    solutions: Option<Solutions>,
}

/// Solutions that come with the tasks.
#[derive(Debug, Clone, Copy)]
enum Solutions {
    Reference,
    Kind(SolutionKind),
}

impl std::str::FromStr for Solutions {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "reference" {
            return Ok(Self::Reference);
        }
        let kind = serde_json::from_value(Value::from(name));
        kind.map(Self::Kind).map_err(|_| {
            format!("no solutions `{name}`: secure, insecure, wrong, untyped or reference is expected")
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let tasks = args.sampling.prompted(tasks::load(&args.which)?);
    if tasks.is_empty() {
        bail!("there are no tasks to evaluate on");
    }
    let baseline = args.baseline.as_deref().map(read_scores).transpose()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let completions = completions(args, &tasks)?;
    write_jsonl(&args.out.join("completions.jsonl"), &completions)?;
    let kept = args.out.join(KEPT);
    if kept.exists() {
        std::fs::remove_file(&kept).context("cannot remove the answers that are written elsewhere now")?;
    }
    let pairs = records::pair(&tasks, &completions)?;
    let scores = scores(args, &pairs)?;
    write_jsonl(&args.out.join("scores.jsonl"), &scores)?;
    let samples =
        pairs.iter().zip(&scores).map(|((task, c), score)| Sample::new(task, &c.completion, None, score));
    write_jsonl(&args.out.join("samples.jsonl"), samples)?;

    let path = args.out.join("metrics.json");
    let metrics = metrics(args, &tasks, &scores, baseline.as_deref());
    std::fs::write(&path, serde_json::to_string_pretty(&metrics)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    print_tables(&tasks, &scores, baseline.as_deref());
    println!("\nwritten to {}; `real report {0}` makes a page of it", args.out.display());
    Ok(Status::Clean)
}

/// The scores of answers, by the definitions of the profile.
fn scores(args: &Args, pairs: &[(&Task, &Completion)]) -> Result<Vec<Score>> {
    let scorer = tools::scorer(&args.profile.reward())?;
    let answers: Vec<Completion> = pairs
        .iter()
        .map(|(task, c)| Completion {
            completion: args.profile.answer(task, &c.completion).into_owned(),
            ..(*c).clone()
        })
        .collect();
    let prepared: Vec<(&Task, &Completion)> =
        pairs.iter().zip(&answers).map(|((task, _), answer)| (*task, answer)).collect();
    let mut scores = judged::score(&scorer, &prepared, &args.out.join("judged.jsonl"))?;
    for (score, (task, _)) in scores.iter_mut().zip(pairs) {
        args.profile.apply(task, score);
    }
    Ok(scores)
}

/// What `metrics.json` holds.
fn metrics(args: &Args, tasks: &[Task], scores: &[Score], baseline: Option<&[Score]>) -> Value {
    let rates = |groups: BTreeMap<String, Counts>| {
        groups
            .iter()
            .map(|(name, counts)| (name.clone(), json!(counts.rates())))
            .collect::<serde_json::Map<_, _>>()
    };
    json!({
        "benchmark": tasks[0].benchmark,
        "split": args.which.split.to_string(),
        "subject": args.subject.name(),
        "profile": args.profile.to_string(),
        "sampling": args.sampling.settings(),
        "tasks": tasks.len(),
        "completions": scores.len(),
        "all": Counts::of(scores).rates(),
        "by_cwe": rates(cwes(tasks, scores)),
        "by_split": rates(splits(tasks, scores)),
        "pass_at_k": pass_at_k(scores),
        "weaknesses": by_weakness(scores),
        "baseline_weaknesses": baseline.map(by_weakness),
        "failures": causes::group(scores),
    })
}

fn cwes(tasks: &[Task], scores: &[Score]) -> BTreeMap<String, Counts> {
    by_group(tasks, scores, |task| task.cwe.clone())
}

fn splits(tasks: &[Task], scores: &[Score]) -> BTreeMap<String, Counts> {
    by_group(tasks, scores, |task| task.labels.get("split").cloned().into_iter().collect())
}

fn print_tables(tasks: &[Task], scores: &[Score], baseline: Option<&[Score]>) {
    let (by_split, by_cwe) = (splits(tasks, scores), cwes(tasks, scores));
    let mut rows = vec![("all", Counts::of(scores))];
    if by_split.len() > 1 {
        rows.extend(by_split.iter().map(|(name, counts)| (name.as_str(), *counts)));
    }
    rows.extend(by_cwe.iter().map(|(name, counts)| (name.as_str(), *counts)));
    print!("{}", table("", rows));
    let estimates = pass_at_k(scores);
    if !estimates.is_empty() {
        println!("\none of k answers");
        for estimate in estimates {
            let (function, joint) = (100.0 * estimate.function, 100.0 * estimate.joint);
            println!("k = {:<4} right {function:5.1} %   right and good {joint:5.1} %", estimate.k);
        }
    }
    let here = by_weakness(scores);
    let there = baseline.map(|scores| (by_weakness(scores), scores.len()));
    println!("\nweaknesses found");
    print!(
        "{}",
        coverage_table((&here, scores.len()), there.as_ref().map(|(counts, total)| (counts, *total)))
    );
    let failures = causes::group(scores);
    if !failures.is_empty() {
        println!("\nwhy programs fail, each under the first cause that holds");
    }
    for group in failures.iter().take(CAUSES_SHOWN) {
        let examples: Vec<&str> = group.examples.iter().map(|(id, _)| id.as_str()).collect();
        println!("{:>5}  {}  ({})", group.count, group.cause, examples.join(", "));
    }
}

fn read_scores(folder: &Path) -> Result<Vec<Score>> {
    let file = folder.join("scores.jsonl");
    read_jsonl(&file).with_context(|| format!("{} is no folder of an evaluation", folder.display()))
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Self { model: Some(model), .. } => model.clone(),
            Self { endpoint: Some(url), .. } => url.clone(),
            Self { completions: Some(file), .. } => file.display().to_string(),
            Self { solutions: Some(Solutions::Kind(kind)), .. } => {
                format!("the tasks' own solutions: {}", json!(kind).as_str().unwrap_or_default())
            }
            Self { .. } => "the tasks' own references".to_owned(),
        }
    }
}

/// The completions to judge: the endpoint's, the model's, those given, or those that come with the tasks.
fn completions(args: &Args, tasks: &[Task]) -> Result<Vec<Completion>> {
    let kept = args.out.join(KEPT);
    match &args.subject {
        Subject { endpoint: Some(url), .. } => {
            endpoint::answer(url, &args.endpoint, tasks, &args.sampling, &kept)
        }
        Subject { model: Some(model), .. } => generate(model, tasks, &args.sampling, &kept),
        Subject { completions: Some(file), .. } => given(file, tasks),
        Subject { solutions: Some(which), .. } => solutions(*which, tasks),
        Subject { .. } => bail!("--model, --endpoint, --completions or --solutions is required"),
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

/// The tasks' solutions of a kind, as completions. Tasks without one are left out.
fn solutions(which: Solutions, tasks: &[Task]) -> Result<Vec<Completion>> {
    let mut completions = Vec::new();
    for task in tasks {
        let codes: Vec<&str> = match which {
            Solutions::Reference => task.reference.as_deref().into_iter().collect(),
            Solutions::Kind(kind) => {
                task.solutions.iter().filter(|s| s.kind == kind).map(|s| s.code.as_str()).collect()
            }
        };
        completions.extend(codes.iter().enumerate().map(|(sample, code)| Completion {
            task_id: task.id.clone(),
            sample: sample as u64,
            completion: format!("````python\n{}\n````", code.trim_end()),
        }));
    }
    if completions.is_empty() {
        bail!("no task has such a solution");
    }
    Ok(completions)
}
