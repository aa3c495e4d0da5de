//! `real train`: the whole loop. Prompts → responses → programs → three judges → rewards → PPO.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use real_lm::{Checkpoint, PpoTrainer, Rollout, WeightType};
use real_reward::{Score, Scorer, Task, write_jsonl};

use crate::Status;
use crate::config::{Args, Config};
use crate::evaluation::{self, Counts};
use crate::interrupt::Interrupt;
use crate::policy::{self, Response, Sampler};
use crate::progress::Progress;
use crate::run_folder::{Existing, RunFolder};
use crate::samples::Sample;
use crate::seeds::{Purpose, derive};
use crate::{report, sft, tasks, tools};

/// A step trains on nothing, and the run stops, when more than this fraction of its rollouts has no verdict.
const MAX_INFRA_ERRORS: f64 = 0.5;

/// Rollouts of each step that are kept in `samples/`.
const SAMPLES_KEPT: usize = 8;

/// Test tasks that are watched (`eval.watch_every`).
const WATCHED: usize = 8;

/// How often the page of a run is written anew.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The file of a checkpoint that holds the optimiser and the critic.
const TRAINER_STATE: &str = "trainer.safetensors";

/// `real train CONFIG.toml`
pub(crate) fn run(args: &Args) -> Result<Status> {
    let config = Config::load(args)?;
    let interrupt = Interrupt::install()?;
    let resumed = if args.resume { resumption(&config)? } else { None };
    let existing = match &resumed {
        Some((step, _)) => Existing::Resume { next_step: step + 1 },
        None if args.resume => Existing::Resume { next_step: 0 },
        None if args.overwrite => Existing::Overwrite,
        None => Existing::Refuse,
    };
    let train_tasks = tasks::train(&config)?;
    let test_tasks = tasks::test(&config)?;
    let mut folder = RunFolder::open(&config, existing)?;
    let scorer = tools::scorer(&config.reward)?;
    let examiner = tools::scorer(&config.eval.reward)?;

    let Some(base) = base_policy(&config, &train_tasks, &interrupt)? else {
        eprintln!("interrupted during supervised fine-tuning: nothing was saved");
        return Ok(Status::Found);
    };
    let prompts = policy::fitting(&base, train_tasks, config.rollout.max_prompt_tokens)?;
    let mut run = Run {
        config: &config,
        base: &base,
        prompts: &prompts,
        test: &test_tasks,
        scorer: &scorer,
        examiner: &examiner,
    };
    run.go(resumed, &mut folder, &interrupt)
}

/// The policy that PPO starts from, which is also the reference of the KL divergence.
fn base_policy(config: &Config, tasks: &[Task], interrupt: &Interrupt) -> Result<Option<Checkpoint>> {
    let Some(settings) = &config.sft else {
        return Ok(Some(policy::initial(config, &[])?));
    };
    let stage = sft::stage_folder(&config.run.dir);
    let saved = stage.join("checkpoint");
    if saved.exists() {
        return Ok(Some(Checkpoint::load(&saved)?));
    }
    let answers = sft::answers(tasks, &config.data, config.seed)?;
    let start = policy::initial(config, &answers)?;
    let mut stage_config = config.clone();
    stage_config.run.dir = stage;
    let mut folder = RunFolder::open(&stage_config, Existing::Overwrite)?;
    let Some(trained) = sft::train(start, settings, &answers, config.seed, &mut folder, interrupt)? else {
        return Ok(None);
    };
    trained.save(&saved, WeightType::F32)?;
    // What was saved is what every later resumption reads: go on from the file.
    Ok(Some(Checkpoint::load(&saved)?))
}

/// What a run works with.
struct Run<'a> {
    config: &'a Config,
    base: &'a Checkpoint,
    prompts: &'a [Task],
    test: &'a [Task],
    /// Judges rollouts.
    scorer: &'a Scorer,
    /// Judges at evaluations.
    examiner: &'a Scorer,
}

