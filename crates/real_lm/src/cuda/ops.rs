//! One function for each kernel and each form of product: what it reads and writes, and how it is cut into blocks.
//!
//! The functions check that every slice has the length that the kernel will touch; what happens then is in `kernels/`.

use half::bf16;

use super::Error;
use super::device::{Argument, Device, Gemm, Launch, Number, Operand, Product, Slice};
use crate::adamw::Update;
use crate::heads::HeadShape;

/// Threads of the kernels in which each thread moves eight elements on its own.
const THREADS: usize = 256;
/// Rows that one block sums in the first stage of a sum over rows.
const ROWS_PER_BLOCK: usize = 64;
/// Elements behind each row in shared memory, as in `prelude.cuh`.
const PAD: usize = 8;
/// Tokens of a tile of attention, as in `attention.cu`.
pub(crate) const TILE: usize = 64;
/// Tokens of the other side at a time in its backward pass, as in `attention.cu`.
const STEP: usize = 32;
/// Keys that one block of decoding takes at most. Longer sequences are shared among blocks, cut at its multiples.
pub(crate) const SPAN: usize = 512;
/// Blocks of the first stage of the norm of the gradients.
const SQUARE_BLOCKS: usize = 1024;

fn launch(
    device: &dyn Device,
    kernel: &'static str,
    grid: [usize; 3],
    [threads, shared]: [usize; 2],
    arguments: &[Argument],
) -> Result<(), Error> {
    if grid.contains(&0) {
        return Ok(());
    }
    device.launch(&Launch { kernel, grid, threads, shared, arguments })
}

/// A grid of one thread for every eight of `elements`.
fn by_eights(elements: usize) -> [usize; 3] {
    [(elements / 8).div_ceil(THREADS), 1, 1]
}

/// Threads of a block that reduces one row of logits: no more than have eight of them.
fn row_threads(vocabulary: usize) -> usize {
    vocabulary.div_ceil(8).next_multiple_of(32).min(512)
}

/// A grid of a warp for every row.
fn by_warps(rows: usize) -> [usize; 3] {
    [rows.div_ceil(THREADS / 32), 1, 1]
}

/// `y [T, out] = scale x [T, in] W'` for the weights `W [out, in]`; rows of y are `stride` apart.
pub(crate) fn linear<P: Product>(
    device: &dyn Device,
    x: Slice<bf16>,
    weight: Slice<bf16>,
    width: usize,
    (y, stride): (Slice<P>, usize),
    scale: f32,
) -> Result<(), Error> {
    let (rows, out) = (x.len / width, weight.len / width);
    assert!(rows * width == x.len && out * width == weight.len && rows * stride <= y.len && out <= stride);
    device.gemm(&Gemm {
        a: Operand { address: x.address, stride: width, transposed: false },
        b: Operand { address: weight.address, stride: width, transposed: true },
        c: y.address,
        c_type: P::NUMBER,
        c_stride: stride,
        m: rows,
        n: out,
        k: width,
        scale,
        add: false,
    })
}

/// `dx [T, in] = scale dy [T, out] W` for the weights `W [out, in]`; rows of dy are `stride` apart.
pub(crate) fn input_gradient<P: Product>(
    device: &dyn Device,
    (dy, stride): (Slice<bf16>, usize),
    weight: Slice<bf16>,
    out: usize,
    dx: Slice<P>,
    scale: f32,
) -> Result<(), Error> {
    let width = weight.len / out;
    let rows = dx.len / width;
    assert!(out * width == weight.len && rows * width == dx.len && rows * stride <= dy.len && out <= stride);
    device.gemm(&Gemm {
        a: Operand { address: dy.address, stride, transposed: false },
        b: Operand { address: weight.address, stride: width, transposed: false },
        c: dx.address,
        c_type: P::NUMBER,
        c_stride: width,
        m: rows,
        n: width,
        k: out,
        scale,
        add: false,
    })
}

