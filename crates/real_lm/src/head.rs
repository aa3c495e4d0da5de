//! The language-model head: from hidden states to log-probabilities and entropies, and back, without ever holding all logits.
//!
//! For 20,000 tokens and a vocabulary of 150,000 the logits alone would fill 12 GB. A loss of PPO or SFT needs of them, for
//! each scored row, two numbers: the log-probability of one target and perhaps the entropy. So rows go through in chunks: the
//! logits of a chunk `z = h W' / temperature` are made, reduced, turned into their own gradient in place, multiplied into the
//! gradients of h and W, and forgotten. With p = softmax(z) and entropy `S = -Σ p log p`,
//!
//! ```text
//! ∂ logprob(t) / ∂z_j = [j = t] - p_j          ∂S / ∂z_j = -p_j (log p_j + S)
//! ```
//!
//! Cross-entropy is the loss `-logprob`: with a gradient of -1/n for each of n rows, [`backward()`] is the usual SFT step.
//!
//! ```
//! use real_lm::{ModelConfig, Architecture, Model, Packed, Workspace, Keep, forward, backward, head};
//! use rand::SeedableRng;
//! let config = ModelConfig {
//!     architecture: Architecture::Llama, vocab_size: 32, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1,
//!     num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 64, rms_norm_eps: 1e-5,
//!     rope_theta: 1e4, tie_word_embeddings: true,
//! };
//! let model = Model::random(config, 0.02, &mut rand_chacha::ChaCha8Rng::seed_from_u64(0));
//! let batch = Packed::new(&[[1, 2, 3, 4]]);
//! let mut workspace = Workspace::new(Keep::Activations);
//! forward(&model, &batch, &mut workspace);
//!
//! let (rows, targets) = ([0, 1, 2], [2, 3, 4]); // each row predicts the token behind it
//! let mut d_hidden = vec![0.0; workspace.hidden().len()];
//! let mut grads = vec![0.0; model.params.len()];
//! let scored = head::Rows { rows: &rows, targets: &targets, temperature: 1.0 };
//! let scores = head::backward(&model, workspace.hidden(), scored, |_, _, _| {
//!     head::TokenGradient { logprob: -1.0 / 3.0, entropy: 0.0 }
//! }, &mut d_hidden, &mut grads);
//! backward(&model, &batch, &mut workspace, &d_hidden, &mut grads);
//! assert_eq!(scores.logprobs.len(), 3);
//! ```

use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::ops::matmul::{Into, Matrix, Threads, matmul};
use crate::ops::simd::{add, exp, kernel, max, sum_of};
use crate::parameters::Model;

/// Which hidden states are scored, and against which tokens.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Rows of the batch: the state at row r predicts the token behind it.
    pub rows: &'a [usize],
    /// The token predicted by each of these rows.
    pub targets: &'a [u32],
    /// The logits are divided by it; positive.
    pub temperature: f32,
}

/// What the head says of each scored row, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenScores {
    /// Log-probability of the target.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution, nats.
    pub entropies: Vec<f32>,
}

/// The derivatives of a loss by the two numbers of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenGradient {
    /// `∂L / ∂logprob`
    pub logprob: f32,
    /// `∂L / ∂entropy`
    pub entropy: f32,
}

/// Log-probabilities and entropies of the rows, given all hidden states `[T, E]`.
pub fn score(model: &Model, hidden: &[f32], scored: Rows) -> TokenScores {
    let mut scores = TokenScores::default();
    let mut chunks = Chunks::new(model, scored);
    rayon::scope(|_| {
        while let Some(rows) = chunks.next_logits(model, hidden, scored) {
            let targets = &scored.targets[rows.clone()];
            let (logits, width) = (&mut chunks.logits, model.config.vocab_size);
            let pairs = logits.par_chunks_mut(width).zip(targets).map(|(row, &target)| {
                let row = softmax(row, target as usize);
                (row.logprob, row.entropy)
            });
            scores.extend(&pairs.collect::<Vec<_>>());
        }
    });
    scores
}

/// The same scores, and the gradient of a loss that is a function of them.
///
/// `gradient` gets the index of a row among the scored ones, its log-probability and its entropy, and says how the loss
/// depends on both. The gradients are added to `d_hidden [T, E]` and, for the head's weights, to `grads`.
pub fn backward(
    model: &Model,
    hidden: &[f32],
    scored: Rows,
    gradient: impl Fn(usize, f32, f32) -> TokenGradient + Sync,
    d_hidden: &mut [f32],
    grads: &mut [f32],
) -> TokenScores {
    assert_eq!(hidden.len(), d_hidden.len(), "a gradient for every hidden state");
    assert_eq!(grads.len(), model.layout.len, "gradients have the layout of the parameters");
    let (width, vocab) = (model.config.hidden_size, model.config.vocab_size);
    let mut scores = TokenScores::default();
    let mut chunks = Chunks::new(model, scored);
    let mut d_rows = Vec::new();
    rayon::scope(|_| {
        while let Some(rows) = chunks.next_logits(model, hidden, scored) {
            let targets = &scored.targets[rows.clone()];
            let tasks = chunks.logits.par_chunks_mut(vocab).zip(targets).zip(rows.clone());
            let pairs = tasks.map(|((row, &target), index)| {
                let summary = softmax(row, target as usize);
                let weight = gradient(index, summary.logprob, summary.entropy);
                logit_gradient(row, target as usize, summary, weight);
                (summary.logprob, summary.entropy)
            });
            scores.extend(&pairs.collect::<Vec<_>>());

            let d_logits = Matrix::new(&chunks.logits, rows.len(), vocab);
            let weights = Matrix::new(&model.params[model.layout.lm_head.clone()], vocab, width);
            let states = Matrix::new(&chunks.states, rows.len(), width);
            let scale = scored.temperature.recip();
            d_rows.resize(rows.len() * width, 0.0);
            matmul(&mut d_rows, Into::Replace, scale, d_logits, weights, Threads::All);
            matmul(
                &mut grads[model.layout.lm_head.clone()],
                Into::Add,
                scale,
                d_logits.t(),
                states,
                Threads::All,
            );
            for (d_row, &row) in d_rows.chunks_exact(width).zip(&scored.rows[rows]) {
                add(&mut d_hidden[row * width..][..width], d_row);
            }
        }
    });
    scores
}

