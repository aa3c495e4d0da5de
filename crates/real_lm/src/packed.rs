//! Several sequences behind each other in one batch, with no padding.
//!
//! Three sequences of 3, 1 and 2 tokens are six rows, `offsets` being `[0, 3, 4, 6]`; positions are `0 1 2 0 0 1`, and a token
//! attends only to earlier tokens of its own sequence. A batch of mixed lengths costs what its tokens cost.
//!
//! Attention works on one head of one sequence at a time, so its tensors are kept by heads: for every sequence in turn,
//! `[heads, tokens of the sequence, D]`. This module cuts buffers of both layouts into the pieces that tasks own.

use std::ops::Range;

/// Sequences behind each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The tokens of all sequences: `[T]`.
    pub ids: Vec<u32>,
    /// Where each sequence starts, and behind the last where it ends: sequences + 1 entries, the first 0.
    pub offsets: Vec<usize>,
}

impl Default for Packed {
    fn default() -> Self {
        Self { ids: Vec::new(), offsets: vec![0] }
    }
}

impl Packed {
    /// Packs the sequences in their order; none may be empty.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut packed = Self::default();
        for sequence in sequences {
            packed.push(sequence.as_ref());
        }
        packed
    }

    /// Puts one more sequence behind the others.
    pub fn push(&mut self, sequence: &[u32]) {
        assert!(!sequence.is_empty(), "a sequence has at least one token");
        self.ids.extend_from_slice(sequence);
        self.offsets.push(self.ids.len());
    }

    /// Number of tokens, T.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The rows of each sequence.
    pub fn sequences(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// Length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.sequences().map(|rows| rows.len()).max().unwrap_or(0)
    }

    /// The chunk of every (sequence, head) in a buffer kept by heads, `width` elements a token: tasks in that order.
    pub(crate) fn head_chunks_mut<'a>(
        &self,
        buffer: &'a mut [f32],
        heads: usize,
        width: usize,
    ) -> Vec<&'a mut [f32]> {
        let mut rest = buffer;
        let mut chunks = Vec::with_capacity(heads * self.sequences().len());
        for rows in self.sequences() {
            for _ in 0..heads {
                let (chunk, behind) = rest.split_at_mut(rows.len() * width);
                chunks.push(chunk);
                rest = behind;
            }
        }
        assert!(rest.is_empty(), "the buffer holds every head of every token");
        chunks
    }

    /// The part of a buffer kept by heads that belongs to one head of the sequence with these rows.
    pub(crate) fn head_range(rows: &Range<usize>, heads: usize, head: usize, width: usize) -> Range<usize> {
        let start = (rows.start * heads + head * rows.len()) * width;
        start..start + rows.len() * width
    }

    /// Cuts a row-major buffer `[T, width]` into blocks of rows that never cross a sequence.
    pub(crate) fn row_blocks_mut<'a>(&self, buffer: &'a mut [f32], width: usize) -> Vec<RowBlock<'a>> {
        const ROWS: usize = 32;
        let mut rest = buffer;
        let mut blocks = Vec::new();
        for sequence in self.sequences() {
            for start in (0..sequence.len()).step_by(ROWS) {
                let count = ROWS.min(sequence.len() - start);
                let (rows, behind) = rest.split_at_mut(count * width);
                blocks.push(RowBlock { sequence: sequence.clone(), start, rows });
                rest = behind;
            }
        }
        blocks
    }
}

/// Some consecutive rows of one sequence in a row-major buffer.
pub(crate) struct RowBlock<'a> {
    /// Rows of the whole sequence in the batch.
    pub(crate) sequence: Range<usize>,
    /// Position of the first row in its sequence.
    pub(crate) start: usize,
    /// The rows.
    pub(crate) rows: &'a mut [f32],
}
