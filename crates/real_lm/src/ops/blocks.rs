//! Products of a few rows with weights that stay in the block formats of GGUF: `y [B, out] = x [B, in] W'`.
//!
//! Decoding one sequence reads every weight once a token, and memory sets the pace. Weights of four to eight bits are read several times
//! faster than floats, if they need not become floats first. A group of 32 weights is `w = a q + b` with small whole numbers q; the numbers
//! that they meet are rounded to eight bits with a scale s of each 32, `x ≈ s x8`. Then
//!
//! ```text
//! Σ w x ≈ s (a Σ q x8 + b Σ x8)
//! ```
//!
//! needs whole numbers alone until the two sums are done. With `a = 0.5`, `b = −8`, `q = [16, 18]` and `x = [1.0, −0.5]`: `s = 1/127`, `x8 =
//! [127, −64]`, and `(0.5 · (2032 − 1152) − 8 · 63) / 127 = −0.504`, where exactly it is −0.5. Rounding x is all that is
//! lost, about a part in 250; see [`BlockModel`](crate::BlockModel) for when that is worth it.
//!
//! On x86 the whole numbers are multiplied 32 at a time; both paths give the same bits.

#![expect(
    clippy::inline_always,
    reason = "the inner functions must take on the target features of the kernel that calls them"
)]

use half::f16;
use rayon::prelude::*;

use crate::gguf::{TensorType, dequantize};

/// Weights in a group.
const GROUP: usize = 32;

/// A matrix in one of the block formats.
#[derive(Debug, Clone)]
pub(crate) struct BlockMatrix {
    kind: TensorType,
    /// Columns; whole blocks.
    width: usize,
    bytes: Vec<u8>,
}

impl BlockMatrix {
    /// Whether matrices of this format and width can be multiplied.
    pub(crate) fn supports(kind: TensorType, width: usize) -> bool {
        kind.block_len() > 1 && width.is_multiple_of(kind.block_len())
    }

    /// The matrix whose rows are these bytes.
    pub(crate) fn new(kind: TensorType, width: usize, bytes: Vec<u8>) -> Self {
        assert!(Self::supports(kind, width), "rows of whole blocks");
        assert!(bytes.len().is_multiple_of(kind.bytes_of(width)), "whole rows");
        Self { kind, width, bytes }
    }

    /// Rounds weights to eight bits (`Q8_0`).
    pub(crate) fn rounded(weights: &[f32], width: usize) -> Self {
        let kind = TensorType::Q8_0;
        let mut bytes = vec![0; kind.bytes_of(weights.len())];
        let blocks = bytes.par_chunks_exact_mut(kind.block_bytes() * width / GROUP);
        blocks.zip(weights.par_chunks_exact(width)).for_each(|(bytes, weights)| {
            for (block, weights) in
                bytes.chunks_exact_mut(kind.block_bytes()).zip(weights.chunks_exact(GROUP))
            {
                let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
                let scale = f16::from_f32(largest / 127.0);
                let inverse = if scale.to_f32() > 0.0 { scale.to_f32().recip() } else { 0.0 };
                block[..2].copy_from_slice(&scale.to_le_bytes());
                for (byte, weight) in block[2..].iter_mut().zip(weights) {
                    *byte = ((weight * inverse).round().clamp(-127.0, 127.0) as i8).cast_unsigned();
                }
            }
        });
        Self { kind, width, bytes }
    }

    /// Rows.
    pub(crate) fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes()
    }

    /// One row as floats.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        dequantize(self.kind, &self.bytes[index * self.row_bytes()..][..self.row_bytes()], out);
    }

    fn row_bytes(&self) -> usize {
        self.kind.bytes_of(self.width)
    }
}

/// `y [B, out] = x [B, in] W'` for the rows of all matrices, in their order.
pub(crate) fn product(x: &[f32], matrices: &[BlockMatrix], y: &mut [f32]) {
    let width = matrices[0].width;
    let outputs: usize = matrices.iter().map(BlockMatrix::rows).sum();
    assert_eq!(y.len() / outputs, x.len() / width, "y has the shape of the product");
    let x: Vec<Vec<Int8Group>> = x.chunks_exact(width).map(rounded).collect();
    let mut rest: Vec<&mut [f32]> = y.chunks_exact_mut(outputs).collect();
    let mut tasks = Vec::new();
    for matrix in matrices {
        assert_eq!(matrix.width, width, "matrices of one width");
        let rows = outputs.div_ceil(4 * rayon::current_num_threads());
        for bytes in matrix.bytes.chunks(rows * matrix.row_bytes()) {
            let count = bytes.len() / matrix.row_bytes();
            let columns: Vec<&mut [f32]> = rest
                .iter_mut()
                .map(|row| row.split_off_mut(..count).expect("a column for every row"))
                .collect();
            tasks.push((matrix, bytes, columns));
        }
    }
    tasks.into_par_iter().for_each(|(matrix, bytes, mut columns)| multiply(matrix, bytes, &x, &mut columns));
}

