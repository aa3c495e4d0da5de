//! Between rows and heads: the fused projection is a row a token, attention wants each head of each sequence contiguous.
//!
//! Splitting adds the bias and turns q and k by their positions on the way; joining gradients turns them back. See
//! [`Packed`] for the two layouts.

use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::ops::rope::{RopeTable, Turn};
use crate::ops::simd::add;
use crate::packed::{Packed, RowBlock};

/// Counts of heads and their width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape {
    /// H
    pub(crate) heads: usize,
    /// G
    pub(crate) kv_heads: usize,
    /// D
    pub(crate) dim: usize,
}

impl HeadShape {
    pub(crate) fn of(config: &ModelConfig) -> Self {
        Self { heads: config.num_attention_heads, kv_heads: config.num_key_value_heads, dim: config.head_dim }
    }

    /// Query heads that share one key and value head: H / G.
    pub(crate) fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Columns of the fused projection: `(H + 2 G) D`.
    fn qkv_size(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }
}

/// Splits `qkv [T, (H + 2 G) D]` into q (H heads), k and v (G heads) kept by heads, adding `bias` (empty for none).
pub(crate) fn split_qkv(
    qkv: &[f32],
    bias: &[f32],
    packed: &Packed,
    shape: HeadShape,
    rope: &RopeTable,
    [q, k, v]: [&mut [f32]; 3],
) {
    let sequences: Vec<_> = packed.sequences().collect();
    let run = |buffer: &mut [f32], heads: usize, first_head: usize, turns: bool| {
        let chunks = packed.head_chunks_mut(buffer, heads, shape.dim);
        chunks.into_par_iter().enumerate().for_each(|(task, chunk)| {
            let rows = &sequences[task / heads];
            let column = (first_head + task % heads) * shape.dim;
            for (position, out) in chunk.chunks_exact_mut(shape.dim).enumerate() {
                let start = (rows.start + position) * shape.qkv_size() + column;
                out.copy_from_slice(&qkv[start..start + shape.dim]);
                if !bias.is_empty() {
                    add(out, &bias[column..column + shape.dim]);
                }
                if turns {
                    rope.turn(out, position, Turn::Forward);
                }
            }
        });
    };
    run(q, shape.heads, 0, true);
    run(k, shape.kv_heads, shape.heads, true);
    run(v, shape.kv_heads, shape.heads + shape.kv_heads, false);
}

/// Joins the gradients of q, k and v kept by heads into `d_qkv [T, (H + 2 G) D]`.
pub(crate) fn join_qkv(
    [dq, dk, dv]: [&[f32]; 3],
    packed: &Packed,
    shape: HeadShape,
    rope: &RopeTable,
    d_qkv: &mut [f32],
) {
    let parts = [(dq, shape.heads, true), (dk, shape.kv_heads, true), (dv, shape.kv_heads, false)];
    packed.row_blocks_mut(d_qkv, shape.qkv_size()).into_par_iter().for_each(|block| {
        let mut first_head = 0;
        for (by_heads, heads, turns) in parts {
            copy_heads(
                by_heads,
                heads,
                shape,
                first_head,
                &block.sequence,
                block.start,
                block.rows,
                |head, position| {
                    if turns {
                        rope.turn(head, position, Turn::Back);
                    }
                },
            );
            first_head += heads;
        }
    });
}

/// From H heads, each contiguous, to rows `[T, H D]`.
pub(crate) fn heads_to_rows(by_heads: &[f32], packed: &Packed, shape: HeadShape, rows: &mut [f32]) {
    let shape = HeadShape { kv_heads: 0, ..shape };
    packed.row_blocks_mut(rows, shape.qkv_size()).into_par_iter().for_each(|block| {
        let RowBlock { sequence, start, rows } = block;
        copy_heads(by_heads, shape.heads, shape, 0, &sequence, start, rows, |_, _| ());
    });
}

/// From rows `[T, H D]` to H heads, each contiguous.
pub(crate) fn rows_to_heads(rows: &[f32], packed: &Packed, shape: HeadShape, by_heads: &mut [f32]) {
    let sequences: Vec<_> = packed.sequences().collect();
    let width = shape.heads * shape.dim;
    packed.head_chunks_mut(by_heads, shape.heads, shape.dim).into_par_iter().enumerate().for_each(
        |(task, chunk)| {
            let (sequence, head) = (&sequences[task / shape.heads], task % shape.heads);
            for (out, row) in chunk.chunks_exact_mut(shape.dim).zip(sequence.clone()) {
                let start = row * width + head * shape.dim;
                out.copy_from_slice(&rows[start..start + shape.dim]);
            }
        },
    );
}

/// Copies some heads into their columns of a block of rows, passing each copied head and its position through `then`.
#[expect(clippy::too_many_arguments, reason = "a private copy loop whose arguments are all coordinates")]
fn copy_heads(
    by_heads: &[f32],
    heads: usize,
    shape: HeadShape,
    first_head: usize,
    sequence: &std::ops::Range<usize>,
    start: usize,
    rows: &mut [f32],
    then: impl Fn(&mut [f32], usize),
) {
    for head in 0..heads {
        let source = &by_heads[Packed::head_range(sequence, heads, head, shape.dim)];
        let column = (first_head + head) * shape.dim;
        for (i, row) in rows.chunks_exact_mut(shape.qkv_size()).enumerate() {
            let position = start + i;
            let out = &mut row[column..column + shape.dim];
            out.copy_from_slice(&source[position * shape.dim..(position + 1) * shape.dim]);
            then(out, position);
        }
    }
}
