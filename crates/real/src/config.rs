//! The configuration of a run: one TOML file, changed by `--set`, saved as resolved beside the results.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use real_lm::{Device, LoraConfig, PpoConfig, SftConfig};
use real_reward::{RewardConfig, SolutionKind};
use serde::{Deserialize, Serialize};

/// Arguments of every command that reads a configuration.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    pub config: PathBuf,
    /// Change a value of it, such as `--set ppo.kl_coef=0.01`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Replace a run that is already in the run folder.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Go on where an interrupted run of the same configuration stopped.
    #[arg(long)]
    pub resume: bool,
}

/// One experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Everything random follows from this number.
    pub seed: u64,
    /// Where the results go.
    pub run: Run,
    /// The model to start from.
    pub model: ModelSource,
    /// Tasks.
    pub data: Data,
    /// Supervised fine-tuning, before PPO where both are asked for.
    #[serde(default)]
    pub sft: Option<SftConfig>,
    /// How responses are sampled for training.
    #[serde(default)]
    pub rollout: Rollout,
    /// The hybrid reward.
    #[serde(default)]
    pub reward: RewardConfig,
    /// PPO.
    #[serde(default)]
    pub ppo: PpoConfig,
    /// Low-rank adaptation: PPO trains it in place of all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Length of the run.
    #[serde(default)]
    pub train: Train,
    /// Evaluation on held-out tasks.
    #[serde(default)]
    pub eval: Eval,
}

/// Where the results go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// The run folder.
    pub dir: PathBuf,
}

/// The model to start from: `path`, or `scratch` for a new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelSource {
    /// A folder in Hugging Face layout, a GGUF file, or a hub name that is in the local cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A new model with random weights and a tokenizer trained on the supervised examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
    /// What computes: `cpu` (the default), or `cuda` for the first NVIDIA GPU.
    #[serde(default, skip_serializing_if = "is_default")]
    pub device: Device,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A new model (Llama architecture, tied embeddings).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scratch {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Longest sequence, tokens.
    pub max_position_embeddings: usize,
    /// Standard deviation of the weights at the start.
    #[serde(default = "gpt2_range")]
    pub initializer_range: f32,
}

fn gpt2_range() -> f32 {
    0.02
}

/// Which tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    /// `starter`, `safesql`, `seccodeplt` or `apps`.
    pub benchmark: String,
    /// The folder that holds `safesql/train.parquet` and the like. Not needed for `starter`.
    #[serde(default)]
    pub path: PathBuf,
    /// Training tasks to generate (`starter`) or to use at most; 0 for all.
    #[serde(default)]
    pub train_tasks: usize,
    /// Test tasks to generate (`starter`) or to use at most; 0 for all.
    #[serde(default)]
    pub test_tasks: usize,
    /// Answers taken of each task for supervised fine-tuning.
    #[serde(default = "one")]
    pub answers: usize,
    /// What those answers are, by weight. Without it every answer is the task's reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixPart>,
}

fn one() -> usize {
    1
}

/// One part of a mix of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MixPart {
    /// What the answer is.
    pub kind: SolutionKind,
    /// Its weight; weights need not add up to 1.
    pub weight: f64,
}

/// How responses are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rollout {
    /// Rollouts a step.
    pub batch: usize,
    /// Rollouts of the same prompt within a step; divides `batch`.
    pub samples: usize,
    /// Sequences decoded at once.
    pub concurrency: usize,
    /// What responses are sampled with.
    pub weights: RolloutWeights,
    /// Sampling temperature.
    pub temperature: f32,
    /// Nucleus sampling: the smallest set of tokens with this probability. 1 for all.
    pub top_p: f32,
    /// Longest response, tokens.
    pub max_new_tokens: usize,
    /// Longest prompt, tokens; tasks with a longer one are dropped with a warning.
    pub max_prompt_tokens: usize,
    /// End a response where its first code block closes.
    pub stop_at_code_end: bool,
    /// Dynamic sampling (DAPO): prompts whose responses all have the same reward are dropped, and for at most so many rounds further
    /// prompts are sampled to fill the batch. 0 keeps everything; otherwise `samples` must be at least 2.
    pub refill_rounds: usize,
    /// Over-long shaping (DAPO): in the last so many tokens before `max_new_tokens` the reward falls evenly. 0 for none.
    pub overlong_buffer: usize,
    /// How far it falls, in units of the reward.
    pub overlong_penalty: f32,
    /// Responses that are cut off at `max_new_tokens` take no part in the update.
    pub mask_truncated: bool,
    /// What quality cost is taken from the tokens of findings and type errors, not from the end of the response.
    pub token_credit: bool,
}

