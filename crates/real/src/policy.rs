//! The model as a writer of programs: where it comes from, its prompts, its responses.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use real_lm::{
    Architecture, ChatTemplate, Checkpoint, Device, Message, Model, ModelConfig, Special, SpecialTokens,
    Tokenizer,
};
use real_lm::{EndsWith, Finish, Generated, Sampling, Writer};
use real_reward::Task;

use crate::config::{Config, ModelSource, Scratch};
use crate::seeds::{Purpose, derive};
use crate::sft::Answer;

/// The model that a run starts from: read, or made new with a tokenizer trained on the supervised answers.
pub(crate) fn initial(config: &Config, answers: &[Answer]) -> Result<Checkpoint> {
    match (&config.model.path, &config.model.scratch) {
        (Some(path), _) => load(path),
        (None, Some(shape)) => from_scratch(shape, answers, config.seed),
        (None, None) => bail!("[model] needs either `path` or `scratch`"),
    }
}

/// Whether the model and the device of a run are there, before anything is written or replaced.
pub(crate) fn check(settings: &ModelSource) -> Result<()> {
    if let Some(path) = &settings.path {
        Checkpoint::locate(path).with_context(|| format!("cannot load the model {path}"))?;
    }
    if settings.device == Device::Cuda {
        real_lm::cuda::probe()?;
    }
    Ok(())
}

/// A checkpoint by path or hub name.
pub(crate) fn load(source: &str) -> Result<Checkpoint> {
    Checkpoint::load(source).with_context(|| format!("cannot load the model {source}"))
}

fn from_scratch(shape: &Scratch, answers: &[Answer], seed: u64) -> Result<Checkpoint> {
    let chat_template = ChatTemplate::chatml();
    let texts = answers
        .iter()
        .map(|answer| {
            Ok(chat_template.render(&conversation(answer.task), EndsWith::GenerationPrompt)?
                + &answer.completion)
        })
        .collect::<Result<Vec<String>>>()?;
    let tokenizer =
        Tokenizer::train(texts.iter().map(String::as_str), shape.vocab_size, &SpecialTokens::chatml())?;
    let mut rng = ChaCha8Rng::seed_from_u64(derive(seed, Purpose::Weights, 0));
    let model = Model::random(shape_of(shape), shape.initializer_range, &mut rng);
    let eos = tokenizer.eos_token_id().context("the new tokenizer has no end-of-sequence token")?;
    Ok(Checkpoint { model, tokenizer, chat_template, eos_token_ids: vec![eos] })
}

/// The shape of a new model.
pub(crate) fn shape_of(shape: &Scratch) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: shape.vocab_size,
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        num_key_value_heads: shape.num_key_value_heads,
        head_dim: shape.hidden_size / shape.num_attention_heads,
        max_position_embeddings: shape.max_position_embeddings,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
    }
}

fn conversation(task: &Task) -> Vec<Message> {
    task.messages.iter().map(|m| Message::new(&m.role, &m.content)).collect()
}

/// The tokens of a task's prompt, up to where the answer begins.
pub(crate) fn prompt_ids(checkpoint: &Checkpoint, task: &Task) -> Result<Vec<u32>> {
    checkpoint
        .prompt_ids(&conversation(task))
        .with_context(|| format!("cannot render the prompt of task {}", task.id))
}

/// The tasks whose prompt has at most `max_tokens` tokens; a warning tells how many have more.
pub(crate) fn fitting(checkpoint: &Checkpoint, tasks: Vec<Task>, max_tokens: usize) -> Result<Vec<Task>> {
    let total = tasks.len();
    let mut kept = Vec::with_capacity(total);
    for task in tasks {
        if prompt_ids(checkpoint, &task)?.len() <= max_tokens {
            kept.push(task);
        }
    }
    if kept.is_empty() {
        bail!(
            "none of {total} tasks has a prompt of at most {max_tokens} tokens (rollout.max_prompt_tokens)"
        );
    }
    if kept.len() < total {
        eprintln!(
            "{} of {total} tasks are left out: their prompt has more than {max_tokens} tokens",
            total - kept.len()
        );
    }
    Ok(kept)
}

