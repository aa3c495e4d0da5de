// Kernels that a row, or a few numbers of it, pass through once: embedding, RMS norm, rotation, gated activation, and sums
// over columns. All are bound by memory, so every thread moves 16 bytes at a time, and what can be fused is.
//
// Sums have a fixed order: none depends on which block comes first, and a step gives the same bits every time it is run.

// out [T, E] = rows of the table [V, E].
extern "C" __global__ void embed(const unsigned *ids, const bf16 *table, float *out, int tokens, int width) {
    int eights = width / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)tokens * eights) return;
    int row = index / eights, column = index % eights * 8;
    store_eight(out + (long long)row * width + column, load_eight(table + (long long)ids[row] * width + column));
}

// The gradient of the embedding. The rows that showed token `ids[i]` are `order[starts[i] .. starts[i + 1]]`, ascending; a
// thread owns four columns of one token, adds its rows in that order, and is their only writer. For the ids 5 9 5 there are
// ids = {5, 9}, starts = {0, 2, 3}, order = {0, 2, 1}.
extern "C" __global__ void embedding_gradient(
    const float *d_rows, const unsigned *ids, const unsigned *starts, const unsigned *order, float *gradient, int width) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
    if (column >= width) return;
    float4 *target = reinterpret_cast<float4 *>(gradient + (long long)ids[blockIdx.x] * width + column);
    float4 sum = *target;
    for (unsigned i = starts[blockIdx.x]; i < starts[blockIdx.x + 1]; i++) {
        float4 row = *reinterpret_cast<const float4 *>(d_rows + (long long)order[i] * width + column);
        sum.x += row.x;
        sum.y += row.y;
        sum.z += row.z;
        sum.w += row.w;
    }
    *target = sum;
}

// RMS norm, a warp a row: normed = x r weight with r = 1 / sqrt(mean(x²) + eps). With an `update`, what is normalised is
// x + update, and that sum, the residual stream behind the half layer, goes to `sum`, which may be x itself.
extern "C" __global__ void rms_norm(
    const float *x, const bf16 *update, const bf16 *weight, float *sum, bf16 *normed, float *rstd, int rows, int width,
    float eps) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const float *source = x + (long long)row * width;
    float squares = 0.0f;
    for (int column = lane * 8; column < width; column += 256) {
        Eight value = load_eight(source + column);
        if (update) {
            Eight more = load_eight(update + (long long)row * width + column);
            for (int i = 0; i < 8; i++) value.x[i] += more.x[i];
            store_eight(sum + (long long)row * width + column, value);
        }
        for (int i = 0; i < 8; i++) squares += value.x[i] * value.x[i];
    }
    float r = rsqrtf(warp_sum(squares) / width + eps);
    if (lane == 0) rstd[row] = r;
    if (update) source = sum + (long long)row * width;
    for (int column = lane * 8; column < width; column += 256) {
        Eight value = load_eight(source + column), scale = load_eight(weight + column);
        for (int i = 0; i < 8; i++) value.x[i] *= r * scale.x[i];
        store_eight(normed + (long long)row * width + column, value);
    }
}

// Normalises again with the kept r, for the backward pass.
extern "C" __global__ void renormalize(
    const float *x, const bf16 *weight, const float *rstd, bf16 *normed, int rows, int width) {
    int eights = width / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)rows * eights) return;
    int row = index / eights, column = index % eights * 8;
    Eight value = load_eight(x + (long long)row * width + column), scale = load_eight(weight + column);
    for (int i = 0; i < 8; i++) value.x[i] *= rstd[row] * scale.x[i];
    store_eight(normed + (long long)row * width + column, value);
}

// With g = weight dy: dx += r g - x r³ (g · x) / E, and of the weight's gradient, the sum of dy x r over the rows of this
// block. dx is kept twice: in f32 to be added to, in bf16 as the factor of the next products. A block takes some
// rows one by one; each thread keeps the sums of its own columns in shared memory, where nobody else looks.
template <typename Incoming>
__device__ void rms_norm_backward(
    const float *x, const bf16 *weight, const float *rstd, const Incoming *dy, float *dx, bf16 *dx_rounded,
    float *partial, int rows, int width, int rows_per_block, int replace) {
    DYNAMIC_SHARED(shared);
    __shared__ float scratch[32];
    float *d_weight = reinterpret_cast<float *>(shared);
    for (int column = threadIdx.x * 8; column < width; column += blockDim.x * 8)
        for (int i = 0; i < 8; i++) d_weight[column + i] = 0.0f;
    int first = blockIdx.x * rows_per_block, end = min(first + rows_per_block, rows);
    for (int row = first; row < end; row++) {
        long long start = (long long)row * width;
        float r = rstd[row], product = 0.0f;
        for (int column = threadIdx.x * 8; column < width; column += blockDim.x * 8) {
            Eight value = load_eight(x + start + column), d = load_eight(dy + start + column),
                  scale = load_eight(weight + column);
            for (int i = 0; i < 8; i++) {
                product += d.x[i] * scale.x[i] * value.x[i];
                d_weight[column + i] += d.x[i] * value.x[i] * r;
            }
        }
        float c = block_sum(product, scratch) * r * r * r / width;
        for (int column = threadIdx.x * 8; column < width; column += blockDim.x * 8) {
            Eight value = load_eight(x + start + column), d = load_eight(dy + start + column),
                  scale = load_eight(weight + column), out = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
            if (!replace) out = load_eight(dx + start + column);
            for (int i = 0; i < 8; i++) out.x[i] += d.x[i] * scale.x[i] * r - value.x[i] * c;
            store_eight(dx + start + column, out);
            store_eight(dx_rounded + start + column, out);
        }
    }
    for (int column = threadIdx.x * 8; column < width; column += blockDim.x * 8)
        store_eight(partial + (long long)blockIdx.x * width + column, load_eight(d_weight + column));
}

