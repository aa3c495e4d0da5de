//! Completions for many prompts: sequences enter a batch, advance together by one token a step, and leave when they end.
//!
//! With a batch of 2 and three prompts, prompts 0 and 1 start; when the completion of 0 ends, prompt 2 takes its place in the
//! next step. Every sequence draws from its own random stream, numbered by its place among the prompts, and computes the same
//! bits in any company, so the completions do not depend on the size of the batch.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::block_model::Weights;
use crate::config::ModelConfig;
use crate::decode::{Cache, Decoder};
use crate::sampling::{Sampling, sample};

/// A completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens behind the prompt, a stop token included.
    pub ids: Vec<u32>,
    /// The log-probability of each when it was drawn, at the sampling temperature and without truncation.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// With a stop token.
    StopToken,
    /// The caller stopped it.
    Stopped,
    /// It reached `max_new_tokens` or the longest sequence of the model.
    Length,
}

/// Completes every prompt with a [`Model`](crate::Model) or a [`BlockModel`](crate::BlockModel); the results are in the order of the prompts.
///
/// After each token `on_token` gets the number of the prompt and the completion so far, and can stop it: for stop strings, and
/// for showing text as it comes. `on_finished` gets each completion as soon as it ends, in the order in which they end.
///
/// ```
/// # use real_lm::{ModelConfig, Architecture, Model, Sampling, generate};
/// # use rand::SeedableRng;
/// # let config = ModelConfig {
/// #     architecture: Architecture::Llama, vocab_size: 32, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1,
/// #     num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 64, rms_norm_eps: 1e-5,
/// #     rope_theta: 1e4, tie_word_embeddings: true,
/// # };
/// # let model = Model::random(config, 0.02, &mut rand_chacha::ChaCha8Rng::seed_from_u64(0));
/// use std::ops::ControlFlow;
/// let sampling = Sampling { max_new_tokens: 5, ..Sampling::default() };
/// let prompts = [vec![1, 2, 3], vec![4]];
/// let completions = generate(&model, &prompts, &sampling, |_, _| ControlFlow::Continue(()), |_, _| ());
/// assert_eq!(completions[1].ids.len(), 5);
/// ```
///
/// # Panics
/// If a prompt is empty.
pub fn generate<'a>(
    weights: impl Into<Weights<'a>>,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    mut on_token: impl FnMut(usize, &[u32]) -> ControlFlow<()>,
    mut on_finished: impl FnMut(usize, &Generated),
) -> Vec<Generated> {
    let longest_prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let weights = weights.into();
    let config = weights.config();
    let mut decoder = Decoder::new(weights, longest_prompt + sampling.max_new_tokens);
    let mut results: Vec<Option<Generated>> = vec![None; prompts.len()];
    let mut waiting = prompts.iter().enumerate().peekable();
    let mut last_prefill: Option<Prefill> = None;
    let mut live: Vec<Live> = Vec::new();
    while waiting.peek().is_some() || !live.is_empty() {
        while live.len() < sampling.batch.max(1) {
            let Some((index, prompt)) = waiting.next() else { break };
            live.push(Live::start(index, prompt, sampling, config, &mut decoder, &mut last_prefill));
        }
        advance(&mut live, &mut decoder, sampling, &mut on_token);
        for ended in live.extract_if(.., |sequence| sequence.finish.is_some()) {
            let (index, generated) = ended.into_generated();
            on_finished(index, &generated);
            results[index] = Some(generated);
        }
    }
    results.into_iter().map(|result| result.expect("every prompt was completed")).collect()
}

/// The last prompt taken in, for neighbours that have the same.
struct Prefill {
    prompt: Vec<u32>,
    cache: Cache,
    logits: Vec<f32>,
}

/// A sequence of the batch.
struct Live {
    index: usize,
    cache: Cache,
    rng: ChaCha8Rng,
    /// Logits of the first token, until it is drawn.
    first_logits: Option<Vec<f32>>,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    /// Tokens it may still get.
    budget: usize,
    finish: Option<Finish>,
}

impl Live {
    fn start(
        index: usize,
        prompt: &[u32],
        sampling: &Sampling,
        config: &ModelConfig,
        decoder: &mut Decoder,
        last: &mut Option<Prefill>,
    ) -> Self {
        if last.as_ref().is_none_or(|last| last.prompt != prompt) {
            let (cache, logits) = decoder.prefill(prompt);
            *last = Some(Prefill { prompt: prompt.to_vec(), cache, logits });
        }
        let prefill = last.as_ref().expect("it was just set");
        let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        rng.set_stream(index as u64);
        let room = config.max_position_embeddings.saturating_sub(prompt.len());
        let budget = sampling.max_new_tokens.min(room);
        Self {
            index,
            cache: prefill.cache.clone(),
            rng,
            first_logits: Some(prefill.logits.clone()),
            ids: Vec::new(),
            logprobs: Vec::new(),
            budget,
            finish: (budget == 0).then_some(Finish::Length),
        }
    }

    fn push(&mut self, (id, logprob): (u32, f32), sampling: &Sampling) {
        self.ids.push(id);
        self.logprobs.push(logprob);
        self.budget -= 1;
        self.finish = if sampling.stop_tokens.contains(&id) {
            Some(Finish::StopToken)
        } else {
            (self.budget == 0).then_some(Finish::Length)
        };
    }

    fn into_generated(self) -> (usize, Generated) {
        let finish = self.finish.expect("only ended sequences leave");
        (self.index, Generated { ids: self.ids, logprobs: self.logprobs, finish })
    }
}

/// One more token for every sequence that has not ended.
fn advance(
    live: &mut [Live],
    decoder: &mut Decoder,
    sampling: &Sampling,
    on_token: &mut impl FnMut(usize, &[u32]) -> ControlFlow<()>,
) {
    let (mut new, mut running): (Vec<_>, Vec<_>) =
        live.iter_mut().filter(|sequence| sequence.finish.is_none()).partition(|s| s.first_logits.is_some());
    for sequence in &mut new {
        let mut logits = sequence.first_logits.take().expect("it was partitioned so");
        let drawn = sample(&mut logits, sampling, &mut sequence.rng);
        sequence.push(drawn, sampling);
    }
    if !running.is_empty() {
        let ids: Vec<u32> = running.iter().map(|s| *s.ids.last().expect("it has its first token")).collect();
        let mut caches: Vec<&mut Cache> = running.iter_mut().map(|sequence| &mut sequence.cache).collect();
        let logits = decoder.step(&ids, &mut caches);
        let rows = logits.par_chunks_exact_mut(logits.len() / ids.len());
        running.par_iter_mut().zip(rows).for_each(|(sequence, row)| {
            let drawn = sample(row, sampling, &mut sequence.rng);
            sequence.push(drawn, sampling);
        });
    }
    for sequence in new.into_iter().chain(running) {
        let stop = on_token(sequence.index, &sequence.ids).is_break();
        if stop && sequence.finish != Some(Finish::StopToken) {
            sequence.finish = Some(Finish::Stopped);
        }
    }
}