/// What responses are sampled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RolloutWeights {
    /// The policy as it is.
    F32,
    /// A copy rounded to eight bits: faster where few sequences are decoded at once, and slightly another policy than the one that
    /// learns. The log-probabilities of the update are taken in f32 either way.
    Int8,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            batch: 256,
            samples: 1,
            concurrency: 64,
            weights: RolloutWeights::F32,
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 1024,
            max_prompt_tokens: 1024,
            stop_at_code_end: true,
            refill_rounds: 0,
            overlong_buffer: 0,
            overlong_penalty: 1.0,
            mask_truncated: false,
            token_credit: false,
        }
    }
}

/// Length of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Train {
    /// Steps of PPO.
    pub steps: usize,
    /// Evaluate after every so many steps; 0 for never (but see `eval.at_ends`).
    pub eval_every: usize,
    /// Write a checkpoint after every so many steps; 0 for the end only.
    pub save_every: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self { steps: 100, eval_every: 0, save_every: 20 }
    }
}

/// Evaluation during a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Eval {
    /// Evaluate before the first step and after the last.
    pub at_ends: bool,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Longest response, tokens.
    pub max_new_tokens: usize,
    /// Answer a few test tasks after every so many steps, for the report: how one task's program changes. 0 for never.
    pub watch_every: usize,
    /// How programs are judged. It is not `[reward]`, so that runs with different rewards are measured alike. Only `allow_weak_sandbox`, which
    /// is the machine's affair, is that of `[reward]` unless it is given here.
    pub reward: RewardConfig,
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            at_ends: true,
            temperature: 0.0,
            max_new_tokens: 1024,
            watch_every: 0,
            reward: RewardConfig::default(),
        }
    }
}

impl Config {
    /// Reads the file and applies the changes of `--set`.
    pub(crate) fn load(args: &Args) -> Result<Self> {
        let text = std::fs::read_to_string(&args.config)
            .with_context(|| format!("cannot read the configuration {}", args.config.display()))?;
        Self::parse(&text, &args.set).with_context(|| format!("in {}", args.config.display()))
    }

    /// From the text of a configuration file.
    pub(crate) fn parse(text: &str, changes: &[String]) -> Result<Self> {
        let mut table: toml::Table = text.parse()?;
        for change in changes {
            apply(&mut table, change).with_context(|| format!("in --set {change}"))?;
        }
        share_sandbox(&mut table);
        let config: Self = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if self.model.path.is_some() == self.model.scratch.is_some() {
            bail!("[model] needs either `path` or `scratch`");
        }
        if self.model.scratch.is_some() && self.sft.is_none() {
            bail!("a model from scratch needs an [sft] section: random weights write no programs");
        }
        let Rollout { batch, samples, .. } = self.rollout;
        if samples == 0 || batch == 0 || batch % samples != 0 {
            bail!("rollout.samples ({samples}) must divide rollout.batch ({batch}), and neither may be 0");
        }
        if self.rollout.refill_rounds > 0 && samples < 2 {
            bail!("rollout.refill_rounds needs rollout.samples of at least 2: one response equals itself");
        }
        self.ppo.check().map_err(anyhow::Error::msg)?;
        if self.lora.is_some_and(|lora| lora.rank == 0) {
            bail!("lora.rank must be at least 1");
        }
        if self.model.device == Device::Cuda {
            self.check_for_gpu()?;
        }
        if self.rollout.temperature <= 0.0 {
            bail!("rollout.temperature must be above 0: without chance there is nothing to learn from");
        }
        self.eval.reward.validate().context("in [eval.reward]")?;
        Ok(self.reward.validate()?)
    }

    /// Refuses what only the CPU does.
    fn check_for_gpu(&self) -> Result<()> {
        let recomputes = self.ppo.recompute || self.sft.as_ref().is_some_and(|sft| sft.recompute);
        for (is_set, setting, instead) in [
            (self.lora.is_some(), "a [lora] section", "all weights are trained"),
            (recomputes, "recompute = true", "a smaller micro_batch_tokens saves memory too"),
            (self.rollout.weights != RolloutWeights::F32, "rollout.weights", "responses are decoded in bf16"),
        ] {
            if is_set {
                bail!("model.device = \"cuda\" knows no {setting}: {instead}");
            }
        }
        Ok(())
    }

