//! Products of a few rows with a large weight matrix, `y [B, out] = x [B, in] W'`: the work of decoding, one row a sequence.
//!
//! A general product would first copy the weights into panels, which costs as much as multiplying them by a few rows. Here
//! each output is a dot product read straight from the rows of W, in tiles of a few rows of x and of W so that every loaded
//! vector is used several times. The sum of one output is taken in an order that depends on nothing but `in`: a sequence gets
//! the same bits alone and in any batch, on any number of threads.

#![expect(
    clippy::inline_always,
    reason = "the tiles must take on the target features of the kernel that calls them"
)]

use rayon::prelude::*;

use super::simd::kernel;

/// Elements of the inner dimension summed side by side.
const LANES: usize = 8;
/// Rows of W in a tile.
const OUTPUTS: usize = 3;
/// Rows of x in a tile.
const ROWS: usize = 4;
/// Products too small to share among threads.
const SMALL: usize = 1 << 15;

/// `y [B, out] = x [B, width] W'` for the weights `W [out, width]`.
pub(crate) fn few_rows(x: &[f32], weight: &[f32], width: usize, y: &mut [f32]) {
    let (rows, outputs) = (x.len() / width, weight.len() / width);
    assert_eq!(y.len(), rows * outputs, "y has the shape of the product");
    let tasks = if rows * weight.len() < SMALL { 1 } else { 4 * rayon::current_num_threads() };
    let chunk = outputs.div_ceil(tasks).next_multiple_of(OUTPUTS);
    // Each task owns the same columns of every row of y.
    let mut columns: Vec<Vec<&mut [f32]>> =
        (0..outputs.div_ceil(chunk)).map(|_| Vec::with_capacity(rows)).collect();
    for row in y.chunks_exact_mut(outputs) {
        for (part, columns) in row.chunks_mut(chunk).zip(&mut columns) {
            columns.push(part);
        }
    }
    columns
        .into_par_iter()
        .zip(weight.par_chunks(chunk * width))
        .for_each(|(mut y, weight)| product(x, weight, width, &mut y));
}

kernel! {
    fn product(x: &[f32], weight: &[f32], width: usize, y: &mut [&mut [f32]]) {
        for (j, weight) in weight.chunks(OUTPUTS * width).enumerate() {
            for (x, y) in x.chunks(ROWS * width).zip(y.chunks_mut(ROWS)) {
                match (y.len(), weight.len() / width) {
                    (ROWS, OUTPUTS) => tile::<ROWS, OUTPUTS>(x, weight, width, y, j * OUTPUTS),
                    (_, OUTPUTS) => rows::<OUTPUTS>(x, weight, width, y, j * OUTPUTS),
                    _ => for (k, weight) in weight.chunks_exact(width).enumerate() {
                        rows::<1>(x, weight, width, y, j * OUTPUTS + k);
                    }
                }
            }
        }
    }
}

/// Rows of x one by one, by `N` rows of W.
#[inline(always)]
fn rows<const N: usize>(x: &[f32], weight: &[f32], width: usize, y: &mut [&mut [f32]], column: usize) {
    for (x, y) in x.chunks_exact(width).zip(y.chunks_mut(1)) {
        tile::<1, N>(x, weight, width, y, column);
    }
}

/// `R` rows of x by `N` rows of W, to the columns of y from `column` on.
#[inline(always)]
fn tile<const R: usize, const N: usize>(
    x: &[f32],
    weight: &[f32],
    width: usize,
    y: &mut [&mut [f32]],
    column: usize,
) {
    let x: [&[f32]; R] = std::array::from_fn(|i| &x[i * width..(i + 1) * width]);
    let weight: [&[f32]; N] = std::array::from_fn(|j| &weight[j * width..(j + 1) * width]);
    let x_chunks = x.map(|x| x.as_chunks::<LANES>().0);
    let weight_chunks = weight.map(|weight| weight.as_chunks::<LANES>().0);
    let chunks = width / LANES;
    let mut sums = [[[0.0f32; LANES]; N]; R];
    for c in 0..chunks {
        for i in 0..R {
            for j in 0..N {
                for lane in 0..LANES {
                    sums[i][j][lane] =
                        x_chunks[i][c][lane].mul_add(weight_chunks[j][c][lane], sums[i][j][lane]);
                }
            }
        }
    }
    for i in 0..R {
        for j in 0..N {
            let [a, b, c, d, e, f, g, h] = sums[i][j];
            let mut total = ((a + e) + (c + g)) + ((b + f) + (d + h));
            for k in chunks * LANES..width {
                total = x[i][k].mul_add(weight[j][k], total);
            }
            y[i][column + j] = total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    #[test]
    fn agrees_with_f64_and_each_row_with_itself_alone() {
        for (rows, outputs, width) in
            [(1, 1, 1), (1, 5, 9), (2, 3, 8), (5, 31, 67), (9, 200, 192), (33, 64, 40)]
        {
            let (x, weight) = (numbers(rows * width, 1), numbers(outputs * width, 2));
            let mut y = vec![0.0; rows * outputs];
            few_rows(&x, &weight, width, &mut y);
            for (x, y) in x.chunks(width).zip(y.chunks(outputs)) {
                for (weight, y) in weight.chunks(width).zip(y) {
                    let exact: f64 = x.iter().zip(weight).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    assert!(
                        (f64::from(*y) - exact).abs() < 1e-5 * (width as f64).sqrt(),
                        "{rows} {outputs} {width}"
                    );
                }
                let mut alone = vec![0.0; outputs];
                few_rows(x, &weight, width, &mut alone);
                assert_eq!(alone, y, "a row alone has the bits it has in a batch");
            }
        }
    }
}