impl Run<'_> {
    fn go(
        &mut self,
        resumed: Option<(usize, PathBuf)>,
        folder: &mut RunFolder,
        interrupt: &Interrupt,
    ) -> Result<Status> {
        let Config { train, eval, .. } = self.config;
        let reference = (self.config.ppo.kl_coef > 0.0).then(|| self.base.model.clone());
        let mut trainer = PpoTrainer::new(self.base.model.clone(), reference, self.config.ppo.clone());
        let mut done = 0;
        if let Some((step, path)) = resumed {
            trainer.policy = Checkpoint::load(&path)?.model;
            trainer.load_state(&path.join(TRAINER_STATE))?;
            done = step;
            eprintln!("resuming after step {step} from {}", path.display());
        }
        let before = match (done, eval.at_ends) {
            (0, true) => {
                let evaluation = self.evaluate(&trainer, 0, folder)?;
                folder.log(0, &evaluation.metrics())?;
                Some(evaluation)
            }
            _ => None,
        };
        report::refresh(folder.path());
        eprintln!("follow the run in {}", folder.path().join("report.html").display());
        let mut reported = Instant::now();
        let mut progress = Progress::new("ppo", train.steps);
        progress.set(done, "");
        let mut last = None;
        while done < train.steps {
            if interrupt.is_set() {
                let path = self.save(&trainer, done, folder.path())?;
                eprintln!("interrupted: saved {}; go on with --resume", path.display());
                return Ok(Status::Found);
            }
            let mut metrics = self.step(&mut trainer, done, folder, &mut progress)?;
            done += 1;
            let get = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
            progress.set(
                done,
                &format!(
                    "reward {:+.3}  function {:.2}  quality {:.2}  joint {:.2}  kl {:.3}",
                    get("reward/mean"),
                    get("reward/function"),
                    get("reward/quality"),
                    get("reward/joint"),
                    get("objective/kl"),
                ),
            );
            let is_last = done == train.steps;
            if is_last && eval.at_ends || train.eval_every > 0 && done % train.eval_every == 0 {
                let evaluation = self.evaluate(&trainer, done, folder)?;
                metrics.extend(evaluation.metrics());
                last = Some(evaluation);
            } else if eval.watch_every > 0 && done % eval.watch_every == 0 {
                self.watch(&trainer, done, folder)?;
            }
            folder.log(done, &metrics)?;
            if is_last || reported.elapsed() > REPORT_EVERY {
                report::refresh(folder.path());
                reported = Instant::now();
            }
            if is_last || train.save_every > 0 && done % train.save_every == 0 {
                self.save(&trainer, done, folder.path())?;
            }
        }
        progress.finish();
        summarise(before.as_ref(), last.as_ref(), folder.path());
        Ok(Status::Clean)
    }

    /// One step: sample, judge, learn.
    fn step(
        &self,
        trainer: &mut PpoTrainer,
        step: usize,
        folder: &RunFolder,
        progress: &mut Progress,
    ) -> Result<BTreeMap<String, f64>> {
        let rollout = &self.config.rollout;
        let seed = |purpose| derive(self.config.seed, purpose, step as u64);
        let started = Instant::now();
        let tasks = self.prompts_of(step);
        let sampler = Sampler {
            temperature: rollout.temperature,
            top_p: rollout.top_p,
            max_new_tokens: rollout.max_new_tokens,
            concurrency: rollout.concurrency,
            stop_at_code_end: rollout.stop_at_code_end,
            seed: seed(Purpose::Sampling),
        };
        let responses = sampler.sample(&trainer.policy, self.base, &tasks, |ended| {
            progress.set(step, &format!("step {}: {ended} of {} responses", step + 1, tasks.len()));
        })?;
        progress.set(step, &format!("step {}: judging", step + 1));
        let generated = Instant::now();

        let items: Vec<(&Task, &str)> =
            tasks.iter().copied().zip(responses.iter().map(|r| r.text.as_str())).collect();
        let scores = self.scorer.score_batch(&items);
        let scored = Instant::now();
        let failures: Vec<&str> = scores.iter().filter_map(|s| s.infra_error.as_deref()).collect();
        if failures.len() as f64 > MAX_INFRA_ERRORS * scores.len() as f64 {
            bail!(
                "{} of {} rollouts of step {} could not be judged ({}); `real doctor` may say why",
                failures.len(),
                scores.len(),
                step + 1,
                failures[0]
            );
        }

        progress.set(step, &format!("step {}: learning", step + 1));
        let rewards: Vec<Option<f32>> = scores.iter().map(|s| s.reward.map(|r| r as f32)).collect();
        let rollouts: Vec<Rollout> = responses
            .iter()
            .map(|r| Rollout { prompt: r.prompt_ids.clone(), response: r.ids.clone() })
            .collect();
        let update =
            trainer.update(&rollouts, &rewards, rollout.temperature, step, seed(Purpose::MiniBatches));
        if let Some((name, value)) = update.iter().find(|(_, value)| !value.is_finite()) {
            bail!("{name} is {value} at step {}: lower ppo.learning_rate or raise ppo.kl_coef", step + 1);
        }

        let mut metrics = reward_metrics(&scores, &responses);
        metrics.extend(update.into_iter().map(|(name, value)| (name.to_owned(), value)));
        metrics.insert("time/rollout".to_owned(), (generated - started).as_secs_f64());
        metrics.insert("time/reward".to_owned(), (scored - generated).as_secs_f64());
        metrics.insert("time/update".to_owned(), scored.elapsed().as_secs_f64());
        keep_samples(step + 1, &tasks, &responses, &scores, folder)?;
        Ok(metrics)
    }

    /// The tasks of one step: passes over all prompts, each in an order of its own.
    fn prompts_of(&self, step: usize) -> Vec<&Task> {
        let samples = self.config.rollout.samples;
        let per_step = self.config.rollout.batch / samples;
        let mut order: Option<(usize, Vec<usize>)> = None;
        (step * per_step..(step + 1) * per_step)
            .flat_map(|position| {
                let (pass, place) = (position / self.prompts.len(), position % self.prompts.len());
                if order.as_ref().is_none_or(|(of, _)| *of != pass) {
                    let mut indices: Vec<usize> = (0..self.prompts.len()).collect();
                    let seed = derive(self.config.seed, Purpose::PromptOrder, pass as u64);
                    indices.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                    order = Some((pass, indices));
                }
                let index = order.as_ref().map_or(place, |(_, indices)| indices[place]);
                std::iter::repeat_n(&self.prompts[index], samples)
            })
            .collect()
    }

    fn evaluate(&self, trainer: &PpoTrainer, step: usize, folder: &RunFolder) -> Result<Evaluation> {
        let tasks: Vec<&Task> = self.test.iter().collect();
        let scores = self.examine(trainer, &tasks, &format!("eval-{step:06}.jsonl"), folder)?;
        Ok(Evaluation::new(self.test, &scores))
    }

    /// Answers of a few test tasks, spread over all of them, for the report.
    fn watch(&self, trainer: &PpoTrainer, step: usize, folder: &RunFolder) -> Result<()> {
        let every = self.test.len().div_ceil(WATCHED);
        let tasks: Vec<&Task> = self.test.iter().step_by(every.max(1)).collect();
        self.examine(trainer, &tasks, &format!("watch-{step:06}.jsonl"), folder).map(drop)
    }

    /// Lets the policy answer test tasks, judges the answers and keeps both in `samples/`.
    fn examine(
        &self,
        trainer: &PpoTrainer,
        tasks: &[&Task],
        file: &str,
        folder: &RunFolder,
    ) -> Result<Vec<Score>> {
        let sampler = Sampler {
            temperature: self.config.eval.temperature,
            top_p: 1.0,
            max_new_tokens: self.config.eval.max_new_tokens,
            concurrency: self.config.rollout.concurrency,
            stop_at_code_end: self.config.rollout.stop_at_code_end,
            seed: derive(self.config.seed, Purpose::Evaluation, 0),
        };
        let mut progress = Progress::new("evaluate", tasks.len());
        let responses = sampler.sample(&trainer.policy, self.base, tasks, |done| progress.set(done, file))?;
        progress.finish();
        let items: Vec<(&Task, &str)> =
            tasks.iter().copied().zip(responses.iter().map(|r| r.text.as_str())).collect();
        let scores = self.examiner.score_batch(&items);
        write_jsonl(&folder.path().join("samples").join(file), samples(tasks, &responses, &scores))?;
        Ok(scores)
    }

    fn save(&self, trainer: &PpoTrainer, step: usize, run: &Path) -> Result<PathBuf> {
        let path = run.join(format!("checkpoints/step-{step:06}"));
        let checkpoint = Checkpoint { model: trainer.policy.clone(), ..self.base.clone() };
        let partial = path.with_extension("partial");
        checkpoint.save(&partial, WeightType::F32)?;
        trainer.save_state(&partial.join(TRAINER_STATE))?;
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        std::fs::rename(&partial, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// The first few rollouts of a step, for people.
fn keep_samples(
    step: usize,
    tasks: &[&Task],
    responses: &[Response],
    scores: &[Score],
    folder: &RunFolder,
) -> Result<()> {
    let path = folder.path().join(format!("samples/step-{step:06}.jsonl"));
    Ok(write_jsonl(&path, samples(tasks, responses, scores).take(SAMPLES_KEPT))?)
}

/// The table of rates before and after.
fn summarise(before: Option<&Evaluation>, after: Option<&Evaluation>, run: &Path) {
    let rows = before.iter().flat_map(|e| e.rows("before")).chain(after.iter().flat_map(|e| e.rows("after")));
    let rows: Vec<(String, Counts)> = rows.collect();
    if !rows.is_empty() {
        print!("{}", evaluation::table("", rows.iter().map(|(name, counts)| (name.as_str(), *counts))));
    }
    println!("run folder: {}", run.display());
}

/// The rates of one evaluation: all test tasks, and those of each split where there are several.
struct Evaluation {
    splits: BTreeMap<String, Counts>,
}

impl Evaluation {
    fn new(tasks: &[Task], scores: &[Score]) -> Self {
        let split =
            |task: &Task| vec![task.labels.get("split").cloned().unwrap_or_else(|| "test".to_owned())];
        Self { splits: evaluation::by_group(tasks, scores, split) }
    }

    /// `eval/function`, `eval/quality` and `eval/joint` of the test split; those of another split carry its name.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for (split, counts) in &self.splits {
            let prefix = if split == "test" { "eval".to_owned() } else { format!("eval/{split}") };
            let rates = counts.rates();
            for (name, rate) in
                [("function", rates.function), ("quality", rates.quality), ("joint", rates.joint)]
            {
                metrics.insert(format!("{prefix}/{name}"), rate.value);
            }
            if counts.attacked > 0 {
                metrics.insert(format!("{prefix}/withstood"), rates.withstood.value);
            }
        }
        metrics
    }

    fn rows(&self, when: &str) -> Vec<(String, Counts)> {
        self.splits.iter().map(|(split, counts)| (format!("{split}, {when}"), *counts)).collect()
    }
}

