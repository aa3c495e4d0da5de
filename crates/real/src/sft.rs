//! Supervised fine-tuning: `real sft`, and the first stage of `real train` where its configuration has one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use real_lm::{AddedTokens, Checkpoint, Device, Example, SftConfig, SftTrainer, WeightType};
use real_reward::{Solution, SolutionKind, Task};

use crate::Status;
use crate::config::{Args, Config, Data};
use crate::interrupt::Interrupt;
use crate::policy;
use crate::progress::Progress;
use crate::run_folder::{Existing, RunFolder};
use crate::seeds::{Purpose, derive};
use crate::tasks;

/// `real sft CONFIG.toml`
pub(crate) fn run(args: &Args) -> Result<Status> {
    let config = Config::load(args)?;
    let interrupt = Interrupt::install()?;
    let existing = match (args.overwrite, args.resume) {
        (true, _) => Existing::Overwrite,
        (_, true) => resumption(&config.run.dir)
            .with_context(|| format!("{} holds no interrupted run to resume", config.run.dir.display()))?,
        _ => Existing::Refuse,
    };
    let settings = config.sft.clone().context("the configuration has no [sft] section")?;
    let tasks = tasks::train(&config)?;
    let answers = answers(&tasks, &config.data, config.seed)?;
    policy::check(&config.model)?;
    let checkpoint = policy::initial(&config, &answers)?;
    let mut folder = RunFolder::open(&config, existing)?;
    let trained = train(checkpoint, &config, &settings, &answers, &mut folder, &interrupt)?;
    let Some(trained) = trained else { return Ok(Status::Found) };
    let path = folder.path().join("checkpoint");
    trained.save(&path, WeightType::F32)?;
    forget_state(folder.path())?;
    println!("saved {}", path.display());
    Ok(Status::Clean)
}

/// The file that an interrupted stage leaves in its folder.
const STATE: &str = "interrupted.safetensors";

/// How to go on with an interrupted stage, if its folder has one. Its metrics end where it was saved.
pub(crate) fn resumption(stage: &Path) -> Option<Existing> {
    stage.join(STATE).exists().then_some(Existing::Resume { next_step: usize::MAX })
}

/// Removes what an interruption left, once the stage is done and saved.
pub(crate) fn forget_state(stage: &Path) -> Result<()> {
    match std::fs::remove_file(stage.join(STATE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn save_state(trainer: &SftTrainer, stage: &Path) -> Result<()> {
    let partial = stage.join(STATE).with_extension("partial");
    trainer.save_state(&partial)?;
    std::fs::rename(&partial, stage.join(STATE)).context("cannot save the interrupted stage")?;
    eprintln!("interrupted: saved after supervised step {}; go on with --resume", trainer.steps());
    Ok(())
}

/// A task and the text of an answer to learn from.
#[derive(Debug, Clone)]
pub(crate) struct Answer<'a> {
    /// The task.
    pub task: &'a Task,
    /// The completion.
    pub completion: String,
}

/// The answers that supervised fine-tuning learns from, in a random order.
pub(crate) fn answers<'a>(tasks: &'a [Task], data: &Data, seed: u64) -> Result<Vec<Answer<'a>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(derive(seed, Purpose::Answers, 0));
    let mut answers = Vec::new();
    for task in tasks {
        for _ in 0..data.answers {
            let code = if data.mix.is_empty() {
                task.reference
                    .as_deref()
                    .with_context(|| format!("task {} has no reference to learn from", task.id))?
            } else {
                &choose(task, data, &mut rng)?.code
            };
            answers.push(Answer { task, completion: format!("```python\n{}\n```", code.trim_end()) });
        }
    }
    Ok(answers)
}