/// `dW [out, in] += scale dy' x` for `dy [T, out]`, whose rows are `stride` apart, and `x [T, in]`.
pub(crate) fn weight_gradient(
    device: &dyn Device,
    (dy, stride): (Slice<bf16>, usize),
    x: Slice<bf16>,
    out: usize,
    d_weight: Slice<f32>,
    scale: f32,
) -> Result<(), Error> {
    let width = d_weight.len / out;
    let rows = x.len / width;
    assert!(out * width == d_weight.len && rows * width == x.len && rows * stride <= dy.len && out <= stride);
    device.gemm(&Gemm {
        a: Operand { address: dy.address, stride, transposed: true },
        b: Operand { address: x.address, stride: width, transposed: false },
        c: d_weight.address,
        c_type: Number::F32,
        c_stride: width,
        m: out,
        n: width,
        k: rows,
        scale,
        add: true,
    })
}

/// `out [T, E]` = rows of the table `[V, E]`.
pub(crate) fn embed(
    device: &dyn Device,
    ids: Slice<u32>,
    table: Slice<bf16>,
    out: Slice<f32>,
    width: usize,
) -> Result<(), Error> {
    assert_eq!(out.len, ids.len * width);
    let arguments = [ids.into(), table.into(), out.into(), ids.len.into(), width.into()];
    launch(device, "embed", by_eights(out.len), [THREADS, 0], &arguments)
}

/// Adds the rows of `d_rows [T, E]` to the gradient of the table, `[V, E]`: see the kernel for `ids`, `starts` and `order`.
pub(crate) fn embedding_gradient(
    device: &dyn Device,
    d_rows: Slice<f32>,
    [ids, starts, order]: [Slice<u32>; 3],
    gradient: Slice<f32>,
    width: usize,
) -> Result<(), Error> {
    assert!(
        d_rows.len == order.len * width && starts.len == ids.len + 1 && gradient.len.is_multiple_of(width)
    );
    let arguments = [d_rows.into(), ids.into(), starts.into(), order.into(), gradient.into(), width.into()];
    launch(device, "embedding_gradient", [ids.len, width.div_ceil(256), 1], [64, 0], &arguments)
}

/// `normed`, bf16, and `rstd` of the rows of x, or, with an update, of `sum = x + update`.
pub(crate) fn rms_norm(
    device: &dyn Device,
    x: Slice<f32>,
    update: Option<(Slice<bf16>, Slice<f32>)>,
    (weight, eps): (Slice<bf16>, f32),
    normed: Slice<bf16>,
    rstd: Slice<f32>,
) -> Result<(), Error> {
    let width = weight.len;
    assert!(x.len == rstd.len * width && normed.len == x.len);
    assert!(update.is_none_or(|(update, sum)| update.len == x.len && sum.len == x.len));
    let arguments = [
        x.into(),
        update.map(|pair| pair.0).into(),
        weight.into(),
        update.map(|pair| pair.1).into(),
        normed.into(),
        rstd.into(),
        rstd.len.into(),
        width.into(),
        eps.into(),
    ];
    launch(device, "rms_norm", by_warps(rstd.len), [THREADS, 0], &arguments)
}

/// `normed` again, with the kept `rstd`.
pub(crate) fn renormalize(
    device: &dyn Device,
    x: Slice<f32>,
    weight: Slice<bf16>,
    rstd: Slice<f32>,
    normed: Slice<bf16>,
) -> Result<(), Error> {
    assert!(x.len == rstd.len * weight.len && normed.len == x.len);
    let arguments = [x.into(), weight.into(), rstd.into(), normed.into(), rstd.len.into(), weight.len.into()];
    launch(device, "renormalize", by_eights(x.len), [THREADS, 0], &arguments)
}

/// Blocks of the first stage of a sum over rows, and so the rows of its `partial`.
pub(crate) fn partial_rows(rows: usize) -> usize {
    rows.div_ceil(ROWS_PER_BLOCK)
}

/// What the backward pass of a norm writes.
#[derive(Clone, Copy)]
pub(crate) struct NormGradient {
    /// `[T, E]`, added to or replaced
    pub(crate) dx: Slice<f32>,
    /// The same in bf16.
    pub(crate) dx_rounded: Slice<bf16>,
    pub(crate) replace: bool,
    /// `[E]`, added to
    pub(crate) d_weight: Slice<f32>,
    /// Scratch: `[partial_rows(T), E]`
    pub(crate) partial: Slice<f32>,
}