/// 32 numbers rounded to eight bits.
#[derive(Clone, Copy)]
struct Int8Group {
    scale: f32,
    /// Of each half.
    sums: [f32; 2],
    quants: [i8; GROUP],
}

fn rounded(x: &[f32]) -> Vec<Int8Group> {
    let group = |x: &[f32; GROUP]| {
        let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let quants = x.map(|x| (x * inverse).round_ties_even() as i8);
        let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum::<i32>() as f32;
        Int8Group { scale: largest / 127.0, sums: [sum(&quants[..16]), sum(&quants[16..])], quants }
    };
    x.as_chunks().0.iter().map(group).collect()
}

/// The rows of W in `bytes` by all rows of x.
fn multiply(matrix: &BlockMatrix, bytes: &[u8], x: &[Vec<Int8Group>], y: &mut [&mut [f32]]) {
    match matrix.kind {
        TensorType::Q4_0 => rows::<Q4_0>(matrix, bytes, x, y),
        TensorType::Q4_1 => rows::<Q4_1>(matrix, bytes, x, y),
        TensorType::Q5_0 => rows::<Q5_0>(matrix, bytes, x, y),
        TensorType::Q5_1 => rows::<Q5_1>(matrix, bytes, x, y),
        TensorType::Q8_0 => rows::<Q8_0>(matrix, bytes, x, y),
        TensorType::Q4K => rows::<Q4K>(matrix, bytes, x, y),
        TensorType::Q5K => rows::<Q5K>(matrix, bytes, x, y),
        TensorType::Q6K => rows::<Q6K>(matrix, bytes, x, y),
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => unreachable!("a block matrix has blocks"),
    }
}

fn rows<F: Format>(matrix: &BlockMatrix, bytes: &[u8], x: &[Vec<Int8Group>], y: &mut [&mut [f32]]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn rows_avx2<F: Format>(row_bytes: usize, bytes: &[u8], x: &[Vec<Int8Group>], y: &mut [&mut [f32]]) {
            rows_with::<F, avx2::Avx2>(row_bytes, bytes, x, y);
        }
        if super::simd::has_avx2() && std::arch::is_x86_feature_detected!("f16c") {
            // SAFETY: the three features have just been found on this CPU.
            #[expect(unsafe_code, reason = "calls a function compiled for more than the target's default")]
            return unsafe { rows_avx2::<F>(matrix.row_bytes(), bytes, x, y) };
        }
    }
    rows_with::<F, [f32; 8]>(matrix.row_bytes(), bytes, x, y);
}

/// Rows of x that share the unpacking of a row of W.
const TILE: usize = 4;

#[inline(always)]
fn rows_with<F: Format, V: Lanes>(
    row_bytes: usize,
    bytes: &[u8],
    x: &[Vec<Int8Group>],
    y: &mut [&mut [f32]],
) {
    for (column, row) in bytes.chunks_exact(row_bytes).enumerate() {
        for (x, y) in x.chunks(TILE).zip(y.chunks_mut(TILE)) {
            match x.len() {
                1 => tile::<F, V, 1>(row, x, y, column),
                2 => tile::<F, V, 2>(row, x, y, column),
                3 => tile::<F, V, 3>(row, x, y, column),
                _ => tile::<F, V, TILE>(row, x, y, column),
            }
        }
    }
}

/// One row of W by `R` rows of x.
#[inline(always)]
fn tile<F: Format, V: Lanes, const R: usize>(
    row: &[u8],
    x: &[Vec<Int8Group>],
    y: &mut [&mut [f32]],
    column: usize,
) {
    let x: [&[Int8Group]; R] = std::array::from_fn(|r| &x[r][..row.len() / F::BYTES * F::GROUPS]);
    let (mut sums, mut offsets) = ([V::zero(); R], [0.0f32; R]);
    for (block, first) in row.chunks_exact(F::BYTES).zip((0..).step_by(F::GROUPS)) {
        for index in 0..F::GROUPS {
            let Group { quants, a, b } = F::group::<V>(block, index);
            for r in 0..R {
                let x = &x[r][first + index];
                sums[r] =
                    sums[r].add_products(&quants, &x.quants, [a[0] * x.scale, a[1] * x.scale], F::SIGNED);
                offsets[r] += x.scale * (b[0] * x.sums[0] + b[1] * x.sums[1]);
            }
        }
    }
    for r in 0..R {
        let [a, b, c, d, e, f, g, h] = sums[r].to_array();
        y[r][column] = ((a + e) + (c + g)) + ((b + f) + (d + h)) + offsets[r];
    }
}