/// A kind by its weight in the mix, then any solution of that kind.
fn choose<'a>(task: &'a Task, data: &Data, rng: &mut ChaCha8Rng) -> Result<&'a Solution> {
    let of_kind = |kind: SolutionKind| task.solutions.iter().filter(move |s| s.kind == kind);
    let present: Vec<_> = data.mix.iter().filter(|part| of_kind(part.kind).next().is_some()).collect();
    let part = present
        .choose_weighted(rng, |part| part.weight)
        .with_context(|| format!("task {} has no solution of a kind in data.mix", task.id))?;
    let solutions: Vec<&Solution> = of_kind(part.kind).collect();
    solutions.choose(rng).copied().context("a kind without a solution was chosen")
}

/// Trains on the answers and returns the model, or nothing when it was interrupted and saved.
pub(crate) fn train(
    checkpoint: Checkpoint,
    config: &Config,
    settings: &SftConfig,
    answers: &[Answer],
    folder: &mut RunFolder,
    interrupt: &Interrupt,
) -> Result<Option<Checkpoint>> {
    let examples =
        answers.iter().map(|answer| example(&checkpoint, answer)).collect::<Result<Vec<Example>>>()?;
    let longest = checkpoint.model.config.max_position_embeddings;
    let usable: Vec<&Example> = examples.iter().filter(|e| e.ids.len() <= longest).collect();
    if usable.len() < examples.len() {
        tracing::warn!(
            "{} answers of more than {longest} tokens are left out",
            examples.len() - usable.len()
        );
    }
    if usable.is_empty() {
        bail!("no answer to learn from fits into the model's {longest} tokens");
    }
    let steps_per_epoch = usable.len().div_ceil(settings.batch);
    let total = steps_per_epoch * settings.epochs;
    let Checkpoint { model, tokenizer, chat_template, eos_token_ids } = checkpoint;
    let mut trainer = match config.model.device {
        Device::Cpu => SftTrainer::new(model, settings.clone(), total),
        Device::Cuda => {
            let longest = usable.iter().map(|example| example.ids.len()).max().unwrap_or(0);
            SftTrainer::on_cuda(&model, settings.clone(), total, longest)?
        }
    };
    if resumption(folder.path()).is_some() {
        trainer.load_state(&folder.path().join(STATE))?;
    }
    let mut progress = Progress::resumed("sft", trainer.steps(), total);
    let mut step = 0;
    for epoch in 0..settings.epochs {
        let mut order = usable.clone();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(derive(config.seed, Purpose::SftOrder, epoch as u64)));
        for batch in order.chunks(settings.batch) {
            if step < trainer.steps() {
                step += 1;
                continue;
            }
            if interrupt.is_set() {
                save_state(&trainer, folder.path())?;
                return Ok(None);
            }
            let metrics = trainer.step(batch)?;
            if !metrics.loss.is_finite() {
                bail!("the loss of supervised step {step} is {}: lower sft.learning_rate", metrics.loss);
            }
            step += 1;
            folder.log(
                step,
                &BTreeMap::from([
                    ("sft/loss".to_owned(), f64::from(metrics.loss)),
                    ("sft/grad_norm".to_owned(), f64::from(metrics.grad_norm)),
                    ("sft/lr".to_owned(), f64::from(metrics.learning_rate)),
                    ("sft/tokens".to_owned(), metrics.tokens as f64),
                ]),
            )?;
            progress.set(step, &format!("loss {:.3}", metrics.loss));
        }
    }
    progress.finish();
    Ok(Some(Checkpoint { model: trainer.into_model()?, tokenizer, chat_template, eos_token_ids }))
}

/// The prompt as the chat template renders it, the completion, and the end-of-turn token.
fn example(checkpoint: &Checkpoint, answer: &Answer) -> Result<Example> {
    let mut ids = policy::prompt_ids(checkpoint, answer.task)?;
    let prompt_len = ids.len();
    ids.extend(checkpoint.tokenizer.encode(&answer.completion, AddedTokens::AsText)?);
    ids.push(*checkpoint.eos_token_ids.first().context("the model has no end-of-sequence token")?);
    Ok(Example { ids, prompt_len })
}

/// Where the stage's result lies inside the run folder of `real train`.
pub(crate) fn stage_folder(run: &Path) -> std::path::PathBuf {
    run.join("sft")
}
