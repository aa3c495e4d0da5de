//! `real train`: the whole loop. Prompts → responses → programs → three judges → rewards → PPO.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use real_lm::{Checkpoint, Device, Lora, PpoTrainer, Reward, Rollout, WeightType};
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

mod checkpoints;
mod experience;
mod plan;
mod rewards;

use experience::Experience;

/// A step trains on nothing, and the run stops, when more than this fraction of its rollouts has no verdict.
const MAX_INFRA_ERRORS: f64 = 0.5;

/// Rollouts of each step that are kept in `samples/`.
const SAMPLES_KEPT: usize = 8;

/// Test tasks that are watched (`eval.watch_every`).
const WATCHED: usize = 8;

/// How often the page of a run is written anew.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// `real train CONFIG.toml`
pub(crate) fn run(args: &Args) -> Result<Status> {
    let config = Config::load(args)?;
    let interrupt = Interrupt::install()?;
    let resumed = if args.resume { checkpoints::resumption(&config)? } else { None };
    let existing = match &resumed {
        Some((step, _)) => Existing::Resume { next_step: step + 1 },
        None if args.resume => Existing::Resume { next_step: 0 },
        None if args.overwrite => Existing::Overwrite,
        None => Existing::Refuse,
    };
    let train_tasks = tasks::train(&config)?;
    let test_tasks = tasks::test(&config)?;
    policy::check(&config.model)?;
    let scorer = tools::scorer(&config.reward)?;
    let examiner = tools::beside(&scorer, &config.eval.reward)?;
    let mut folder = RunFolder::open(&config, existing)?;

    let Some(base) = base_policy(&config, &train_tasks, &interrupt)? else {
        return Ok(Status::Found);
    };
    if config.model.device == Device::Cpu {
        plan::check_memory(&config, &base.model)?;
    }
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
    let existing = sft::resumption(&stage).unwrap_or(Existing::Overwrite);
    stage_config.run.dir.clone_from(&stage);
    let mut folder = RunFolder::open(&stage_config, existing)?;
    let Some(trained) = sft::train(start, config, settings, &answers, &mut folder, interrupt)? else {
        return Ok(None);
    };
    trained.save(&saved, WeightType::F32)?;
    sft::forget_state(&stage)?;
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

impl<'a> Run<'a> {
    fn go(
        &mut self,
        resumed: Option<(usize, PathBuf)>,
        folder: &mut RunFolder,
        interrupt: &Interrupt,
    ) -> Result<Status> {
        let Config { train, eval, .. } = self.config;
        let mut trainer = self.trainer()?;
        let (mut done, is_new) = (0, resumed.is_none());
        if let Some((step, path)) = resumed {
            checkpoints::restore(&mut trainer, &path)?;
            done = step;
            eprintln!("resuming after step {step} from {}", path.display());
        }
        let mut before = None;
        if is_new && eval.at_ends {
            let evaluation = self.evaluate(&mut trainer, 0, folder)?;
            folder.log(0, &evaluation.metrics())?;
            before = Some(evaluation);
        }
        report::refresh(folder.path());
        eprintln!("follow the run in {}", folder.path().join("report.html").display());
        let mut reported = Instant::now();
        let mut progress = Progress::resumed("ppo", done, train.steps);
        let mut last = None;
        while done < train.steps {
            let Some(mut metrics) = self.step(&mut trainer, done, folder, &mut progress, interrupt)? else {
                let path = checkpoints::save(self.base, &trainer, &checkpoints::name(done), folder.path())?;
                eprintln!("interrupted: saved {}; go on with --resume", path.display());
                return Ok(Status::Found);
            };
            done += 1;
            progress.set(done, &in_short(&metrics));
            let is_last = done == train.steps;
            if is_last && eval.at_ends || train.eval_every > 0 && done % train.eval_every == 0 {
                let evaluation = self.evaluate(&mut trainer, done, folder)?;
                metrics.extend(evaluation.metrics());
                last = Some(evaluation);
            } else if eval.watch_every > 0 && done % eval.watch_every == 0 {
                self.watch(&mut trainer, done, folder)?;
            }
            folder.log(done, &metrics)?;
            if is_last || reported.elapsed() > REPORT_EVERY {
                report::refresh(folder.path());
                reported = Instant::now();
            }
            if is_last || train.save_every > 0 && done % train.save_every == 0 {
                checkpoints::save(self.base, &trainer, &checkpoints::name(done), folder.path())?;
            }
        }
        progress.finish();
        summarise(before.as_ref(), last.as_ref(), folder.path());
        Ok(Status::Clean)
    }

    /// A trainer that has learned nothing yet.
    fn trainer(&self) -> Result<PpoTrainer<'a>> {
        let (base, ppo) = (&self.base.model, self.config.ppo.clone());
        if self.config.model.device == Device::Cuda {
            return Ok(PpoTrainer::on_cuda(
                base,
                Some(base),
                ppo,
                plan::decoding(self.config, &base.config),
            )?);
        }
        let trainer = PpoTrainer::new(base.clone(), Some(base), ppo);
        let Some(lora) = self.config.lora else { return Ok(trainer) };
        let seed = derive(self.config.seed, Purpose::Weights, 1);
        Ok(trainer.with_lora(Lora::new(base, lora, &mut ChaCha8Rng::seed_from_u64(seed))))
    }

    /// One step: sample, judge, learn. Nothing is learned, and nothing returned, once the user has asked to stop.
    fn step(
        &self,
        trainer: &mut PpoTrainer,
        step: usize,
        folder: &RunFolder,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Result<Option<BTreeMap<String, f64>>> {
        let started = Instant::now();
        let experience = self.gather(trainer, step, progress, interrupt)?;
        if interrupt.is_set() {
            return Ok(None);
        }
        refuse_outage(&experience.scores, step)?;
        progress.set(step, &format!("step {}: learning", step + 1));
        let gathered = Instant::now();
        let (rollouts, rewards) = self.lessons(&experience);
        let seed = derive(self.config.seed, Purpose::MiniBatches, step as u64);
        let update = trainer.update(&rollouts, &rewards, self.config.rollout.temperature, step, seed)?;
        self.refuse_not_finite(&update, trainer, step, folder)?;

        let Experience { tasks, responses, scores, kept, .. } = &experience;
        let mut metrics = reward_metrics(scores, responses);
        metrics.extend(update.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if self.config.rollout.refill_rounds > 0 {
            metrics.insert("rollout/kept".to_owned(), kept.len() as f64 / tasks.len() as f64);
        }
        let judging = experience.waited_for_judges.as_secs_f64();
        metrics.insert("time/rollout".to_owned(), (gathered - started).as_secs_f64() - judging);
        metrics.insert("time/reward".to_owned(), judging);
        metrics.insert("time/update".to_owned(), gathered.elapsed().as_secs_f64());
        keep_samples(step + 1, tasks, responses, scores, folder)?;
        Ok(Some(metrics))
    }

    /// What PPO learns from.
    fn lessons(&self, experience: &Experience) -> (Vec<Rollout>, Vec<Option<Reward>>) {
        let Config { rollout, reward, .. } = self.config;
        let lesson = |&place: &usize| {
            let (response, score) = (&experience.responses[place], &experience.scores[place]);
            let reward = rewards::reward(rollout, reward, &self.base.tokenizer, response, score);
            (Rollout { prompt: response.prompt_ids.clone(), response: response.ids.clone() }, reward)
        };
        experience.kept.iter().map(lesson).unzip()
    }

    /// Stops a run whose figures are no numbers any more. Such gradients have changed nothing, so what there is can be saved.
    fn refuse_not_finite(
        &self,
        update: &BTreeMap<&'static str, f64>,
        trainer: &PpoTrainer,
        step: usize,
        folder: &RunFolder,
    ) -> Result<()> {
        let Some((name, value)) = update.iter().find(|(_, value)| !value.is_finite()) else { return Ok(()) };
        let ppo = &self.config.ppo;
        let state = if trainer.policy()?.params.iter().all(|w| w.is_finite()) {
            let path = checkpoints::save(self.base, trainer, &format!("failed-{step:06}"), folder.path())?;
            format!("The weights are sound, and a new run can start from {} (model.path)", path.display())
        } else {
            "The weights are no numbers any more: go back to an earlier checkpoint".to_owned()
        };
        bail!(
            "{name} is {value} in step {}. {state}. A smaller ppo.learning_rate (it is {}), more ppo.warmup_steps (there are {}) or a \
             larger ppo.kl_coef (it is {}) may keep it from coming back",
            step + 1,
            ppo.learning_rate,
            ppo.warmup_steps,
            ppo.kl_coef
        )
    }

    fn evaluate(&self, trainer: &mut PpoTrainer, step: usize, folder: &RunFolder) -> Result<Evaluation> {
        let tasks: Vec<&Task> = self.test.iter().collect();
        let scores = self.examine(trainer, &tasks, &format!("eval-{step:06}.jsonl"), folder)?;
        Ok(Evaluation::new(self.test, &scores))
    }

    /// Answers of a few test tasks, spread over all of them, for the report.
    fn watch(&self, trainer: &mut PpoTrainer, step: usize, folder: &RunFolder) -> Result<()> {
        let every = self.test.len().div_ceil(WATCHED);
        let tasks: Vec<&Task> = self.test.iter().step_by(every.max(1)).collect();
        self.examine(trainer, &tasks, &format!("watch-{step:06}.jsonl"), folder).map(drop)
    }

    /// Lets the policy answer test tasks, judges the answers and keeps both in `samples/`.
    fn examine(
        &self,
        trainer: &mut PpoTrainer,
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
        let mut done = 0;
        let responses = sampler.sample(
            &mut trainer.writer(),
            self.base,
            tasks,
            || false,
            |_, _| {
                done += 1;
                progress.set(done, file);
            },
        )?;
        progress.finish();
        let items: Vec<(&Task, &str)> =
            tasks.iter().copied().zip(responses.iter().map(|r| r.text.as_str())).collect();
        let scores = self.examiner.score_batch(&items);
        write_jsonl(&folder.path().join("samples").join(file), samples(tasks, &responses, &scores))?;
        Ok(scores)
    }
}

/// Stops a run whose judges fail: it would learn from what happens to be left.
fn refuse_outage(scores: &[Score], step: usize) -> Result<()> {
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
    Ok(())
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

/// The figures of a step that progress shows. Without a reference there is no divergence.
fn in_short(metrics: &BTreeMap<String, f64>) -> String {
    let figures = [
        ("reward", "reward/mean"),
        ("function", "reward/function"),
        ("quality", "reward/quality"),
        ("joint", "reward/joint"),
        ("kl", "objective/kl"),
    ];
    let shown = figures.iter().filter_map(|&(word, name)| Some(format!("{word} {:.3}", metrics.get(name)?)));
    shown.collect::<Vec<_>>().join("  ")
}
