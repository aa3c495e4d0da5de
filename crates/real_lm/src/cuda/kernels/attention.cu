// Causal attention over packed sequences, forward and backward, on the tensor cores, without ever holding all scores
// (Dao 2023, FlashAttention-2).
//
// A row of `qkv [T, (H + 2 G) D]` has the H query heads of a token, then its G keys, then its G values; a key serves H / G
// query heads. The host cuts every sequence into tiles of 64 tokens: {first row of the sequence, its length, first position of
// the tile, 0}. A sequence of 150 tokens that starts at row 40 is {40, 150, 0}, {40, 150, 64}, {40, 150, 128}.
//
// Forward, a block has a tile of queries of one head, each of its four warps 16 of them, and walks over the keys:
//
//     S = Q K' / sqrt(D)     m' = max(m, rowmax S)     P = exp(S - m')     l = l exp(m - m') + rowsum P     O = O exp(m - m') + P V
//
// and ends with O / l and the log-sum-exp m + log l of each row. P never leaves registers: what the tensor cores
// return as C of one product is laid out as the A of the next.
//
// Backward, with δ = dO · O for each row,
//
//     P = exp(S - lse)     dP = dO V'     dS = P (dP - δ) / sqrt(D)     dV = P' dO     dK = dS' Q     dQ = dS K
//
// in two kernels: one owns a tile of keys and walks over the queries of its group, one owns a tile of queries and walks over
// the keys. The scores are made twice, but each gradient has one writer and one order: no atomics, the same bits every time.

constexpr int TILE = 64;      // tokens of a block's own tile
constexpr int STEP = 32;      // tokens of the other side at a time, backward
constexpr int THREADS = 128;  // four warps

// Copies rows of D elements, `stride` apart, to shared memory; rows from `count` on are zero.
template <int D>
__device__ inline void load_tile(bf16 *tile, const bf16 *source, long long stride, int rows, int count, int thread, int threads) {
    for (int i = thread; i < rows * (D / 8); i += threads) {
        int row = i / (D / 8), column = i % (D / 8) * 8;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (row < count) value = *reinterpret_cast<const uint4 *>(source + row * stride + column);
        *reinterpret_cast<uint4 *>(tile + row * (D + PAD) + column) = value;
    }
}

// The A operand: rows `row..row + 16` and columns `column..column + 16` of a tile.
template <int D>
__device__ inline void operand_a(unsigned a[4], const bf16 *tile, int row, int column) {
    int lane = threadIdx.x % 32;
    ldmatrix(a, tile + (row + lane % 16) * (D + PAD) + column + lane / 16 * 8);
}

// Two B operands side by side, for C columns `row..row + 16`: B is the transpose of rows `row..row + 16`, columns
// `column..column + 16` of the tile.
template <int D>
__device__ inline void operand_b_rows(unsigned b[4], const bf16 *tile, int row, int column) {
    int lane = threadIdx.x % 32;
    ldmatrix(b, tile + (row + lane / 16 * 8 + lane % 8) * (D + PAD) + column + lane / 8 % 2 * 8);
}

// Two B operands side by side, for C columns `column..column + 16`: B is rows `row..row + 16` of the tile as they are.
template <int D>
__device__ inline void operand_b_columns(unsigned b[4], const bf16 *tile, int row, int column) {
    int lane = threadIdx.x % 32;
    ldmatrix_transposed(b, tile + (row + lane % 16) * (D + PAD) + column + lane / 16 * 8);
}

// C of 16 rows and 8 N columns, as the A operand for columns 16 i of it.
__device__ inline void result_as_operand(unsigned a[4], const float c[][4], int i) {
    a[0] = pack(c[2 * i][0], c[2 * i][1]);
    a[1] = pack(c[2 * i][2], c[2 * i][3]);
    a[2] = pack(c[2 * i + 1][0], c[2 * i + 1][1]);
    a[3] = pack(c[2 * i + 1][2], c[2 * i + 1][3]);
}

