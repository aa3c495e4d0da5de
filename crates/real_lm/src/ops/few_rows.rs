//! Products of a few rows with a large weight matrix, `y [B, out] = x [B, in] W'`: the work of decoding, one row a sequence.
//!
//! A general product would first copy the weights into panels, which costs as much as multiplying them by a few rows. Here
//! each output is a dot product read straight from the rows of W, in tiles of a few rows of x and of W so that every loaded
//! vector is used several times; while a tile of W meets the rows of x, the next one is fetched from memory. The sum of one
//! output is taken in an order that depends on nothing but `in`: a sequence gets the same bits alone and in any batch, on any
//! number of threads.

#![expect(
    clippy::inline_always,
    reason = "the tiles must take on the target features of the kernel that calls them"
)]

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::simd::has_avx2;

/// Elements of the inner dimension summed side by side.
const LANES: usize = 8;
/// Rows of W in a tile, unless there is a single row of x.
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

/// The whole product on the calling thread, into the columns of y that `weight` has rows for.
pub(crate) fn product(x: &[f32], weight: &[f32], width: usize, y: &mut [&mut [f32]]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn product_avx2(x: &[f32], weight: &[f32], width: usize, y: &mut [&mut [f32]]) {
            product_with::<avx2::Avx2>(x, weight, width, y);
        }
        if has_avx2() {
            // SAFETY: `has_avx2` has just found both features on this CPU.
            #[expect(unsafe_code, reason = "calls a function compiled for more than the target's default")]
            return unsafe { product_avx2(x, weight, width, y) };
        }
    }
    product_with::<[f32; LANES]>(x, weight, width, y);
}

#[inline(always)]
fn product_with<V: Eight>(x: &[f32], weight: &[f32], width: usize, y: &mut [&mut [f32]]) {
    if y.len() == 1 {
        columns::<V, 8>(x, weight, width, y);
    } else {
        columns::<V, OUTPUTS>(x, weight, width, y);
    }
}

/// All rows of x by `N` rows of W at a time, so that W is read once.
#[inline(always)]
fn columns<V: Eight, const N: usize>(x: &[f32], weight: &[f32], width: usize, y: &mut [&mut [f32]]) {
    let whole = weight.len() / width / N * N;
    let (tiles, rest) = weight.split_at(whole * width);
    for (j, weight) in tiles.chunks_exact(N * width).enumerate() {
        rows::<V, N>(x, weight, width, y, j * N);
    }
    for (j, weight) in rest.chunks_exact(width).enumerate() {
        rows::<V, 1>(x, weight, width, y, whole + j);
    }
}

/// All rows of x by `N` rows of W.
#[inline(always)]
fn rows<V: Eight, const N: usize>(
    x: &[f32],
    weight: &[f32],
    width: usize,
    y: &mut [&mut [f32]],
    column: usize,
) {
    // Each block of rows of x fetches its share of the next rows of W, a stride with each chunk of the inner dimension.
    let stride = N * LANES / y.len().div_ceil(ROWS);
    let share = width / LANES * stride;
    let mut next = weight.as_ptr_range().end;
    for (x, y) in x.chunks(ROWS * width).zip(y.chunks_mut(ROWS)) {
        match y.len() {
            1 => tile::<V, 1, N>(x, weight, width, y, column, Fetch { next, stride }),
            2 => tile::<V, 2, N>(x, weight, width, y, column, Fetch { next, stride }),
            3 => tile::<V, 3, N>(x, weight, width, y, column, Fetch { next, stride }),
            _ => tile::<V, ROWS, N>(x, weight, width, y, column, Fetch { next, stride }),
        }
        next = next.wrapping_add(share);
    }
}

/// What a tile fetches into the cache for later: `stride` numbers with each chunk, from `next` on. The addresses are hints and
/// may lie behind the weights; nothing is read there.
#[derive(Clone, Copy)]
struct Fetch {
    next: *const f32,
    stride: usize,
}

/// Eight numbers, in a register where there is one of that width.
trait Eight: Copy {
    fn zero() -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    /// Asks for the cache line of an address, where that can be asked.
    fn fetch(_address: *const f32) {}
    /// `self + a b`
    fn add_product(self, a: Self, b: Self) -> Self;
    fn to_array(self) -> [f32; LANES];
}

impl Eight for [f32; LANES] {
    #[inline(always)]
    fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        *from
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], self[lane]))
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        self
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "vector instructions, which the compiler does not reliably find by itself here"
)]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };

    #[derive(Clone, Copy)]
    pub(super) struct Avx2(__m256);

    impl super::Eight for Avx2 {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: an `Avx2` exists only below `product_avx2`, which runs on CPUs with AVX2 and FMA; so for all of these.
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        fn load(from: &[f32; super::LANES]) -> Self {
            // SAFETY: as above, and the reference is to eight numbers.
            Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn fetch(address: *const f32) {
            // SAFETY: as above; a prefetch may be of any address and never fails.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as in `zero`.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn to_array(self) -> [f32; super::LANES] {
            let mut out = [0.0; super::LANES];
            // SAFETY: as in `zero`, and the array is of eight numbers.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), self.0) };
            out
        }
    }
}

/// `R` rows of x by `N` rows of W, to the columns of y from `column` on.
#[inline(always)]
fn tile<V: Eight, const R: usize, const N: usize>(
    x: &[f32],
    weight: &[f32],
    width: usize,
    y: &mut [&mut [f32]],
    column: usize,
    fetch: Fetch,
) {
    let x: [&[f32]; R] = std::array::from_fn(|i| &x[i * width..(i + 1) * width]);
    let weight: [&[f32]; N] = std::array::from_fn(|j| &weight[j * width..(j + 1) * width]);
    let chunks = width / LANES;
    let x_chunks = x.map(|x| &x.as_chunks::<LANES>().0[..chunks]);
    let weight_chunks = weight.map(|weight| &weight.as_chunks::<LANES>().0[..chunks]);
    let mut sums = [[V::zero(); N]; R];
    for c in 0..chunks {
        V::fetch(fetch.next.wrapping_add(c * fetch.stride));
        let weights: [V; N] = std::array::from_fn(|j| V::load(&weight_chunks[j][c]));
        for i in 0..R {
            let x = V::load(&x_chunks[i][c]);
            for j in 0..N {
                sums[i][j] = sums[i][j].add_product(x, weights[j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..N {
            let [a, b, c, d, e, f, g, h] = sums[i][j].to_array();
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
                for (row, y) in weight.chunks(width).zip(y.iter()) {
                    let exact: f64 = x.iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    assert!(
                        (f64::from(*y) - exact).abs() < 1e-5 * (width as f64).sqrt(),
                        "{rows} {outputs} {width}"
                    );
                }
                let mut portable = vec![0.0; outputs];
                product_with::<[f32; LANES]>(x, &weight, width, &mut [&mut portable]);
                assert_eq!(portable, y, "both kinds of registers give the same bits");
                let mut alone = vec![0.0; outputs];
                few_rows(x, &weight, width, &mut alone);
                assert_eq!(alone, y, "a row alone has the bits it has in a batch");
            }
        }
    }
}