/// Next-token logits of some rows, `[rows, V]`, divided by nothing. For a handful of rows: this does hold them all.
pub fn logits(model: &Model, hidden: &[f32], rows: &[usize]) -> Vec<f32> {
    let (width, vocab) = (model.config.hidden_size, model.config.vocab_size);
    let states: Vec<f32> = rows.iter().flat_map(|&row| &hidden[row * width..][..width]).copied().collect();
    let weights = Matrix::new(&model.params[model.layout.lm_head.clone()], vocab, width);
    let mut logits = vec![0.0; rows.len() * vocab];
    matmul(
        &mut logits,
        Into::Replace,
        1.0,
        Matrix::new(&states, rows.len(), width),
        weights.t(),
        Threads::All,
    );
    logits
}

/// Bytes of the buffers of one chunk of rows.
pub(crate) fn chunk_bytes(config: &ModelConfig) -> usize {
    Chunks::rows(config) * (config.vocab_size + 2 * config.hidden_size) * size_of::<f32>()
}

impl TokenScores {
    fn extend(&mut self, pairs: &[(f32, f32)]) {
        self.logprobs.extend(pairs.iter().map(|pair| pair.0));
        self.entropies.extend(pairs.iter().map(|pair| pair.1));
    }
}

/// The buffers of one chunk, and how far the rows are done.
struct Chunks {
    /// Rows a chunk.
    size: usize,
    done: usize,
    /// `[rows, E]`
    states: Vec<f32>,
    /// `[rows, V]`
    logits: Vec<f32>,
}

impl Chunks {
    /// Logits of a chunk take 16 MiB, unless that would be too few rows for an efficient product.
    const LOGITS: usize = 1 << 22;

    fn rows(config: &ModelConfig) -> usize {
        (Self::LOGITS / config.vocab_size).clamp(128, 1024)
    }

    fn new(model: &Model, scored: Rows) -> Self {
        assert_eq!(scored.rows.len(), scored.targets.len(), "a target for every row");
        assert!(scored.temperature > 0.0, "the temperature is positive");
        Self { size: Self::rows(&model.config), done: 0, states: Vec::new(), logits: Vec::new() }
    }

    /// Fills states and logits of the next chunk and says which of the scored rows it has.
    fn next_logits(&mut self, model: &Model, hidden: &[f32], scored: Rows) -> Option<std::ops::Range<usize>> {
        let rows = self.done..(self.done + self.size).min(scored.rows.len());
        if rows.is_empty() {
            return None;
        }
        self.done = rows.end;
        let (width, vocab) = (model.config.hidden_size, model.config.vocab_size);
        self.states.clear();
        for &row in &scored.rows[rows.clone()] {
            self.states.extend_from_slice(&hidden[row * width..][..width]);
        }
        self.logits.resize(rows.len() * vocab, 0.0);
        let states = Matrix::new(&self.states, rows.len(), width);
        let weights = Matrix::new(&model.params[model.layout.lm_head.clone()], vocab, width);
        let scale = scored.temperature.recip();
        matmul(&mut self.logits, Into::Replace, scale, states, weights.t(), Threads::All);
        Some(rows)
    }
}

/// One row of logits, reduced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowSummary {
    pub(crate) logprob: f32,
    pub(crate) entropy: f32,
    /// log Σ e^(z - top)
    log_total: f32,
}

kernel! {
    /// Reduces a row of logits, which become logits less their maximum.
    pub(crate) fn softmax(row: &mut [f32], target: usize) -> RowSummary {
        let top = max(row);
        for z in row.iter_mut() {
            *z -= top;
        }
        let total = sum_of(row, exp);
        let mean = sum_of(row, |z| exp(z) * z) / total;
        let log_total = total.ln();
        RowSummary { logprob: row[target] - log_total, entropy: log_total - mean, log_total }
    }

    /// Turns the row that [`softmax`] left into the gradient by the logits.
    fn logit_gradient(row: &mut [f32], target: usize, summary: RowSummary, weight: TokenGradient) {
        // -logprob's part is -g p, entropy's is -e p (log p + S).
        let RowSummary { entropy, log_total, .. } = summary;
        for z in row.iter_mut() {
            let logprob = *z - log_total;
            *z = -exp(logprob) * (weight.logprob + weight.entropy * (logprob + entropy));
        }
        row[target] += weight.logprob;
    }
}