// C [16, 8 N] = A [16, D] B' for 16 rows of one tile and 8 N rows of another.
template <int D, int N>
__device__ inline void product_rows(float c[N][4], const bf16 *a_tile, int a_row, const bf16 *b_tile) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) c[n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        unsigned a[4];
        operand_a<D>(a, a_tile, a_row, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned b[4];
            operand_b_rows<D>(b, b_tile, n * 8, k);
            mma(c[n], a, b);
            mma(c[n + 1], a, b + 2);
        }
    }
}

// C [16, D] += P [16, 8 N] B for 8 N rows of a tile.
template <int D, int N>
__device__ inline void product_columns(float c[D / 8][4], const float p[N][4], const bf16 *tile) {
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        unsigned a[4];
        result_as_operand(a, p, k);
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            unsigned b[4];
            operand_b_columns<D>(b, tile, k * 16, n * 8);
            mma(c[n], a, b);
            mma(c[n + 1], a, b + 2);
        }
    }
}

// One step of the running softmax: scores become probabilities under the new maximum, the sums so far are scaled to it.
template <int D, int N>
__device__ inline void softmax_step(float s[N][4], float o[D / 8][4], float top[2], float total[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float largest = top[half];
#pragma unroll
        for (int n = 0; n < N; n++) largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        // A row that has seen no key yet has no maximum to subtract.
        float base = largest == -INFINITY ? 0.0f : largest;
        float keep = __expf(top[half] - base), sum = 0.0f;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                s[n][i] = __expf(s[n][i] - base);
                sum += s[n][i];
            }
        total[half] = total[half] * keep + sum;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            o[n][2 * half] *= keep;
            o[n][2 * half + 1] *= keep;
        }
        top[half] = largest;
    }
}

// The sum over the four lanes that share a row of C.
__device__ inline float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

template <int D>
__device__ void attention_forward(const bf16 *qkv, const int4 *tiles, bf16 *o, float *lse, int heads, int kv_heads) {
    DYNAMIC_SHARED(shared);
    bf16 *q_tile = reinterpret_cast<bf16 *>(shared), *k_tile = q_tile + TILE * (D + PAD), *v_tile = k_tile + TILE * (D + PAD);
    const int4 tile = tiles[blockIdx.x];
    const int length = tile.y, first = tile.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long stride = (long long)(heads + 2 * kv_heads) * D;
    const bf16 *sequence = qkv + tile.x * stride;
    const bf16 *keys = sequence + (heads + kv_head) * D, *values = keys + kv_heads * D;
    const float scale = rsqrtf((float)D);
    const int row = first + warp * 16 + lane / 4;  // and the one 8 further on

    load_tile<D>(q_tile, sequence + first * stride + head * D, stride, TILE, length - first, threadIdx.x, THREADS);
    float out[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    for (int key = 0; key <= first; key += TILE) {
        __syncthreads();
        load_tile<D>(k_tile, keys + key * stride, stride, TILE, length - key, threadIdx.x, THREADS);
        load_tile<D>(v_tile, values + key * stride, stride, TILE, length - key, threadIdx.x, THREADS);
        __syncthreads();
        float s[TILE / 8][4];
        product_rows<D, TILE / 8>(s, q_tile, warp * 16, k_tile);
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int column = key + n * 8 + lane % 4 * 2 + i % 2;
                s[n][i] = column <= row + i / 2 * 8 ? s[n][i] * scale : -INFINITY;
            }
        softmax_step<D, TILE / 8>(s, out, top, total);
        product_columns<D, TILE / 8>(out, s, v_tile);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = quad_sum(total[half]), inverse = 1.0f / sum;
        int position = row + half * 8;
        if (position >= length) continue;
        long long at = tile.x + position;
        if (lane % 4 == 0) lse[at * heads + head] = top[half] + logf(sum);
        unsigned *target = reinterpret_cast<unsigned *>(o + (at * heads + head) * D + lane % 4 * 2);
#pragma unroll
        for (int n = 0; n < D / 8; n++) target[n * 4] = pack(out[n][2 * half] * inverse, out[n][2 * half + 1] * inverse);
    }
}

