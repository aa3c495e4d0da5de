//! RMS normalisation: `y = x r w` with `r = 1 / sqrt(mean(x²) + eps)` for each row.
//!
//! For the gradient, with g = w dy and E columns: `dx = r g - x r³ (g · x) / E`, and `dw` sums `dy x r` over the rows.

use rayon::prelude::*;

use super::simd::{add, dot, kernel, sum_of};

/// Rows that one task takes.
const ROWS: usize = 32;

/// Normalises the rows of `x [T, E]` into `y [T, E]` and keeps `rstd [T]` for the backward pass.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let width = weight.len();
    y.par_chunks_mut(width * ROWS)
        .zip(x.par_chunks(width * ROWS))
        .zip(rstd.par_chunks_mut(ROWS))
        .for_each(|((y, x), rstd)| norm_rows(x, weight, eps, y, rstd));
}

/// Normalises again with the kept `rstd [T]`.
pub(crate) fn renormalize(x: &[f32], weight: &[f32], rstd: &[f32], y: &mut [f32]) {
    let width = weight.len();
    y.par_chunks_mut(width * ROWS)
        .zip(x.par_chunks(width * ROWS))
        .zip(rstd.par_chunks(ROWS))
        .for_each(|((y, x), rstd)| scale_rows(x, weight, rstd, y));
}

/// Adds the gradient of the input to `dx [T, E]` and that of the weight to `d_weight [E]`.
pub(crate) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    d_weight: &mut [f32],
) {
    let width = weight.len();
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(width * ROWS)
        .zip(x.par_chunks(width * ROWS))
        .zip(dy.par_chunks(width * ROWS))
        .zip(rstd.par_chunks(ROWS))
        .map(|(((dx, x), dy), rstd)| {
            let mut d_weight = vec![0.0; width];
            backward_rows(x, weight, rstd, dy, dx, &mut d_weight);
            d_weight
        })
        .collect();
    for part in &partial {
        add(d_weight, part);
    }
}

kernel! {
    fn norm_rows(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
        let width = weight.len();
        for ((x, y), r) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            *r = (sum_of(x, |x| x * x) / width as f32 + eps).sqrt().recip();
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * *r * w;
            }
        }
    }

    fn scale_rows(x: &[f32], weight: &[f32], rstd: &[f32], y: &mut [f32]) {
        let width = weight.len();
        for ((x, y), r) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * r * w;
            }
        }
    }

    fn backward_rows(x: &[f32], weight: &[f32], rstd: &[f32], dy: &[f32], dx: &mut [f32], d_weight: &mut [f32]) {
        let width = weight.len();
        let mut g = vec![0.0; width];
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(rstd);
        for (((x, dy), dx), &r) in rows {
            for ((((g, dy), w), x), d_weight) in g.iter_mut().zip(dy).zip(weight).zip(x).zip(d_weight.iter_mut()) {
                *g = dy * w;
                *d_weight += dy * x * r;
            }
            let c = dot(&g, x) * r * r * r / width as f32;
            for ((dx, g), x) in dx.iter_mut().zip(&g).zip(x) {
                *dx += g * r - x * c;
            }
        }
    }
}