/// The gradients of [`rms_norm`] by its input and its weight, for `dy` in bf16 or f32.
pub(crate) fn rms_norm_backward<P: Product>(
    device: &dyn Device,
    x: Slice<f32>,
    weight: Slice<bf16>,
    rstd: Slice<f32>,
    dy: Slice<P>,
    gradient: NormGradient,
) -> Result<(), Error> {
    let NormGradient { dx, dx_rounded, replace, d_weight, partial } = gradient;
    let (rows, width) = (rstd.len, weight.len);
    let blocks = partial_rows(rows);
    assert!([x.len, dy.len, dx.len, dx_rounded.len] == [rows * width; 4]);
    assert!(d_weight.len == width && partial.len >= blocks * width);
    let arguments = [
        x.into(),
        weight.into(),
        rstd.into(),
        dy.into(),
        dx.into(),
        dx_rounded.into(),
        partial.into(),
        rows.into(),
        width.into(),
        ROWS_PER_BLOCK.into(),
        usize::from(replace).into(),
    ];
    let kernel = match P::NUMBER {
        Number::Bf16 => "rms_norm_backward_bf16",
        Number::F32 => "rms_norm_backward_f32",
    };
    launch(device, kernel, [blocks, 1, 1], [128, width * size_of::<f32>()], &arguments)?;
    column_finish(device, partial, blocks, d_weight)
}

/// `out [C]` += the sum of the rows of `x [T, C]`.
pub(crate) fn column_sums(
    device: &dyn Device,
    x: Slice<bf16>,
    out: Slice<f32>,
    partial: Slice<f32>,
) -> Result<(), Error> {
    weighted_sums(device, x, None, out, partial)
}

/// `out [C]` += the sum of some rows of `x [T, C]`, each by its weight.
pub(crate) fn weighted_sums(
    device: &dyn Device,
    x: Slice<bf16>,
    chosen: Option<(Slice<u32>, Slice<f32>)>,
    out: Slice<f32>,
    partial: Slice<f32>,
) -> Result<(), Error> {
    let width = out.len;
    let rows = chosen.map_or(x.len / width, |(rows, _)| rows.len);
    let blocks = partial_rows(rows);
    assert!(x.len.is_multiple_of(width) && partial.len >= blocks * width);
    assert!(chosen.is_none_or(|(rows, weights)| rows.len == weights.len));
    let arguments = [
        x.into(),
        chosen.map(|pair| pair.0).into(),
        chosen.map(|pair| pair.1).into(),
        partial.into(),
        rows.into(),
        width.into(),
        ROWS_PER_BLOCK.into(),
    ];
    let threads = 128;
    launch(device, "column_partial", [blocks, width.div_ceil(threads * 8), 1], [threads, 0], &arguments)?;
    column_finish(device, partial, blocks, out)
}

fn column_finish(
    device: &dyn Device,
    partial: Slice<f32>,
    blocks: usize,
    out: Slice<f32>,
) -> Result<(), Error> {
    let arguments = [partial.into(), out.into(), blocks.into(), out.len.into()];
    launch(device, "column_finish", [out.len.div_ceil(32), 1, 1], [256, 0], &arguments)
}

/// Tables of cosines and sines, `[positions, D/2]` each, and the position of every row.
#[derive(Clone, Copy)]
pub(crate) struct Angles {
    pub(crate) positions: Slice<u32>,
    pub(crate) cos: Slice<f32>,
    pub(crate) sin: Slice<f32>,
}

/// Adds the bias (an empty slice for none) to `qkv [T, (H + 2 G) D]` and turns q and k, in place.
pub(crate) fn rotate(
    device: &dyn Device,
    qkv: Slice<bf16>,
    bias: Slice<bf16>,
    angles: Angles,
    shape: HeadShape,
) -> Result<(), Error> {
    turn(device, qkv, (bias.len > 0).then_some(bias), angles, shape, false)
}

/// Turns the gradients of q and k back, in place.
pub(crate) fn rotate_back(
    device: &dyn Device,
    d_qkv: Slice<bf16>,
    angles: Angles,
    shape: HeadShape,
) -> Result<(), Error> {
    turn(device, d_qkv, None, angles, shape, true)
}