// delta [T, H] = dO · O, a warp a row of a head.
extern "C" __global__ void attention_delta(const bf16 *o, const bf16 *d_o, float *delta, int rows, int dim) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int column = lane * 8; column < dim; column += 256) {
        Eight a = load_eight(o + (long long)row * dim + column), b = load_eight(d_o + (long long)row * dim + column);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += a.x[i] * b.x[i];
    }
    sum = warp_sum(sum);
    if (lane == 0) delta[row] = sum;
}

// Writes the columns of k and v of d_qkv for one tile of keys. Rows of C are keys, its columns queries.
template <int D>
__device__ void attention_backward_keys(
    const bf16 *qkv, const bf16 *d_o, const float *lse, const float *delta, const int4 *tiles, bf16 *d_qkv, int heads,
    int kv_heads) {
    DYNAMIC_SHARED(shared);
    __shared__ float lses[STEP], deltas[STEP];
    bf16 *k_tile = reinterpret_cast<bf16 *>(shared), *v_tile = k_tile + TILE * (D + PAD);
    bf16 *q_tile = v_tile + TILE * (D + PAD), *d_tile = q_tile + STEP * (D + PAD);
    const int4 tile = tiles[blockIdx.x];
    const int length = tile.y, first = tile.z, kv_head = blockIdx.y, group = heads / kv_heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long stride = (long long)(heads + 2 * kv_heads) * D;
    const bf16 *sequence = qkv + tile.x * stride;
    const float scale = rsqrtf((float)D);
    const int key = first + warp * 16 + lane / 4;

    const bf16 *keys = sequence + first * stride + (heads + kv_head) * D;
    load_tile<D>(k_tile, keys, stride, TILE, length - first, threadIdx.x, THREADS);
    load_tile<D>(v_tile, keys + kv_heads * D, stride, TILE, length - first, threadIdx.x, THREADS);
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (int query = first; query < length; query += STEP) {
            __syncthreads();
            load_tile<D>(q_tile, sequence + query * stride + head * D, stride, STEP, length - query, threadIdx.x, THREADS);
            const bf16 *d_rows = d_o + ((long long)(tile.x + query) * heads + head) * D;
            load_tile<D>(d_tile, d_rows, (long long)heads * D, STEP, length - query, threadIdx.x, THREADS);
            if (threadIdx.x < STEP) {
                bool real = query + (int)threadIdx.x < length;
                long long at = (long long)(tile.x + query + threadIdx.x) * heads + head;
                lses[threadIdx.x] = real ? lse[at] : 0.0f;
                deltas[threadIdx.x] = real ? delta[at] : 0.0f;
            }
            __syncthreads();
            float p[STEP / 8][4], ds[STEP / 8][4];
            product_rows<D, STEP / 8>(p, k_tile, warp * 16, q_tile);
            product_rows<D, STEP / 8>(ds, v_tile, warp * 16, d_tile);
#pragma unroll
            for (int n = 0; n < STEP / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int column = n * 8 + lane % 4 * 2 + i % 2, position = query + column;
                    bool seen = key + i / 2 * 8 <= position && position < length;
                    p[n][i] = seen ? __expf(p[n][i] * scale - lses[column]) : 0.0f;
                    ds[n][i] = p[n][i] * (ds[n][i] - deltas[column]) * scale;
                }
            product_columns<D, STEP / 8>(dv, p, d_tile);
            product_columns<D, STEP / 8>(dk, ds, q_tile);
        }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int position = key + half * 8;
        if (position >= length) continue;
        bf16 *d_key = d_qkv + (tile.x + position) * stride + (heads + kv_head) * D + lane % 4 * 2;
        unsigned *dk_row = reinterpret_cast<unsigned *>(d_key), *dv_row = reinterpret_cast<unsigned *>(d_key + kv_heads * D);
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            dk_row[n * 4] = pack(dk[n][2 * half], dk[n][2 * half + 1]);
            dv_row[n * 4] = pack(dv[n][2 * half], dv[n][2 * half + 1]);
        }
    }
}