/// The records of `samples/`.
fn samples<'a>(
    tasks: &'a [&Task],
    responses: &'a [Response],
    scores: &'a [Score],
) -> impl Iterator<Item = Sample<'a>> {
    tasks
        .iter()
        .zip(responses)
        .zip(scores)
        .map(|((task, response), score)| Sample::new(task, &response.text, Some(response.ids.len()), score))
}

fn reward_metrics(scores: &[Score], responses: &[Response]) -> BTreeMap<String, f64> {
    let judged: Vec<&Score> = scores.iter().filter(|s| s.infra_error.is_none()).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / judged.len().max(1) as f64;
    let counts = Counts::of(scores);
    let fraction = |count: usize| count as f64 / counts.total.max(1) as f64;
    let lengths = responses.iter().map(|r| r.ids.len() as f64);
    let truncated = responses.iter().filter(|r| r.truncated).count();
    BTreeMap::from([
        ("reward/mean".to_owned(), mean(&mut judged.iter().filter_map(|s| s.reward))),
        ("reward/function".to_owned(), mean(&mut judged.iter().filter_map(|s| s.function))),
        ("reward/quality".to_owned(), mean(&mut judged.iter().filter_map(|s| s.quality))),
        ("reward/joint".to_owned(), fraction(counts.joint)),
        ("reward/not_runnable".to_owned(), mean(&mut judged.iter().map(|s| f64::from(u8::from(!s.parsed))))),
        (
            "reward/flagged".to_owned(),
            mean(&mut judged.iter().map(|s| f64::from(u8::from(!s.flags.is_empty())))),
        ),
        ("reward/infra_errors".to_owned(), counts.infra_errors as f64),
        ("response/length".to_owned(), lengths.sum::<f64>() / responses.len().max(1) as f64),
        ("response/truncated".to_owned(), truncated as f64 / responses.len().max(1) as f64),
    ])
}

/// Where to go on: the last checkpoint of this very run. A run of another configuration is refused, but for its length.
fn resumption(config: &Config) -> Result<Option<(usize, PathBuf)>> {
    let path = config.run.dir.join("config.toml");
    let saved = std::fs::read_to_string(&path)
        .with_context(|| format!("there is no run to resume: cannot read {}", path.display()))?;
    let mut saved = Config::parse(&saved, &[]).with_context(|| format!("in {}", path.display()))?;
    saved.train = config.train.clone();
    if saved != *config {
        bail!("{} is not the configuration to resume with: only [train] may differ", path.display());
    }
    latest_checkpoint(&config.run.dir)
}

/// The last checkpoint of the run in `run`, with its step.
fn latest_checkpoint(run: &Path) -> Result<Option<(usize, PathBuf)>> {
    let folder = run.join("checkpoints");
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut latest = None;
    for entry in entries {
        let path = entry?.path();
        let step =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("step-")?.parse().ok());
        if let Some(step) = step
            && latest.as_ref().is_none_or(|(best, _)| step > *best)
        {
            latest = Some((step, path));
        }
    }
    Ok(latest)
}
