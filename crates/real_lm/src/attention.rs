//! Causal attention, forward and backward, without ever holding all scores.
//!
//! One task is one head of one sequence. It takes the queries in blocks: a block of rows i meets the keys up to its own last
//! position, `S = Q K' / sqrt(D)`, each row is masked and normalised, `P = exp(S - lse)`, and `O = P V`. Of all that only the
//! log-sum-exp of each row is kept. The backward pass computes P again and then, with `δ = dO · O` for each row,
//!
//! ```text
//! dV += P' dO      dP = dO V'      dS = P (dP - δ) / sqrt(D)      dQ = dS K      dK += dS' Q
//! ```
//!
//! The heads of a group share k and v; one task takes a whole group, so that each gradient has one writer and one order.
//!
//! All tensors are kept by heads (see [`Packed`]): q, o `[H, n, D]` and k, v `[G, n, D]` for each sequence of n tokens.

use rayon::prelude::*;

use crate::heads::HeadShape;
use crate::ops::matmul::{Into, Matrix, Threads, matmul};
use crate::ops::simd::{dot, exp, kernel, max, sum_of};
use crate::packed::Packed;

/// Queries that are taken at once.
const BLOCK: usize = 64;

/// Writes the outputs `o` and the log-sum-exp of each row, `lse`: `[H, n]` for each sequence.
pub(crate) fn forward(
    [q, k, v]: [&[f32]; 3],
    packed: &Packed,
    shape: HeadShape,
    o: &mut [f32],
    lse: &mut [f32],
) {
    let sequences: Vec<_> = packed.sequences().collect();
    let outputs = packed.head_chunks_mut(o, shape.heads, shape.dim);
    let lses = packed.head_chunks_mut(lse, shape.heads, 1);
    let scores = || vec![0.0; BLOCK * packed.longest()];
    outputs.into_par_iter().zip(lses).enumerate().for_each_init(scores, |scores, (task, (o, lse))| {
        let (rows, head) = (&sequences[task / shape.heads], task % shape.heads);
        let kv = Packed::head_range(rows, shape.kv_heads, head / shape.group(), shape.dim);
        let q = &q[Packed::head_range(rows, shape.heads, head, shape.dim)];
        forward_head([q, &k[kv.clone()], &v[kv]], shape.dim, o, lse, scores);
    });
}

/// Gradients of q, k and v, which it overwrites; `d_o` is the gradient of the outputs.
pub(crate) fn backward(
    [q, k, v, o, lse, d_o]: [&[f32]; 6],
    packed: &Packed,
    shape: HeadShape,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let sequences: Vec<_> = packed.sequences().collect();
    let group = shape.group();
    let dqs = packed.head_chunks_mut(dq, shape.kv_heads, group * shape.dim);
    let dks = packed.head_chunks_mut(dk, shape.kv_heads, shape.dim);
    let dvs = packed.head_chunks_mut(dv, shape.kv_heads, shape.dim);
    let scratch = || [vec![0.0; BLOCK * packed.longest()], vec![0.0; BLOCK * packed.longest()]];
    dqs.into_par_iter().zip(dks).zip(dvs).enumerate().for_each_init(
        scratch,
        |scratch, (task, ((dq, dk), dv))| {
            let (rows, kv_head) = (&sequences[task / shape.kv_heads], task % shape.kv_heads);
            let kv = Packed::head_range(rows, shape.kv_heads, kv_head, shape.dim);
            dk.fill(0.0);
            dv.fill(0.0);
            for (head, dq) in (kv_head * group..).zip(dq.chunks_exact_mut(rows.len() * shape.dim)) {
                let own = Packed::head_range(rows, shape.heads, head, shape.dim);
                let lse = &lse[Packed::head_range(rows, shape.heads, head, 1)];
                let inputs =
                    [&q[own.clone()], &k[kv.clone()], &v[kv.clone()], &o[own.clone()], lse, &d_o[own]];
                backward_head(inputs, shape.dim, [dq, dk, dv], scratch);
            }
        },
    );
}