fn turn(
    device: &dyn Device,
    qkv: Slice<bf16>,
    bias: Option<Slice<bf16>>,
    angles: Angles,
    shape: HeadShape,
    back: bool,
) -> Result<(), Error> {
    let (tokens, heads) = (angles.positions.len, shape.heads + 2 * shape.kv_heads);
    assert!(qkv.len == tokens * heads * shape.dim && bias.is_none_or(|bias| bias.len == heads * shape.dim));
    let arguments = [
        qkv.into(),
        bias.into(),
        angles.positions.into(),
        angles.cos.into(),
        angles.sin.into(),
        tokens.into(),
        heads.into(),
        (shape.heads + shape.kv_heads).into(),
        shape.dim.into(),
        usize::from(back).into(),
    ];
    launch(device, "rotate", by_eights(qkv.len / 2), [THREADS, 0], &arguments)
}

/// `gate_up [T, 2 I]` to `y [T, I]`.
pub(crate) fn swiglu(
    device: &dyn Device,
    gate_up: Slice<bf16>,
    inner: usize,
    y: Slice<bf16>,
) -> Result<(), Error> {
    assert!(gate_up.len == 2 * y.len && y.len.is_multiple_of(inner));
    let arguments = [gate_up.into(), y.into(), (y.len / inner).into(), inner.into()];
    launch(device, "swiglu", by_eights(y.len), [THREADS, 0], &arguments)
}

/// `gate_up [T, 2 I]` becomes its own gradient for `dy [T, I]`.
pub(crate) fn swiglu_backward(
    device: &dyn Device,
    gate_up: Slice<bf16>,
    inner: usize,
    dy: Slice<bf16>,
) -> Result<(), Error> {
    assert!(gate_up.len == 2 * dy.len && dy.len.is_multiple_of(inner));
    let arguments = [gate_up.into(), dy.into(), (dy.len / inner).into(), inner.into()];
    launch(device, "swiglu_backward", by_eights(dy.len), [THREADS, 0], &arguments)
}