extern "C" __global__ void rms_norm_backward_bf16(
    const float *x, const bf16 *weight, const float *rstd, const bf16 *dy, float *dx, bf16 *dx_rounded, float *partial,
    int rows, int width, int rows_per_block, int replace) {
    rms_norm_backward(x, weight, rstd, dy, dx, dx_rounded, partial, rows, width, rows_per_block, replace);
}

extern "C" __global__ void rms_norm_backward_f32(
    const float *x, const bf16 *weight, const float *rstd, const float *dy, float *dx, bf16 *dx_rounded, float *partial,
    int rows, int width, int rows_per_block, int replace) {
    rms_norm_backward(x, weight, rstd, dy, dx, dx_rounded, partial, rows, width, rows_per_block, replace);
}

// First stage of a sum over rows: the sums of each block's rows. With `chosen`, row i is row chosen[i] of x; with
// `weights`, it counts weights[i] times.
extern "C" __global__ void column_partial(
    const bf16 *x, const unsigned *chosen, const float *weights, float *partial, int rows, int width,
    int rows_per_block) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    if (column >= width) return;
    int first = blockIdx.x * rows_per_block, end = min(first + rows_per_block, rows);
    Eight sum = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
    for (int i = first; i < end; i++) {
        long long row = chosen ? chosen[i] : i;
        float weight = weights ? weights[i] : 1.0f;
        Eight value = load_eight(x + row * width + column);
        for (int j = 0; j < 8; j++) sum.x[j] += weight * value.x[j];
    }
    store_eight(partial + (long long)blockIdx.x * width + column, sum);
}

// Second stage: out [C] += the sum of partial [blocks, C]. A block has 32 columns; its eight warps share the rows.
extern "C" __global__ void column_finish(const float *partial, float *out, int blocks, int width) {
    __shared__ float sums[8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < width)
        for (int row = warp; row < blocks; row += 8) sum += partial[(long long)row * width + column];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= width) return;
    sum = out[column];
    for (int i = 0; i < 8; i++) sum += sums[i][lane];
    out[column] = sum;
}

// Adds the bias to the fused projection and turns q and k by their positions, in place: `qkv [T, (H + 2 G) D]`, of which the
// first `turned` heads, q and k, turn. Element i of a head pairs with i + D/2; the angle is that of `cos` and `sin [positions,
// D/2]`. A thread has eight pairs. With `back`, gradients turn the other way and there is no bias.
extern "C" __global__ void rotate(
    bf16 *qkv, const bf16 *bias, const unsigned *positions, const float *cos, const float *sin, int tokens, int heads,
    int turned, int dim, int back) {
    int half = dim / 2, pieces = half / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)tokens * heads * pieces) return;
    int row = index / (heads * pieces), head = index / pieces % heads, column = index % pieces * 8;
    bf16 *low = qkv + (long long)row * heads * dim + head * dim + column, *high = low + half;
    Eight a = load_eight(low), b = load_eight(high);
    if (bias) {
        Eight bias_a = load_eight(bias + head * dim + column), bias_b = load_eight(bias + head * dim + half + column);
        for (int i = 0; i < 8; i++) a.x[i] += bias_a.x[i], b.x[i] += bias_b.x[i];
    }
    if (head < turned) {
        long long angle = (long long)positions[row] * half + column;
        Eight c = load_eight(cos + angle), s = load_eight(sin + angle);
        for (int i = 0; i < 8; i++) {
            float sine = back ? -s.x[i] : s.x[i], turned_a = a.x[i] * c.x[i] - b.x[i] * sine;
            b.x[i] = b.x[i] * c.x[i] + a.x[i] * sine;
            a.x[i] = turned_a;
        }
    }
    store_eight(low, a);
    store_eight(high, b);
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// y [T, I] = gate σ(gate) up for gate_up [T, 2 I].
extern "C" __global__ void swiglu(const bf16 *gate_up, bf16 *y, int rows, int inner) {
    int eights = inner / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)rows * eights) return;
    long long row = index / eights, column = index % eights * 8;
    Eight gate = load_eight(gate_up + row * 2 * inner + column);
    Eight up = load_eight(gate_up + row * 2 * inner + inner + column);
    for (int i = 0; i < 8; i++) gate.x[i] *= sigmoid(gate.x[i]) * up.x[i];
    store_eight(y + row * inner + column, gate);
}

// gate_up becomes its own gradient: with s = σ(gate), d_up = dy gate s and d_gate = dy up s (1 + gate (1 - s)).
extern "C" __global__ void swiglu_backward(bf16 *gate_up, const bf16 *dy, int rows, int inner) {
    int eights = inner / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)rows * eights) return;
    long long row = index / eights, column = index % eights * 8;
    bf16 *gates = gate_up + row * 2 * inner + column, *ups = gates + inner;
    Eight gate = load_eight(gates), up = load_eight(ups), d = load_eight(dy + row * inner + column);
    for (int i = 0; i < 8; i++) {
        float s = sigmoid(gate.x[i]), d_gate = d.x[i] * up.x[i] * s * (1.0f + gate.x[i] * (1.0f - s));
        up.x[i] = d.x[i] * gate.x[i] * s;
        gate.x[i] = d_gate;
    }
    store_eight(gates, gate);
    store_eight(ups, up);
}