fn forward_head([q, k, v]: [&[f32]; 3], dim: usize, o: &mut [f32], lse: &mut [f32], scores: &mut [f32]) {
    let scale = (dim as f32).sqrt().recip();
    let blocks = q.chunks(BLOCK * dim).zip(o.chunks_mut(BLOCK * dim)).zip(lse.chunks_mut(BLOCK));
    for (index, ((q, o), lse)) in blocks.enumerate() {
        let (count, first) = (lse.len(), index * BLOCK);
        let seen = first + count;
        let scores = &mut scores[..count * seen];
        let (k, v) = (Matrix::new(&k[..seen * dim], seen, dim), Matrix::new(&v[..seen * dim], seen, dim));
        matmul(scores, Into::Replace, scale, Matrix::new(q, count, dim), k.t(), Threads::One);
        causal_softmax(scores, first, lse);
        matmul(o, Into::Replace, 1.0, Matrix::new(scores, count, seen), v, Threads::One);
    }
}

/// Adds to dk and dv, writes dq.
fn backward_head(
    [q, k, v, o, lse, d_o]: [&[f32]; 6],
    dim: usize,
    [dq, dk, dv]: [&mut [f32]; 3],
    [p, ds]: &mut [Vec<f32>; 2],
) {
    let scale = (dim as f32).sqrt().recip();
    let inputs = q.chunks(BLOCK * dim).zip(o.chunks(BLOCK * dim)).zip(d_o.chunks(BLOCK * dim));
    let blocks = inputs.zip(lse.chunks(BLOCK)).zip(dq.chunks_mut(BLOCK * dim));
    for (index, ((((q, o), d_o), lse), dq)) in blocks.enumerate() {
        let (count, first) = (lse.len(), index * BLOCK);
        let seen = first + count;
        let (p, ds) = (&mut p[..count * seen], &mut ds[..count * seen]);
        let (k, v) = (Matrix::new(&k[..seen * dim], seen, dim), Matrix::new(&v[..seen * dim], seen, dim));
        let (q, d_o_rows) = (Matrix::new(q, count, dim), Matrix::new(d_o, count, dim));
        matmul(p, Into::Replace, scale, q, k.t(), Threads::One);
        matmul(ds, Into::Replace, 1.0, d_o_rows, v.t(), Threads::One);
        softmax_gradient(p, ds, first, scale, lse, o, d_o);
        let (p, ds) = (Matrix::new(p, count, seen), Matrix::new(ds, count, seen));
        matmul(&mut dv[..seen * dim], Into::Add, 1.0, p.t(), d_o_rows, Threads::One);
        matmul(dq, Into::Replace, 1.0, ds, k, Threads::One);
        matmul(&mut dk[..seen * dim], Into::Add, 1.0, ds.t(), q, Threads::One);
    }
}

kernel! {
    /// Rows of scores to probabilities; row i of the block sees the keys up to `first + i`, the others get probability 0.
    fn causal_softmax(scores: &mut [f32], first: usize, lse: &mut [f32]) {
        let width = scores.len() / lse.len();
        for (i, (row, lse)) in scores.chunks_exact_mut(width).zip(lse).enumerate() {
            let (row, masked) = row.split_at_mut(first + i + 1);
            masked.fill(0.0);
            let top = max(row);
            for x in row.iter_mut() {
                *x = exp(*x - top);
            }
            let total = sum_of(row, |x| x);
            let inverse = total.recip();
            for x in row {
                *x *= inverse;
            }
            *lse = top + total.ln();
        }
    }

    /// Scores in `p` become probabilities, gradients of probabilities in `ds` become gradients of scaled scores.
    fn softmax_gradient(p: &mut [f32], ds: &mut [f32], first: usize, scale: f32, lse: &[f32], o: &[f32], d_o: &[f32]) {
        let (width, dim) = (p.len() / lse.len(), o.len() / lse.len());
        let rows = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
        let outputs = o.chunks_exact(dim).zip(d_o.chunks_exact(dim)).zip(lse);
        for (i, ((p, ds), ((o, d_o), lse))) in rows.zip(outputs).enumerate() {
            let delta = dot(o, d_o);
            let seen = first + i + 1;
            p[seen..].fill(0.0);
            ds[seen..].fill(0.0);
            for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                *p = exp(*p - lse);
                *ds = *p * (*ds - delta) * scale;
            }
        }
    }
}
