// The output head on a chunk of rows, the value head, and the optimiser.
//
// A chunk's logits are f32 [R, stride], the vocabulary padded to a multiple of eight. One pass reduces each row to the
// log-probability of its target, its entropy and its log-sum-exp. A second turns each row into its gradient in the memory of
// the row: f32 numbers are read in pieces and written behind the reading as bf16, so the gradient is a matrix of twice the
// stride. With p = softmax(z), entropy S, and g and e the derivatives of the loss by log-probability and entropy,
//
//     dz_j = [j = target] g - p_j (g + e (log p_j + S))

extern "C" __global__ void gather_rows(const bf16 *source, const unsigned *rows, bf16 *out, int count, int width) {
    int eights = width / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)count * eights) return;
    long long row = index / eights, column = index % eights * 8;
    *reinterpret_cast<uint4 *>(out + row * width + column) =
        *reinterpret_cast<const uint4 *>(source + (long long)rows[row] * width + column);
}

// out [rows[i]] += source [i]; the rows are distinct.
extern "C" __global__ void scatter_add(const float *source, const unsigned *rows, float *out, int count, int width) {
    int eights = width / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)count * eights) return;
    long long row = index / eights, column = index % eights * 8;
    float *target = out + (long long)rows[row] * width + column;
    Eight sum = load_eight(target), more = load_eight(source + row * width + column);
    for (int i = 0; i < 8; i++) sum.x[i] += more.x[i];
    store_eight(target, sum);
}

// A sum of e^(z - top) and of z e^(z - top) whose top can grow.
struct Softmax {
    float top, total, weighted;
};

__device__ inline Softmax softmax_add(Softmax s, Softmax other) {
    float top = fmaxf(s.top, other.top);
    if (top == -INFINITY) return s;
    float keep = __expf(s.top - top), scale = __expf(other.top - top);
    return Softmax{top, s.total * keep + other.total * scale, s.weighted * keep + other.weighted * scale};
}

// scores [R, 3] = log-probability of the target, entropy, log-sum-exp. A block a row.
extern "C" __global__ void row_scores(
    const float *logits, const unsigned *targets, float *scores, int vocabulary, int stride) {
    __shared__ float tops[32], totals[32], weighteds[32];
    const float *row = logits + (long long)blockIdx.x * stride;
    Softmax own = {-INFINITY, 0.0f, 0.0f};
    for (int j = threadIdx.x * 4; j < vocabulary; j += blockDim.x * 4) {
        float4 quad = *reinterpret_cast<const float4 *>(row + j);
        float z[4] = {quad.x, quad.y, quad.z, quad.w}, top = -INFINITY;
        for (int i = 0; i < 4; i++)
            if (j + i < vocabulary) top = fmaxf(top, z[i]);
        Softmax piece = {top, 0.0f, 0.0f};
        for (int i = 0; i < 4; i++)
            if (j + i < vocabulary) {
                float e = __expf(z[i] - top);
                piece.total += e;
                piece.weighted += z[i] * e;
            }
        own = softmax_add(own, piece);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        Softmax other = {__shfl_xor_sync(0xffffffffu, own.top, distance),
                         __shfl_xor_sync(0xffffffffu, own.total, distance),
                         __shfl_xor_sync(0xffffffffu, own.weighted, distance)};
        own = softmax_add(own, other);
    }
    int warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) tops[warp] = own.top, totals[warp] = own.total, weighteds[warp] = own.weighted;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int i = 1; i < (int)blockDim.x / 32; i++) own = softmax_add(own, Softmax{tops[i], totals[i], weighteds[i]});
    float lse = own.top + logf(own.total);
    scores[blockIdx.x * 3] = row[targets[blockIdx.x]] - lse;
    scores[blockIdx.x * 3 + 1] = lse - own.weighted / own.total;
    scores[blockIdx.x * 3 + 2] = lse;
}

