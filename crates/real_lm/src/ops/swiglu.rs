//! The gated activation of the feed-forward layer: `y = silu(gate) up` with `silu(x) = x σ(x)`.
//!
//! With s = σ(gate): `d_up = dy gate s` and `d_gate = dy up s (1 + gate (1 - s))`.

use rayon::prelude::*;

use super::simd::{kernel, sigmoid};

/// Rows that one task takes.
const ROWS: usize = 16;

/// `gate_up [T, 2 I]` to `y [T, I]`; `inner` is I.
pub(crate) fn swiglu(gate_up: &[f32], inner: usize, y: &mut [f32]) {
    y.par_chunks_mut(inner * ROWS)
        .zip(gate_up.par_chunks(2 * inner * ROWS))
        .for_each(|(y, gate_up)| swiglu_rows(gate_up, inner, y));
}

/// Writes the gradient of `gate_up [T, 2 I]` for `dy [T, I]`.
pub(crate) fn swiglu_backward(gate_up: &[f32], inner: usize, dy: &[f32], d_gate_up: &mut [f32]) {
    d_gate_up
        .par_chunks_mut(2 * inner * ROWS)
        .zip(gate_up.par_chunks(2 * inner * ROWS))
        .zip(dy.par_chunks(inner * ROWS))
        .for_each(|((d_gate_up, gate_up), dy)| backward_rows(gate_up, inner, dy, d_gate_up));
}

kernel! {
    fn swiglu_rows(gate_up: &[f32], inner: usize, y: &mut [f32]) {
        for (row, y) in gate_up.chunks_exact(2 * inner).zip(y.chunks_exact_mut(inner)) {
            let (gate, up) = row.split_at(inner);
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid(gate) * up;
            }
        }
    }

    fn backward_rows(gate_up: &[f32], inner: usize, dy: &[f32], d_gate_up: &mut [f32]) {
        let rows = gate_up.chunks_exact(2 * inner).zip(dy.chunks_exact(inner));
        for ((row, dy), d_row) in rows.zip(d_gate_up.chunks_exact_mut(2 * inner)) {
            let (gate, up) = row.split_at(inner);
            let (d_gate, d_up) = d_row.split_at_mut(inner);
            let inputs = gate.iter().zip(up).zip(dy);
            for (((&gate, &up), &dy), (d_gate, d_up)) in inputs.zip(d_gate.iter_mut().zip(d_up)) {
                let s = sigmoid(gate);
                *d_up = dy * gate * s;
                *d_gate = dy * up * s * (1.0 + gate * (1.0 - s));
            }
        }
    }
}