/// The kernel of a family for this width of heads.
fn for_dim(names: [&'static str; 3], dim: usize) -> &'static str {
    names[[32, 64, 128].iter().position(|&width| width == dim).expect("widths were checked at the start")]
}

/// Bytes of shared memory for this many rows of heads.
fn tile_bytes(rows: usize, dim: usize) -> usize {
    rows * (dim + PAD) * size_of::<bf16>()
}

/// Outputs `o [T, H D]` and log-sum-exps `lse [T, H]` of attention; the tiles are those of `attention.cu`.
pub(crate) fn attention_forward(
    device: &dyn Device,
    qkv: Slice<bf16>,
    tiles: Slice<[i32; 4]>,
    shape: HeadShape,
    o: Slice<bf16>,
    lse: Slice<f32>,
) -> Result<(), Error> {
    assert!(
        o.len == lse.len * shape.dim && qkv.len * shape.heads == o.len * (shape.heads + 2 * shape.kv_heads)
    );
    let names = ["attention_forward_32", "attention_forward_64", "attention_forward_128"];
    let arguments =
        [qkv.into(), tiles.into(), o.into(), lse.into(), shape.heads.into(), shape.kv_heads.into()];
    let shared = tile_bytes(3 * TILE, shape.dim);
    launch(device, for_dim(names, shape.dim), [tiles.len, shape.heads, 1], [128, shared], &arguments)
}

/// What the backward pass of attention reads.
#[derive(Clone, Copy)]
pub(crate) struct AttentionGradient {
    pub(crate) qkv: Slice<bf16>,
    pub(crate) o: Slice<bf16>,
    pub(crate) lse: Slice<f32>,
    /// `[T, H D]`
    pub(crate) d_o: Slice<bf16>,
    /// Scratch: `[T, H]`
    pub(crate) delta: Slice<f32>,
}

/// Writes `d_qkv [T, (H + 2 G) D]`, not yet turned back.
pub(crate) fn attention_backward(
    device: &dyn Device,
    gradient: AttentionGradient,
    tiles: Slice<[i32; 4]>,
    shape: HeadShape,
    d_qkv: Slice<bf16>,
) -> Result<(), Error> {
    let AttentionGradient { qkv, o, lse, d_o, delta } = gradient;
    let HeadShape { heads, kv_heads, dim } = shape;
    assert!(o.len == lse.len * dim && d_o.len == o.len && delta.len == lse.len && d_qkv.len == qkv.len);
    assert_eq!(qkv.len * heads, o.len * (heads + 2 * kv_heads));
    let arguments = [o.into(), d_o.into(), delta.into(), lse.len.into(), dim.into()];
    launch(device, "attention_delta", by_warps(lse.len), [THREADS, 0], &arguments)?;
    let arguments = [
        qkv.into(),
        d_o.into(),
        lse.into(),
        delta.into(),
        tiles.into(),
        d_qkv.into(),
        heads.into(),
        kv_heads.into(),
    ];
    let shared = tile_bytes(2 * (TILE + STEP), dim);
    let names = ["attention_backward_keys_32", "attention_backward_keys_64", "attention_backward_keys_128"];
    launch(device, for_dim(names, dim), [tiles.len, kv_heads, 1], [128, shared], &arguments)?;
    let names =
        ["attention_backward_queries_32", "attention_backward_queries_64", "attention_backward_queries_128"];
    launch(device, for_dim(names, dim), [tiles.len, heads, 1], [128, shared], &arguments)
}

/// `out [R, E]` = some rows of `source [T, E]`.
pub(crate) fn gather_rows(
    device: &dyn Device,
    source: Slice<bf16>,
    rows: Slice<u32>,
    out: Slice<bf16>,
) -> Result<(), Error> {
    let width = out.len / rows.len;
    assert!(width * rows.len == out.len && source.len.is_multiple_of(width));
    let arguments = [source.into(), rows.into(), out.into(), rows.len.into(), width.into()];
    launch(device, "gather_rows", by_eights(out.len), [THREADS, 0], &arguments)
}

/// Adds `source [R, E]` to some distinct rows of `out [T, E]`.
pub(crate) fn scatter_add(
    device: &dyn Device,
    source: Slice<f32>,
    rows: Slice<u32>,
    out: Slice<f32>,
) -> Result<(), Error> {
    let width = source.len / rows.len;
    assert!(width * rows.len == source.len && out.len.is_multiple_of(width));
    let arguments = [source.into(), rows.into(), out.into(), rows.len.into(), width.into()];
    launch(device, "scatter_add", by_eights(source.len), [THREADS, 0], &arguments)
}

/// Rows of logits: as many as there are targets, each of `vocabulary` numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Logits {
    pub(crate) values: Slice<f32>,
    pub(crate) vocabulary: usize,
    pub(crate) stride: usize,
}

/// `scores [R, 3]`: log-probability of the target, entropy, log-sum-exp.
pub(crate) fn row_scores(
    device: &dyn Device,
    logits: Logits,
    targets: Slice<u32>,
    scores: Slice<f32>,
) -> Result<(), Error> {
    let Logits { values, vocabulary, stride } = logits;
    assert!(values.len == targets.len * stride && scores.len == 3 * targets.len);
    let arguments = [values.into(), targets.into(), scores.into(), vocabulary.into(), stride.into()];
    launch(device, "row_scores", [targets.len, 1, 1], [row_threads(vocabulary), 0], &arguments)
}

/// Logits become their gradient, bf16 with twice the stride, for `gradients [R, 2]` by log-probability and entropy.
pub(crate) fn logit_gradient(
    device: &dyn Device,
    logits: Logits,
    targets: Slice<u32>,
    scores: Slice<f32>,
    gradients: Slice<f32>,
) -> Result<(), Error> {
    let Logits { values, vocabulary, stride } = logits;
    assert!(values.len == targets.len * stride && scores.len == 3 * targets.len && stride.is_multiple_of(8));
    assert_eq!(gradients.len, 2 * targets.len);
    let arguments =
        [values.into(), targets.into(), scores.into(), gradients.into(), vocabulary.into(), stride.into()];
    launch(device, "logit_gradient", [targets.len, 1, 1], [512, 0], &arguments)
}

/// The value head on some rows of `hidden [T, E]`; `params [E + 1]` has the bias last.
pub(crate) fn row_values(
    device: &dyn Device,
    hidden: Slice<bf16>,
    rows: Slice<u32>,
    params: Slice<f32>,
    values: Slice<f32>,
) -> Result<(), Error> {
    let width = params.len - 1;
    assert!(hidden.len.is_multiple_of(width) && values.len == rows.len);
    let arguments = [hidden.into(), rows.into(), params.into(), values.into(), rows.len.into(), width.into()];
    launch(device, "row_values", by_warps(rows.len), [THREADS, 0], &arguments)
}

/// Adds the gradient of the value head's input to some distinct rows of `d_hidden [T, E]`.
pub(crate) fn values_backward(
    device: &dyn Device,
    params: Slice<f32>,
    rows: Slice<u32>,
    d_values: Slice<f32>,
    d_hidden: Slice<f32>,
) -> Result<(), Error> {
    let width = params.len - 1;
    assert!(d_hidden.len.is_multiple_of(width) && d_values.len == rows.len);
    let arguments =
        [params.into(), rows.into(), d_values.into(), d_hidden.into(), rows.len.into(), width.into()];
    launch(device, "values_backward", by_eights(rows.len * width), [THREADS, 0], &arguments)
}

/// Partial sums of the squares of x, to be added by the host: [`square_blocks`] of them.
pub(crate) fn square_sums(device: &dyn Device, x: Slice<f32>, sums: Slice<f32>) -> Result<(), Error> {
    assert!(x.len.is_multiple_of(8) && sums.len == square_blocks(x.len));
    let arguments = [x.into(), sums.into(), Argument::Long(x.len as i64)];
    launch(device, "square_sums", [sums.len, 1, 1], [THREADS, 0], &arguments)
}

/// Partial sums that [`square_sums`] writes for this many elements.
pub(crate) fn square_blocks(elements: usize) -> usize {
    by_eights(elements)[0].min(SQUARE_BLOCKS)
}

/// One AdamW step on weights, gradients (multiplied by `factor` first, zero afterwards) and the two moments; `rounded` are the
/// new weights in bf16.
pub(crate) fn adamw(
    device: &dyn Device,
    state: [Slice<f32>; 4],
    rounded: Slice<bf16>,
    factor: f32,
    update: Update,
) -> Result<(), Error> {
    assert!(state.iter().all(|slice| slice.len == rounded.len) && rounded.len.is_multiple_of(8));
    let [weights, gradient, first, second] = state.map(Argument::from);
    let Update { beta1, beta2, eps, keep, rate, root } = update;
    let [factor, beta1, beta2, eps, keep, rate, root] =
        [factor, beta1, beta2, eps, keep, rate, root].map(Argument::from);
    let count = Argument::Long(rounded.len as i64);
    let arguments = [
        weights,
        gradient,
        first,
        second,
        rounded.into(),
        count,
        factor,
        beta1,
        beta2,
        eps,
        keep,
        rate,
        root,
    ];
    launch(device, "adamw", by_eights(rounded.len), [THREADS, 0], &arguments)
}

/// Rounds to bf16.
pub(crate) fn round_to_bf16(
    device: &dyn Device,
    source: Slice<f32>,
    target: Slice<bf16>,
) -> Result<(), Error> {
    assert!(source.len == target.len && source.len.is_multiple_of(8));
    let arguments = [source.into(), target.into(), Argument::Long(source.len as i64)];
    launch(device, "round_to_bf16", by_eights(source.len), [THREADS, 0], &arguments)
}

/// The cache of one layer: `[B, G, capacity, D]` keys and values.
#[derive(Clone, Copy)]
pub(crate) struct LayerCache {
    pub(crate) keys: Slice<bf16>,
    pub(crate) values: Slice<bf16>,
    pub(crate) capacity: usize,
}

/// Copies keys and values of prompts from the rows of a forward pass to their slots: targets are
/// `{first row, tokens, slot, 0}`, of up to `longest` tokens.
pub(crate) fn fill_cache(
    device: &dyn Device,
    qkv: Slice<bf16>,
    (targets, longest): (Slice<[i32; 4]>, usize),
    cache: LayerCache,
    shape: HeadShape,
) -> Result<(), Error> {
    assert!(longest <= cache.capacity && cache.keys.len == cache.values.len);
    let arguments = [
        qkv.into(),
        targets.into(),
        cache.keys.into(),
        cache.values.into(),
        shape.heads.into(),
        shape.kv_heads.into(),
        shape.dim.into(),
        cache.capacity.into(),
    ];
    let blocks = by_eights(longest * shape.kv_heads * shape.dim)[0];
    launch(device, "fill_cache", [blocks, targets.len, 1], [THREADS, 0], &arguments)
}

/// Appends the keys and values of `qkv [B, (H + 2 G) D]` behind the cached ones.
pub(crate) fn append_cache(
    device: &dyn Device,
    qkv: Slice<bf16>,
    lengths: Slice<u32>,
    cache: LayerCache,
    shape: HeadShape,
) -> Result<(), Error> {
    let slots = lengths.len;
    assert_eq!(cache.keys.len, slots * shape.kv_heads * cache.capacity * shape.dim);
    let arguments = [
        qkv.into(),
        lengths.into(),
        cache.keys.into(),
        cache.values.into(),
        slots.into(),
        shape.heads.into(),
        shape.kv_heads.into(),
        shape.dim.into(),
        cache.capacity.into(),
    ];
    launch(device, "append_cache", by_eights(slots * shape.kv_heads * shape.dim), [THREADS, 0], &arguments)
}

/// Elements that [`decode_attention`] needs for shares.
pub(crate) fn share_elements(slots: usize, capacity: usize, shape: HeadShape) -> usize {
    match capacity.div_ceil(SPAN) {
        1 => 0,
        shares => slots * shape.heads * shares * (shape.dim + 1),
    }
}

/// `out [B, H D]`: attention of each slot's new token over its cache, the new key and value included.
pub(crate) fn decode_attention(
    device: &dyn Device,
    qkv: Slice<bf16>,
    [lengths, finished]: [Slice<u32>; 2],
    cache: LayerCache,
    shape: HeadShape,
    out: Slice<bf16>,
    shares: Slice<f32>,
) -> Result<(), Error> {
    let (slots, HeadShape { heads, kv_heads, dim }) = (lengths.len, shape);
    let count = cache.capacity.div_ceil(SPAN);
    assert!(finished.len == slots && out.len == slots * heads * dim && shape.group() <= 16);
    assert_eq!(shares.len, share_elements(slots, cache.capacity, shape));
    let arguments = [
        qkv.into(),
        lengths.into(),
        finished.into(),
        cache.keys.into(),
        cache.values.into(),
        out.into(),
        shares.into(),
        heads.into(),
        kv_heads.into(),
        cache.capacity.into(),
        SPAN.into(),
    ];
    let names = ["decode_attention_32", "decode_attention_64", "decode_attention_128"];
    let shared = tile_bytes(16 + 4 * 2 * 16, dim);
    launch(device, for_dim(names, dim), [slots, kv_heads, count], [128, shared], &arguments)?;
    if count == 1 {
        return Ok(());
    }
    let arguments = [
        shares.into(),
        lengths.into(),
        finished.into(),
        out.into(),
        heads.into(),
        dim.into(),
        count.into(),
        SPAN.into(),
    ];
    launch(device, "join_shares", [slots, heads, 1], [dim, 0], &arguments)
}

/// The state of all slots of decoding, as in `decode.cu`.
#[derive(Clone, Copy)]
pub(crate) struct SlotState {
    /// `Slot` each: sequence, drawn, budget, fresh.
    pub(crate) slots: Slice<[u32; 4]>,
    /// The newest token of each, not yet in the cache.
    pub(crate) ids: Slice<u32>,
    /// Tokens in the cache.
    pub(crate) lengths: Slice<u32>,
    /// Not 0 where nothing is to be drawn.
    pub(crate) finished: Slice<u32>,
}

/// How tokens are drawn, and where they go.
#[derive(Clone, Copy)]
pub(crate) struct Draws {
    /// `Drawing` of `decode.cu`, six words.
    pub(crate) how: Slice<u32>,
    pub(crate) stop_tokens: Slice<u32>,
    /// `[steps, B]`
    pub(crate) ids: Slice<u32>,
    /// `[steps, B]`
    pub(crate) logprobs: Slice<f32>,
}

/// Draws the next token of each live slot from its logits, and moves the slot on.
pub(crate) fn draw(device: &dyn Device, logits: Logits, draws: Draws, state: SlotState) -> Result<(), Error> {
    let Logits { values, vocabulary, stride } = logits;
    let slots = state.slots.len;
    assert!(values.len == slots * stride && draws.how.len == 6);
    assert!([state.ids.len, state.lengths.len, state.finished.len] == [slots; 3]);
    let arguments = [
        values.into(),
        draws.how.into(),
        draws.stop_tokens.into(),
        state.slots.into(),
        state.ids.into(),
        state.lengths.into(),
        state.finished.into(),
        draws.ids.into(),
        draws.logprobs.into(),
        vocabulary.into(),
        stride.into(),
    ];
    launch(device, "draw", [slots, 1, 1], [row_threads(vocabulary), 0], &arguments)
}