/// Eight running sums, in a register where there is one of that width.
trait Lanes: Copy {
    fn zero() -> Self;
    /// The value of a half-precision number.
    fn half(bits: [u8; 2]) -> f32;
    /// Adds to each sum the products of four weights with four numbers, times the scale of their half.
    fn add_products(self, weights: &[u8; GROUP], x: &[i8; GROUP], scale: [f32; 2], signed: bool) -> Self;
    fn to_array(self) -> [f32; 8];
}

impl Lanes for [f32; 8] {
    #[inline(always)]
    fn zero() -> Self {
        [0.0; 8]
    }

    #[inline(always)]
    fn half(bits: [u8; 2]) -> f32 {
        f16::from_le_bytes(bits).to_f32_const()
    }

    #[inline(always)]
    fn add_products(self, weights: &[u8; GROUP], x: &[i8; GROUP], scale: [f32; 2], signed: bool) -> Self {
        let weight =
            |i: usize| if signed { i32::from(weights[i].cast_signed()) } else { i32::from(weights[i]) };
        std::array::from_fn(|lane| {
            let sum: i32 = (4 * lane..4 * lane + 4).map(|i| weight(i) * i32::from(x[i])).sum();
            (sum as f32).mul_add(scale[lane / 4], self[lane])
        })
    }

    #[inline(always)]
    fn to_array(self) -> [f32; 8] {
        self
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions, which the compiler does not find by itself here")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_set1_ps, _mm256_abs_epi8,
        _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
        _mm256_set_m128, _mm256_set1_epi16, _mm256_setzero_ps, _mm256_sign_epi8, _mm256_storeu_ps,
    };

    use super::GROUP;

    #[derive(Clone, Copy)]
    pub(super) struct Avx2(__m256);

    impl super::Lanes for Avx2 {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: an `Avx2` exists only below `rows_avx2`, which runs on CPUs with AVX2, FMA and F16C; so for all of these.
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        fn half(bits: [u8; 2]) -> f32 {
            // SAFETY: as in `zero`.
            unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bits))))) }
        }

        #[inline(always)]
        fn add_products(self, weights: &[u8; GROUP], x: &[i8; GROUP], scale: [f32; 2], signed: bool) -> Self {
            // SAFETY: as in `zero`, and both references are to 32 bytes. Pairs of products are at most 2 · 128 · 127, or with unsigned
            // weights of six bits 2 · 63 · 127, which sixteen bits hold.
            unsafe {
                let weights = _mm256_loadu_si256(weights.as_ptr().cast());
                let x = _mm256_loadu_si256(x.as_ptr().cast());
                let pairs = if signed {
                    _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
                } else {
                    _mm256_maddubs_epi16(weights, x)
                };
                let sums = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                let scale = _mm256_set_m128(_mm_set1_ps(scale[1]), _mm_set1_ps(scale[0]));
                Self(_mm256_fmadd_ps(sums, scale, self.0))
            }
        }

        #[inline(always)]
        fn to_array(self) -> [f32; 8] {
            let mut out = [0.0; 8];
            // SAFETY: as in `zero`, and the array is of eight numbers.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), self.0) };
            out
        }
    }
}

/// 32 weights `a q + b`, with a and b of each half.
struct Group {
    quants: [u8; GROUP],
    a: [f32; 2],
    b: [f32; 2],
}

impl Group {
    #[inline(always)]
    fn new(quants: [u8; GROUP], a: f32, b: f32) -> Self {
        Self { quants, a: [a; 2], b: [b; 2] }
    }
}

/// How a block holds its groups; the formats themselves are explained in `gguf/dequantize.rs`.
trait Format {
    /// Bytes of a block.
    const BYTES: usize;
    /// Groups of a block.
    const GROUPS: usize = 1;
    /// The quants are signed.
    const SIGNED: bool = false;
    fn group<V: Lanes>(block: &[u8], index: usize) -> Group;
}

struct Q4_0;
struct Q4_1;
struct Q5_0;
struct Q5_1;
struct Q8_0;
struct Q4K;
struct Q5K;
struct Q6K;

#[inline(always)]
fn half<V: Lanes>(block: &[u8], at: usize) -> f32 {
    V::half([block[at], block[at + 1]])
}