/// How responses are sampled.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    /// 0 is greedy.
    pub temperature: f32,
    /// Probability mass that is sampled from.
    pub top_p: f32,
    /// Longest response.
    pub max_new_tokens: usize,
    /// Sequences decoded at once.
    pub concurrency: usize,
    /// End a response where its first code block closes.
    pub stop_at_code_end: bool,
    /// Seed.
    pub seed: u64,
}

/// A response to a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Response {
    /// Tokens of the prompt.
    pub prompt_ids: Vec<u32>,
    /// Tokens of the response, the one that ends it included.
    pub ids: Vec<u32>,
    /// The response as text, without special tokens.
    pub text: String,
    /// It was cut off at `max_new_tokens`.
    pub truncated: bool,
}

impl Sampler {
    /// One response to each task, in order. `on_response` gets each with its place as soon as it ends. Once `stop` says so, every
    /// response ends where it is.
    pub(crate) fn sample(
        &self,
        writer: &mut Writer,
        checkpoint: &Checkpoint,
        tasks: &[&Task],
        stop: impl Fn() -> bool,
        mut on_response: impl FnMut(usize, &Response),
    ) -> Result<Vec<Response>> {
        let prompts = tasks.iter().map(|task| prompt_ids(checkpoint, task)).collect::<Result<Vec<_>>>()?;
        let longest = checkpoint.model.config.max_position_embeddings;
        if let Some((task, prompt)) = tasks.iter().zip(&prompts).find(|(_, p)| p.len() >= longest) {
            bail!("the prompt of task {} has {} tokens; the model reads {longest}", task.id, prompt.len());
        }
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: self.max_new_tokens,
            batch: self.concurrency,
            seed: self.seed,
            stop_tokens: checkpoint.eos_token_ids.clone(),
            ..Sampling::default()
        };
        let text = |ids: &[u32]| checkpoint.tokenizer.decode(ids, Special::Skip);
        // A fence closes with a backtick, so only a token that holds one is worth reading the response for.
        let may_close = |ids: &[u32]| ids.last().is_some_and(|&id| text(&[id]).contains('`'));
        let on_token = |_: usize, ids: &[u32]| {
            let ended = self.stop_at_code_end && may_close(ids) && code_has_ended(&text(ids));
            if ended || stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let response = |place: usize, generated: &Generated| Response {
            prompt_ids: prompts[place].clone(),
            ids: generated.ids.clone(),
            text: text(&generated.ids),
            truncated: generated.finish == Finish::Length,
        };
        let mut responses: Vec<Option<Response>> = vec![None; tasks.len()];
        writer.generate(&prompts, &sampling, on_token, |place, generated| {
            let response = response(place, generated);
            on_response(place, &response);
            responses[place] = Some(response);
        })?;
        Ok(responses.into_iter().flatten().collect())
    }
}

/// Whether a text ends with the fence that closes its first code block.
fn code_has_ended(text: &str) -> bool {
    text.trim_end().ends_with("```") && code_end(text).is_some()
}

/// Where the fence that closes the first code block ends, in bytes.
pub(crate) fn code_end(text: &str) -> Option<usize> {
    let mut start = 0;
    let mut fences = text.split_inclusive('\n').filter_map(|line| {
        let fence = line.starts_with("```").then_some((start, line.trim_end()));
        start += line.len();
        fence
    });
    let (start, line) = fences.nth(1)?;
    (line == "```").then_some(start + line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_ends_with_the_second_fence() {
        for (text, ended) in [
            ("```python\nx = 1\n```", true),
            ("```python\nx = 1\n```\n", true),
            ("Here it is:\n```python\nx = 1\n```", true),
            ("```", false),
            ("```python\nx = '```'", false),
            ("```python\nx = '```", false),
            ("```python\nx = 1\n``", false),
            ("", false),
        ] {
            assert_eq!(code_has_ended(text), ended, "{text:?}");
        }
    }
}