    /// The configuration as TOML.
    pub(crate) fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// The reward of a command without a configuration file: the defaults, α, and the changes of `--set`.
pub(crate) fn reward(alpha: Option<f64>, changes: &[String]) -> Result<RewardConfig> {
    let mut table = toml::Table::new();
    if let Some(alpha) = alpha {
        table.insert("alpha".to_owned(), toml::Value::Float(alpha));
    }
    for change in changes {
        apply(&mut table, change).with_context(|| format!("in --set {change}"))?;
    }
    let config: RewardConfig = table.try_into()?;
    config.validate()?;
    Ok(config)
}

/// What the sandbox may lack is up to the machine: `[eval.reward]` takes it over from `[reward]`.
fn share_sandbox(table: &mut toml::Table) {
    const SETTING: &str = "allow_weak_sandbox";
    let Some(weak) = table.get("reward").and_then(|reward| reward.get(SETTING)).cloned() else { return };
    let mut section = table;
    for name in ["eval", "reward"] {
        let entry = section.entry(name).or_insert_with(|| toml::Table::new().into());
        let Some(inner) = entry.as_table_mut() else { return };
        section = inner;
    }
    section.entry(SETTING).or_insert(weak);
}

/// Applies one `a.b=value`. The value is TOML; what is no TOML is a string.
fn apply(table: &mut toml::Table, change: &str) -> Result<()> {
    let (key, value) = change.split_once('=').context("expected KEY=VALUE")?;
    let value = match format!("v = {value}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("v").context("expected a value")?,
        Err(_) => toml::Value::String(value.to_owned()),
    };
    let mut path: Vec<&str> = key.split('.').collect();
    let last = path.pop().context("expected a key")?;
    let mut here = table;
    for part in path {
        here = here
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .with_context(|| format!("`{part}` is a value, not a section"))?;
    }
    here.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        seed = 1
        [run]
        dir = "runs/x"
        [model]
        path = "m.gguf"
        [data]
        benchmark = "starter"
    "#;

    fn parse(changes: &[&str]) -> Result<Config> {
        Config::parse(MINIMAL, &changes.iter().map(|&c| c.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_reach_nested_and_absent_sections() {
        let config = parse(&["seed=7", "ppo.kl_coef=0.5", "run.dir=elsewhere/here"]).unwrap();
        assert_eq!(config.seed, 7);
        assert!((config.ppo.kl_coef - 0.5).abs() < 1e-6);
        assert_eq!(config.run.dir, PathBuf::from("elsewhere/here"));
    }

    #[test]
    fn evaluations_are_judged_in_the_sandbox_that_the_reward_allows() {
        let weak = |changes: &[&str]| parse(changes).unwrap().eval.reward.allow_weak_sandbox;
        assert!(!weak(&[]));
        assert!(weak(&["reward.allow_weak_sandbox=true"]));
        assert!(weak(&["reward.allow_weak_sandbox=true", "eval.reward.alpha=1.0"]));
        assert!(!weak(&["reward.allow_weak_sandbox=true", "eval.reward.allow_weak_sandbox=false"]));
    }

    #[test]
    fn what_is_resolved_reads_back_the_same() {
        let config = parse(&["sft.epochs=2", r#"data.mix=[{kind="secure",weight=1.0}]"#]).unwrap();
        assert_eq!(Config::parse(&config.to_toml().unwrap(), &[]).unwrap(), config);
    }

    #[test]
    fn the_configurations_that_come_along_are_sound() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let folders = [folder.clone(), folder.join("paper"), folder.join("gpu")];
        let all = folders.into_iter().flat_map(files).filter(|path| path.is_file());
        let parsed = all.map(|path| {
            Config::parse(&std::fs::read_to_string(&path).unwrap(), &[])
                .unwrap_or_else(|error| panic!("{path:?}: {error:#}"))
        });
        assert!(parsed.count() >= 7);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |changes: &[&str]| format!("{:#}", parse(changes).unwrap_err());
        assert!(error(&["ppo.klcoef=1"]).contains("klcoef"));
        assert!(error(&["sft.epoch=1"]).contains("epoch"));
        assert!(error(&["seed"]).contains("KEY=VALUE"));
        assert!(error(&["seed.x=1"]).contains("not a section"));
        assert!(error(&["rollout.samples=3"]).contains("rollout.samples"));
        assert!(error(&["rollout.refill_rounds=2"]).contains("at least 2"));
        assert!(error(&["ppo.advantage=gdpo"]).contains("kl_coef = 0"));
        assert!(error(&["ppo.clip_dual=0.5"]).contains("clip_dual"));
        assert!(error(&["model.device=tpu"]).contains("tpu"));
        assert!(error(&["model.device=cuda", "ppo.recompute=true"]).contains("micro_batch_tokens"));
    }
}