/// 16 bytes to 32 numbers of four bits: the low halves, then the high ones.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u8; GROUP] {
    let mut out = [0; GROUP];
    for j in 0..16 {
        out[j] = bytes[j] & 15;
        out[j + 16] = bytes[j] >> 4;
    }
    out
}

/// For each byte the eight bytes that are 16 where its bits are set.
static SPREAD: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = ((byte >> bit) as u8 & 1) << 4;
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// The same with a fifth bit of each.
#[inline(always)]
fn five_bits(high: &[u8], low: &[u8]) -> [u8; GROUP] {
    let mut out = nibbles(low);
    for (out, &high) in out.as_chunks_mut::<8>().0.iter_mut().zip(high) {
        for (out, bit) in out.iter_mut().zip(&SPREAD[high as usize]) {
            *out |= bit;
        }
    }
    out
}

impl Format for Q4_0 {
    const BYTES: usize = 18;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], _: usize) -> Group {
        let d = half::<V>(block, 0);
        Group::new(nibbles(&block[2..18]), d, -8.0 * d)
    }
}

impl Format for Q4_1 {
    const BYTES: usize = 20;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], _: usize) -> Group {
        Group::new(nibbles(&block[4..20]), half::<V>(block, 0), half::<V>(block, 2))
    }
}

impl Format for Q5_0 {
    const BYTES: usize = 22;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], _: usize) -> Group {
        let d = half::<V>(block, 0);
        Group::new(five_bits(&block[2..6], &block[6..22]), d, -16.0 * d)
    }
}

impl Format for Q5_1 {
    const BYTES: usize = 24;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], _: usize) -> Group {
        Group::new(five_bits(&block[4..8], &block[8..24]), half::<V>(block, 0), half::<V>(block, 2))
    }
}

impl Format for Q8_0 {
    const BYTES: usize = 34;
    const SIGNED: bool = true;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], _: usize) -> Group {
        let quants = *block[2..].first_chunk().expect("a block of 34 bytes");
        Group::new(quants, half::<V>(block, 0), 0.0)
    }
}

/// Scale and minimum of one of the eight groups of `Q4_K` and `Q5_K`, which share scales of their own.
#[inline(always)]
fn group_scale<V: Lanes>(block: &[u8], index: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        ((low & 15) | ((packed[index - 4] >> 6) << 4), (low >> 4) | ((packed[index] >> 6) << 4))
    };
    (half::<V>(block, 0) * f32::from(scale), -half::<V>(block, 2) * f32::from(minimum))
}

impl Format for Q4K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], index: usize) -> Group {
        let (a, b) = group_scale::<V>(block, index);
        let bytes: &[u8; GROUP] =
            block[16 + index / 2 * GROUP..].first_chunk().expect("a block of 144 bytes");
        let shift = index % 2 * 4;
        // A loop, as elsewhere here: what `map` and `from_fn` call is not compiled for the features of the kernel.
        let mut quants = [0; GROUP];
        for l in 0..GROUP {
            quants[l] = (bytes[l] >> shift) & 15;
        }
        Group::new(quants, a, b)
    }
}

impl Format for Q5K {
    const BYTES: usize = 176;
    const GROUPS: usize = 8;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], index: usize) -> Group {
        let (a, b) = group_scale::<V>(block, index);
        let high: &[u8; GROUP] = block[16..].first_chunk().expect("a block of 176 bytes");
        let low: &[u8; GROUP] = block[48 + index / 2 * GROUP..].first_chunk().expect("a block of 176 bytes");
        let shift = index % 2 * 4;
        let mut quants = [0; GROUP];
        for l in 0..GROUP {
            quants[l] = ((low[l] >> shift) & 15) | (((high[l] >> index) & 1) << 4);
        }
        Group::new(quants, a, b)
    }
}

impl Format for Q6K {
    const BYTES: usize = 210;
    const GROUPS: usize = 8;

