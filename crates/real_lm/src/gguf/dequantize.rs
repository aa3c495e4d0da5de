//! From the block formats of GGUF to f32.
//!
//! A quantised tensor is a sequence of blocks of 32 or 256 weights along a row. A block of the simple kinds holds a scale
//! `d`, perhaps a minimum `m`, and one small integer `q` per weight; the weight is `d (q − offset)` or `d q + m`. Worked
//! example, `Q4_0`: with `d = 0.5`, the byte `0x9f` as the first of 16 gives weight 0 as `0.5 · (15 − 8) = 3.5` and weight 16
//! as `0.5 · (9 − 8) = 0.5`: the low halves are the first 16 weights, the high halves the last 16. The K kinds put 256
//! weights together and quantise the scales of their groups of 16 or 32 too.

use half::{bf16, f16};

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl TensorType {
    pub(super) fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Weights in a block.
    pub(crate) fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes in a block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of so many weights, which fill whole blocks.
    pub(crate) fn bytes_of(self, weights: usize) -> usize {
        weights / self.block_len() * self.block_bytes()
    }
}

/// Writes the weights of `bytes` to `out`.
pub(crate) fn dequantize(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), kind.bytes_of(out.len()), "blocks and weights must match");
    match kind {
        TensorType::F32 => floats(bytes, out, f32::from_le_bytes),
        TensorType::F16 => floats(bytes, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        TensorType::Bf16 => floats(bytes, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        TensorType::Q4_0 => blocks(bytes, out, q4_0),
        TensorType::Q4_1 => blocks(bytes, out, q4_1),
        TensorType::Q5_0 => blocks(bytes, out, q5_0),
        TensorType::Q5_1 => blocks(bytes, out, q5_1),
        TensorType::Q8_0 => blocks(bytes, out, q8_0),
        TensorType::Q4K => blocks(bytes, out, q4_k),
        TensorType::Q5K => blocks(bytes, out, q5_k),
        TensorType::Q6K => blocks(bytes, out, q6_k),
    }
}

fn floats<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = convert(bytes);
    }
}

fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(bytes, out);
    }
}

fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for (j, &q) in block[2..].iter().enumerate() {
        out[j] = d * (f32::from(q & 15) - 8.0);
        out[j + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for (j, &q) in block[4..].iter().enumerate() {
        out[j] = d * f32::from(q & 15) + m;
        out[j + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The integers of a five-bit block: `quants` hold the low four bits as in `Q4_0`, bit j of `high` is the fifth of weight j.
fn five_bits(high: &[u8], quants: &[u8], out: &mut [f32; 32]) {
    let fifth = |j: usize| ((high[j / 8] >> (j % 8)) & 1) << 4;
    for (j, &q) in quants.iter().enumerate() {
        out[j] = f32::from((q & 15) | fifth(j));
        out[j + 16] = f32::from((q >> 4) | fifth(j + 16));
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    five_bits(&block[2..6], &block[6..], out);
    for x in out {
        *x = d * (*x - 16.0);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    five_bits(&block[4..8], &block[8..], out);
    for x in out {
        *x = d * *x + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(q.cast_signed());
    }
}

/// Six-bit scale and minimum of one of the eight groups of `Q4_K` and `Q5_K`, packed into twelve bytes.
fn group_scale(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        ((low & 15) | ((packed[group - 4] >> 6) << 4), (low >> 4) | ((packed[group] >> 6) << 4))
    };
    (f32::from(scale), f32::from(minimum))
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let (scales, quants) = block[4..].split_at(12);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = group_scale(scales, group);
        let (d, m) = (d * scale, dmin * minimum);
        let quants = &quants[group / 2 * 32..][..32];
        for (out, &q) in out.iter_mut().zip(quants) {
            *out = d * f32::from((q >> (group % 2 * 4)) & 15) - m;
        }
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let (scales, rest) = block[4..].split_at(12);
    let (high, quants) = rest.split_at(32);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = group_scale(scales, group);
        let (d, m) = (d * scale, dmin * minimum);
        let quants = &quants[group / 2 * 32..][..32];
        for ((out, &q), &high) in out.iter_mut().zip(quants).zip(high) {
            let q = ((q >> (group % 2 * 4)) & 15) | (((high >> group) & 1) << 4);
            *out = d * f32::from(q) - m;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = scale(block, 208);
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        // Groups 0 to 3 lie in the first half of `low` and `high`, 4 to 7 in the second. Inside a half, `low` holds groups 0
        // and 1 in its low bits and 2 and 3 in its high bits, and `high` two bits for each of the four.
        let (half, inner) = (group / 4, group % 4);
        let low = &low[half * 64 + inner % 2 * 32..][..32];
        let high = &high[half * 32..][..32];
        for (l, out) in out.iter_mut().enumerate() {
            let q = ((low[l] >> (inner / 2 * 4)) & 15) | (((high[l] >> (inner * 2)) & 3) << 4);
            let group_scale = f32::from(scales[group * 2 + l / 16].cast_signed());
            *out = d * group_scale * (f32::from(q) - 32.0);
        }
    }
}
