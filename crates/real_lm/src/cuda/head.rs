//! The output head on a device: `crate::head`, chunk by chunk.
//!
//! A chunk's logits are made on the device and reduced there; three numbers a row come to the host, which says how the loss
//! depends on them, and two a row go back. So a loss is an ordinary closure, at the price of waiting for the device once a
//! chunk: some ten microseconds beside the milliseconds that a chunk of half a gigabyte takes.

use std::sync::Arc;

use half::bf16;

use super::Error;
use super::device::{Buffer, Device, Slice};
use super::model::Weights;
use super::ops::{self, Logits};
use crate::head::{Rows, TokenGradient, TokenScores};

/// Bytes that the logits of a chunk may take.
const CHUNK_BYTES: usize = 512 << 20;

/// The buffers of a chunk.
#[derive(Debug)]
pub(crate) struct Head {
    /// Rows a chunk.
    rows_at_once: usize,
    rows: Buffer<u32>,
    targets: Buffer<u32>,
    /// `[R, E]`
    states: Buffer<bf16>,
    /// `[R, stride]`
    logits: Buffer<f32>,
    /// `[R, 3]`
    scores: Buffer<f32>,
    /// `[R, 2]`
    gradients: Buffer<f32>,
    /// `[R, E]`
    d_rows: Buffer<f32>,
}

/// From one row of logits to the next.
pub(crate) fn stride(vocabulary: usize) -> usize {
    vocabulary.next_multiple_of(8)
}

/// Rows of logits that are held at once.
pub(crate) fn rows_at_once(vocabulary: usize) -> usize {
    (CHUNK_BYTES / (stride(vocabulary) * size_of::<f32>())).clamp(1, 1 << 16)
}

impl Head {
    pub(crate) fn empty(device: &Arc<dyn Device>, rows_at_once: usize) -> Self {
        Self {
            rows_at_once,
            rows: Buffer::empty(device),
            targets: Buffer::empty(device),
            states: Buffer::empty(device),
            logits: Buffer::empty(device),
            scores: Buffer::empty(device),
            gradients: Buffer::empty(device),
            d_rows: Buffer::empty(device),
        }
    }

    /// Log-probabilities and entropies of the rows, given all hidden states `[T, E]`.
    pub(crate) fn score(
        &mut self,
        device: &dyn Device,
        weights: &Weights,
        hidden: Slice<bf16>,
        scored: Rows,
    ) -> Result<TokenScores, Error> {
        let mut scores = TokenScores::default();
        for start in (0..scored.rows.len()).step_by(self.rows_at_once) {
            let rows = start..(start + self.rows_at_once).min(scored.rows.len());
            self.logits(device, weights, hidden, scored, rows.clone())?;
            self.scores_to_host(rows.len(), &mut scores)?;
        }
        Ok(scores)
    }

    /// The same scores, and the gradient of a loss that is a function of them, added to `d_hidden [T, E]` and to that of the
    /// head's weights.
    ///
    /// # Panics
    /// If the rows do not ascend: each may have only one writer.
    pub(crate) fn backward(
        &mut self,
        device: &dyn Device,
        weights: &Weights,
        hidden: Slice<bf16>,
        scored: Rows,
        gradient: &dyn Fn(usize, f32, f32) -> TokenGradient,
        d_hidden: Slice<f32>,
    ) -> Result<TokenScores, Error> {
        assert!(scored.rows.is_sorted_by(|a, b| a < b), "scored rows ascend");
        let (width, vocabulary) = (weights.config.hidden_size, weights.config.vocab_size);
        let head = &weights.layout.lm_head;
        let scale = scored.temperature.recip();
        let mut scores = TokenScores::default();
        for start in (0..scored.rows.len()).step_by(self.rows_at_once) {
            let rows = start..(start + self.rows_at_once).min(scored.rows.len());
            let count = rows.len();
            let logits = self.logits(device, weights, hidden, scored, rows.clone())?;
            self.scores_to_host(count, &mut scores)?;
            let derivatives: Vec<f32> = rows
                .flat_map(|row| {
                    let TokenGradient { logprob, entropy } =
                        gradient(row, scores.logprobs[row], scores.entropies[row]);
                    [logprob, entropy]
                })
                .collect();
            self.gradients.set(&derivatives)?;
            let (row_scores, derivatives) = (self.scores.first(3 * count), self.gradients.first(2 * count));
            ops::logit_gradient(device, logits, self.targets.first(count), row_scores, derivatives)?;
            let d_logits = (logits.values.as_bf16(), 2 * logits.stride);
            self.d_rows.grow(count * width)?;
            let d_rows = self.d_rows.first(count * width);
            ops::input_gradient(device, d_logits, weights.part(head), vocabulary, d_rows, scale)?;
            let states = self.states.first(count * width);
            ops::weight_gradient(device, d_logits, states, vocabulary, weights.gradient(head), scale)?;
            ops::scatter_add(device, d_rows, self.rows.first(count), d_hidden)?;
        }
        Ok(scores)
    }

    /// Makes and reduces the logits of some of the scored rows.
    fn logits(
        &mut self,
        device: &dyn Device,
        weights: &Weights,
        hidden: Slice<bf16>,
        scored: Rows,
        range: std::ops::Range<usize>,
    ) -> Result<Logits, Error> {
        let (width, vocabulary) = (weights.config.hidden_size, weights.config.vocab_size);
        let (count, stride) = (range.len(), stride(vocabulary));
        let rows: Vec<u32> = scored.rows[range.clone()].iter().map(|&row| row as u32).collect();
        self.rows.set(&rows)?;
        self.targets.set(&scored.targets[range])?;
        self.states.grow(count * width)?;
        self.logits.grow(count * stride)?;
        self.scores.grow(count * 3)?;
        let (states, values) = (self.states.first(count * width), self.logits.first(count * stride));
        ops::gather_rows(device, hidden, self.rows.first(count), states)?;
        let head = weights.part(&weights.layout.lm_head);
        ops::linear(device, states, head, width, (values, stride), scored.temperature.recip())?;
        let logits = Logits { values, vocabulary, stride };
        ops::row_scores(device, logits, self.targets.first(count), self.scores.first(3 * count))?;
        Ok(logits)
    }

    fn scores_to_host(&self, count: usize, scores: &mut TokenScores) -> Result<(), Error> {
        for row in self.scores.to_host(3 * count)?.chunks_exact(3) {
            scores.logprobs.push(row[0]);
            scores.entropies.push(row[1]);
        }
        Ok(())
    }
}