// Writes the columns of q of d_qkv for one tile of queries. Rows of C are queries, its columns keys.
template <int D>
__device__ void attention_backward_queries(
    const bf16 *qkv, const bf16 *d_o, const float *lse, const float *delta, const int4 *tiles, bf16 *d_qkv, int heads,
    int kv_heads) {
    DYNAMIC_SHARED(shared);
    bf16 *q_tile = reinterpret_cast<bf16 *>(shared), *d_tile = q_tile + TILE * (D + PAD);
    bf16 *k_tile = d_tile + TILE * (D + PAD), *v_tile = k_tile + STEP * (D + PAD);
    const int4 tile = tiles[blockIdx.x];
    const int length = tile.y, first = tile.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long stride = (long long)(heads + 2 * kv_heads) * D;
    const bf16 *sequence = qkv + tile.x * stride;
    const float scale = rsqrtf((float)D);
    const int row = first + warp * 16 + lane / 4;

    load_tile<D>(q_tile, sequence + first * stride + head * D, stride, TILE, length - first, threadIdx.x, THREADS);
    const bf16 *d_rows = d_o + ((long long)(tile.x + first) * heads + head) * D;
    load_tile<D>(d_tile, d_rows, (long long)heads * D, TILE, length - first, threadIdx.x, THREADS);
    float row_lse[2], row_delta[2], dq[D / 8][4] = {};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int position = min(row + half * 8, length - 1);
        row_lse[half] = lse[(long long)(tile.x + position) * heads + head];
        row_delta[half] = delta[(long long)(tile.x + position) * heads + head];
    }
    for (int key = 0; key < min(first + TILE, length); key += STEP) {
        __syncthreads();
        const bf16 *keys = sequence + key * stride + (heads + kv_head) * D;
        load_tile<D>(k_tile, keys, stride, STEP, length - key, threadIdx.x, THREADS);
        load_tile<D>(v_tile, keys + kv_heads * D, stride, STEP, length - key, threadIdx.x, THREADS);
        __syncthreads();
        float p[STEP / 8][4], ds[STEP / 8][4];
        product_rows<D, STEP / 8>(p, q_tile, warp * 16, k_tile);
        product_rows<D, STEP / 8>(ds, d_tile, warp * 16, v_tile);
#pragma unroll
        for (int n = 0; n < STEP / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int column = key + n * 8 + lane % 4 * 2 + i % 2;
                float weight = column <= row + i / 2 * 8 ? __expf(p[n][i] * scale - row_lse[i / 2]) : 0.0f;
                ds[n][i] = weight * (ds[n][i] - row_delta[i / 2]) * scale;
            }
        product_columns<D, STEP / 8>(dq, ds, k_tile);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int position = row + half * 8;
        if (position >= length) continue;
        bf16 *d_query = d_qkv + (tile.x + position) * stride + head * D + lane % 4 * 2;
        unsigned *target = reinterpret_cast<unsigned *>(d_query);
#pragma unroll
        for (int n = 0; n < D / 8; n++) target[n * 4] = pack(dq[n][2 * half], dq[n][2 * half + 1]);
    }
}

#define ATTENTION(D)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_##D(                                       \
        const bf16 *qkv, const int4 *tiles, bf16 *o, float *lse, int heads, int kv_heads) {                            \
        attention_forward<D>(qkv, tiles, o, lse, heads, kv_heads);                                                     \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_keys_##D(                                 \
        const bf16 *qkv, const bf16 *d_o, const float *lse, const float *delta, const int4 *tiles, bf16 *d_qkv,        \
        int heads, int kv_heads) {                                                                                     \
        attention_backward_keys<D>(qkv, d_o, lse, delta, tiles, d_qkv, heads, kv_heads);                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_queries_##D(                              \
        const bf16 *qkv, const bf16 *d_o, const float *lse, const float *delta, const int4 *tiles, bf16 *d_qkv,        \
        int heads, int kv_heads) {                                                                                     \
        attention_backward_queries<D>(qkv, d_o, lse, delta, tiles, d_qkv, heads, kv_heads);                            \
    }
ATTENTION(32)
ATTENTION(64)
ATTENTION(128)