// `gradients [R, 2]` are those of the loss by log-probability and entropy.
extern "C" __global__ void logit_gradient(
    float *logits, const unsigned *targets, const float *scores, const float *gradients, int vocabulary, int stride) {
    float *row = logits + (long long)blockIdx.x * stride;
    bf16 *out = reinterpret_cast<bf16 *>(row);
    const float entropy = scores[blockIdx.x * 3 + 1], lse = scores[blockIdx.x * 3 + 2];
    const float g = gradients[blockIdx.x * 2], e = gradients[blockIdx.x * 2 + 1];
    const int target = targets[blockIdx.x];
    for (int start = 0; start < stride; start += blockDim.x * 8) {
        int j = start + threadIdx.x * 8;
        Eight z = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
        if (j < stride) z = load_eight(row + j);
        // What is written lies at or before what this piece has read, and after all that earlier pieces wrote.
        __syncthreads();
        if (j >= stride) continue;
        for (int i = 0; i < 8; i++) {
            float logprob = z.x[i] - lse;
            z.x[i] = (j + i == target ? g : 0.0f) - __expf(logprob) * (g + e * (logprob + entropy));
            if (j + i >= vocabulary) z.x[i] = 0.0f;
        }
        store_eight(out + j, z);
    }
}

// values [R] = hidden[rows] · weight + bias, a warp a row; `params [E + 1]` has the bias behind the weight.
extern "C" __global__ void row_values(
    const bf16 *hidden, const unsigned *rows, const float *params, float *values, int count, int width) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= count) return;
    float sum = 0.0f;
    for (int column = lane * 8; column < width; column += 256) {
        Eight a = load_eight(hidden + (long long)rows[row] * width + column), b = load_eight(params + column);
        for (int i = 0; i < 8; i++) sum += a.x[i] * b.x[i];
    }
    sum = warp_sum(sum);
    if (lane == 0) values[row] = sum + params[width];
}

// d_hidden [rows[i]] += d_values [i] weight; the rows are distinct.
extern "C" __global__ void values_backward(
    const float *params, const unsigned *rows, const float *d_values, float *d_hidden, int count, int width) {
    int eights = width / 8;
    long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (long long)count * eights) return;
    long long row = index / eights, column = index % eights * 8;
    float *target = d_hidden + (long long)rows[row] * width + column;
    Eight sum = load_eight(target), weight = load_eight(params + column);
    for (int i = 0; i < 8; i++) sum.x[i] += d_values[row] * weight.x[i];
    store_eight(target, sum);
}

// The first stage of the norm of the gradients: a sum of squares a block, added in the end by the host.
extern "C" __global__ void square_sums(const float *x, float *sums, long long count) {
    __shared__ float scratch[32];
    float sum = 0.0f;
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8; i < count; i += (long long)gridDim.x * blockDim.x * 8) {
        Eight value = load_eight(x + i);
        for (int j = 0; j < 8; j++) sum += value.x[j] * value.x[j];
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One step of AdamW: w ← w keep - rate m / (sqrt(v) root + eps) with the moments of the gradient times `factor`, the copy
// that the products read, and a gradient of zero for the next step, all in one pass over memory.
extern "C" __global__ void adamw(
    float *weights, float *gradient, float *first, float *second, bf16 *rounded, long long count, float factor, float beta1,
    float beta2, float eps, float keep, float rate, float root) {
    long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (i >= count) return;
    Eight w = load_eight(weights + i), g = load_eight(gradient + i), m = load_eight(first + i), v = load_eight(second + i);
    for (int j = 0; j < 8; j++) {
        float d = g.x[j] * factor;
        m.x[j] = beta1 * m.x[j] + (1.0f - beta1) * d;
        v.x[j] = beta2 * v.x[j] + (1.0f - beta2) * d * d;
        w.x[j] = w.x[j] * keep - rate * m.x[j] / (sqrtf(v.x[j]) * root + eps);
        g.x[j] = 0.0f;
    }
    store_eight(weights + i, w);
    store_eight(gradient + i, g);
    store_eight(first + i, m);
    store_eight(second + i, v);
    store_eight(rounded + i, w);
}

// Rounds f32 to bf16.
extern "C" __global__ void round_to_bf16(const float *source, bf16 *target, long long count) {
    long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (i < count) store_eight(target + i, load_eight(source + i));
}