    #[inline(always)]
    fn group<V: Lanes>(block: &[u8], index: usize) -> Group {
        let d = half::<V>(block, 208);
        let (side, inner) = (index / 4, index % 4);
        let low: &[u8; GROUP] =
            block[side * 64 + inner % 2 * GROUP..].first_chunk().expect("a block of 210 bytes");
        let high: &[u8; GROUP] = block[128 + side * GROUP..].first_chunk().expect("a block of 210 bytes");
        let (low_shift, high_shift) = (inner / 2 * 4, inner * 2);
        let mut quants = [0; GROUP];
        for l in 0..GROUP {
            quants[l] = ((low[l] >> low_shift) & 15) | (((high[l] >> high_shift) & 3) << 4);
        }
        let scale = |part: usize| d * f32::from(block[192 + index * 2 + part].cast_signed());
        let a = [scale(0), scale(1)];
        Group { quants, a, b: [-32.0 * a[0], -32.0 * a[1]] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [TensorType; 8] = [
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q4K,
        TensorType::Q5K,
        TensorType::Q6K,
    ];

    /// Any bytes are weights, as long as the scales are numbers of reasonable size.
    fn matrix(kind: TensorType, rows: usize, width: usize) -> BlockMatrix {
        let mut bytes: Vec<u8> =
            (0..rows * kind.bytes_of(width)).map(|i| ((i * 7919 + i / 7 * 31) % 251) as u8).collect();
        let scales: &[usize] = match kind {
            TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
            TensorType::Q6K => &[208],
            _ => &[0],
        };
        for (i, block) in bytes.chunks_exact_mut(kind.block_bytes()).enumerate() {
            for &at in scales {
                let scale = f16::from_f32(0.01 + 0.001 * ((i * 13 + at) % 17) as f32);
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        BlockMatrix::new(kind, width, bytes)
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    #[test]
    fn products_are_those_of_the_floats() {
        let (rows, width) = (5, 512);
        for kind in KINDS {
            let matrix = matrix(kind, rows, width);
            // Numbers that eight bits hold exactly leave only the rounding of floats.
            let x: Vec<f32> = (0..3 * width).map(|i| ((i * 37 + i / 32) % 255) as f32 - 127.0).collect();
            let x: Vec<f32> =
                x.iter().enumerate().map(|(i, &x)| if i % GROUP == 0 { 127.0 } else { x }).collect();
            let mut y = vec![0.0; 3 * rows];
            product(&x, std::slice::from_ref(&matrix), &mut y);
            let mut weights = vec![0.0; width];
            for (x, y) in x.chunks(width).zip(y.chunks(rows)) {
                for (row, y) in y.iter().enumerate() {
                    matrix.row(row, &mut weights);
                    let terms = x.iter().zip(&weights).map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                    assert!((f64::from(*y) - exact).abs() < 1e-5 * size, "{kind:?}: {y} is not {exact}");
                }
            }
        }
    }

    #[test]
    fn company_and_kind_of_register_change_nothing() {
        for kind in KINDS {
            let matrices = [matrix(kind, 7, 256), matrix(TensorType::Q8_0, 4, 256)];
            let x = numbers(6 * 256);
            let mut y = vec![0.0; 6 * 11];
            product(&x, &matrices, &mut y);
            for (x, y) in x.chunks(256).zip(y.chunks(11)) {
                let mut alone = vec![0.0; 11];
                product(x, &matrices, &mut alone);
                assert_eq!(alone, y, "{kind:?}");
            }
            let x: Vec<Vec<Int8Group>> = x.chunks(256).map(rounded).collect();
            let portable = |matrix: &BlockMatrix| {
                let mut y = vec![vec![0.0; matrix.rows()]; 6];
                let mut columns: Vec<&mut [f32]> = y.iter_mut().map(|row| &mut row[..]).collect();
                let bytes = matrix.row_bytes();
                match matrix.kind {
                    TensorType::Q4_0 => rows_with::<Q4_0, [f32; 8]>(bytes, &matrix.bytes, &x, &mut columns),
                    TensorType::Q5_0 => rows_with::<Q5_0, [f32; 8]>(bytes, &matrix.bytes, &x, &mut columns),
                    TensorType::Q8_0 => rows_with::<Q8_0, [f32; 8]>(bytes, &matrix.bytes, &x, &mut columns),
                    TensorType::Q4K => rows_with::<Q4K, [f32; 8]>(bytes, &matrix.bytes, &x, &mut columns),
                    TensorType::Q6K => rows_with::<Q6K, [f32; 8]>(bytes, &matrix.bytes, &x, &mut columns),
                    _ => return None,
                }
                Some(y)
            };
            for (row, y) in portable(&matrices[0]).iter().flatten().zip(y.chunks(11)) {
                assert_eq!(row[..], y[..7], "{kind:?}");
            }
        }
    }

    #[test]
    fn rounding_to_eight_bits_is_close() {
        let weights = numbers(4 * 64);
        let matrix = BlockMatrix::rounded(&weights, 64);
        let mut row = vec![0.0; 64];
        for (index, weights) in weights.chunks(64).enumerate() {
            matrix.row(index, &mut row);
            assert!(row.iter().zip(weights).all(|(a, b)| (a - b).abs() < 0.005));
        }
        let zeros = BlockMatrix::rounded(&[0.0; 64], 64);
        zeros.row(0, &mut row);
        assert!(row.iter().all(|&w| w == 0.0));
    }
}
