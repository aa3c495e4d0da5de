// Decoding: one new token for each of B slots, whose keys and values lie in a cache, and drawing the next token.
//
// The cache of a layer is `[B, G, capacity, D]` keys and as many values. All that changes from step to step, the
// lengths, the tokens, whether a slot is finished, lies in device memory, so that a step is the same list of launches
// every time and can be recorded once and replayed. A finished slot goes through the motions: it appends at the same place
// again and draws nothing.

// Copies keys and values of prompts from the rows of a forward pass into the cache. Target i is {first row, tokens, slot, 0}.
extern "C" __global__ void fill_cache(
    const bf16 *qkv, const int4 *targets, bf16 *keys, bf16 *values, int heads, int kv_heads, int dim, int capacity) {
    const int4 target = targets[blockIdx.y];
    const int eights = dim / 8, per_token = kv_heads * eights;
    const long long stride = (long long)(heads + 2 * kv_heads) * dim;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < target.y * per_token; i += gridDim.x * blockDim.x) {
        int token = i / per_token, head = i / eights % kv_heads, column = i % eights * 8;
        const bf16 *source = qkv + (target.x + token) * stride + (heads + head) * dim + column;
        long long at = (((long long)target.z * kv_heads + head) * capacity + token) * dim + column;
        *reinterpret_cast<uint4 *>(keys + at) = *reinterpret_cast<const uint4 *>(source);
        *reinterpret_cast<uint4 *>(values + at) = *reinterpret_cast<const uint4 *>(source + kv_heads * dim);
    }
}

// Appends each slot's new key and value, already turned, behind the cached ones. A thread has eight elements.
extern "C" __global__ void append_cache(
    const bf16 *qkv, const unsigned *lengths, bf16 *keys, bf16 *values, int slots, int heads, int kv_heads, int dim,
    int capacity) {
    const int eights = dim / 8, per_slot = kv_heads * eights;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= slots * per_slot) return;
    int slot = i / per_slot, head = i / eights % kv_heads, column = i % eights * 8;
    const bf16 *source = qkv + (long long)slot * (heads + 2 * kv_heads) * dim + (heads + head) * dim + column;
    long long at = (((long long)slot * kv_heads + head) * capacity + lengths[slot]) * dim + column;
    *reinterpret_cast<uint4 *>(keys + at) = *reinterpret_cast<const uint4 *>(source);
    *reinterpret_cast<uint4 *>(values + at) = *reinterpret_cast<const uint4 *>(source + kv_heads * dim);
}

constexpr int DECODE_KEYS = 16;   // keys of a warp at a time
constexpr int DECODE_WARPS = 4;

// Attention of one new token. The query heads that share a key are the rows of the A operand: up to 16 of them read
// the keys once. A block has one slot, one KV head, and of its keys the share of `span` that blockIdx.z numbers; its warps take
// turns at tiles of 16 keys, each with a softmax of its own, and the four are joined in the end. Where a sequence can have
// more than `span` keys, each share leaves its normalised output and log-sum-exp in `shares`, for `join_shares`. The cut
// depends on positions alone, so a token's result does not depend on who else is in the batch.
template <int D>
__device__ void decode_attention(
    const bf16 *qkv, const unsigned *lengths, const unsigned *finished, const bf16 *keys, const bf16 *values, bf16 *out,
    float *shares, int heads, int kv_heads, int capacity, int span) {
    constexpr int WIDTH = D + PAD;
    DYNAMIC_SHARED(shared);
    __shared__ float tops[DECODE_WARPS][16], totals[DECODE_WARPS][16];
    const int slot = blockIdx.x, kv_head = blockIdx.y, share = blockIdx.z, group = heads / kv_heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int length = lengths[slot] + 1, first = share * span, end = min(first + span, length);
    if (finished[slot] || first >= length) return;
    bf16 *q_tile = reinterpret_cast<bf16 *>(shared), *tiles = q_tile + 16 * WIDTH;
    bf16 *k_tile = tiles + warp * 2 * DECODE_KEYS * WIDTH, *v_tile = k_tile + DECODE_KEYS * WIDTH;
    const bf16 *queries = qkv + (long long)slot * (heads + 2 * kv_heads) * D + kv_head * group * D;
    const long long cache = ((long long)slot * kv_heads + kv_head) * capacity * D;
    const float scale = rsqrtf((float)D);

    load_tile<D>(q_tile, queries, D, 16, group, threadIdx.x, blockDim.x);
    __syncthreads();
    float o[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    for (int key = first + warp * DECODE_KEYS; key < end; key += DECODE_WARPS * DECODE_KEYS) {
        __syncwarp();
        load_tile<D>(k_tile, keys + cache + (long long)key * D, D, DECODE_KEYS, end - key, lane, 32);
        load_tile<D>(v_tile, values + cache + (long long)key * D, D, DECODE_KEYS, end - key, lane, 32);
        __syncwarp();
        float s[DECODE_KEYS / 8][4];
        product_rows<D, DECODE_KEYS / 8>(s, q_tile, 0, k_tile);
#pragma unroll
        for (int n = 0; n < DECODE_KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int column = key + n * 8 + lane % 4 * 2 + i % 2;
                s[n][i] = column < end ? s[n][i] * scale : -INFINITY;
            }
        softmax_step<D, DECODE_KEYS / 8>(s, o, top, total);
        product_columns<D, DECODE_KEYS / 8>(o, s, v_tile);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = quad_sum(total[half]);
        if (lane % 4 == 0) tops[warp][lane / 4 + half * 8] = top[half], totals[warp][lane / 4 + half * 8] = sum;
    }
    __syncthreads();
    // The tiles are done with; their memory takes the four outputs, [warps, 16, D].
    float *outputs = reinterpret_cast<float *>(tiles);
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            outputs[(warp * 16 + lane / 4 + i / 2 * 8) * D + n * 8 + lane % 4 * 2 + i % 2] = o[n][i];
    __syncthreads();
    for (int i = threadIdx.x; i < group * D; i += blockDim.x) {
        int row = i / D, column = i % D;
        float largest = -INFINITY, sum = 0.0f, mixed = 0.0f;
        for (int w = 0; w < DECODE_WARPS; w++) largest = fmaxf(largest, tops[w][row]);
        for (int w = 0; w < DECODE_WARPS; w++) {
            float weight = __expf(tops[w][row] - largest);
            sum += totals[w][row] * weight;
            mixed += outputs[(w * 16 + row) * D + column] * weight;
        }
        long long head = (long long)slot * heads + kv_head * group + row;
        if (gridDim.z == 1) {
            out[head * D + column] = to_bf16(mixed / sum);
        } else {
            float *target = shares + (head * gridDim.z + share) * (D + 1);
            target[column] = mixed / sum;
            if (column == 0) target[D] = largest + logf(sum);
        }
    }
}

#define DECODE_ATTENTION(D)                                                                                            \
    extern "C" __global__ void __launch_bounds__(128) decode_attention_##D(                                            \
        const bf16 *qkv, const unsigned *lengths, const unsigned *finished, const bf16 *keys, const bf16 *values,      \
        bf16 *out, float *shares, int heads, int kv_heads, int capacity, int span) {                                   \
        decode_attention<D>(qkv, lengths, finished, keys, values, out, shares, heads, kv_heads, capacity, span);       \
    }
DECODE_ATTENTION(32)
DECODE_ATTENTION(64)
DECODE_ATTENTION(128)

// Joins the shares of each head, weighted by their sums of exponentials. A block a slot and head, a thread a column.
extern "C" __global__ void join_shares(
    const float *shares, const unsigned *lengths, const unsigned *finished, bf16 *out, int heads, int dim, int count,
    int span) {
    const int slot = blockIdx.x, column = threadIdx.x;
    if (finished[slot] || column >= dim) return;
    const long long head = (long long)slot * heads + blockIdx.y;
    const int used = lengths[slot] / span + 1;
    float largest = -INFINITY, sum = 0.0f, mixed = 0.0f;
    for (int i = 0; i < used; i++) largest = fmaxf(largest, shares[(head * count + i) * (dim + 1) + dim]);
    for (int i = 0; i < used; i++) {
        const float *share = shares + (head * count + i) * (dim + 1);
        float weight = __expf(share[dim] - largest);
        sum += weight;
        mixed += share[column] * weight;
    }
    out[head * dim + column] = to_bf16(mixed / sum);
}

// Philox 4x32-10 (Salmon et al. 2011): four random words that are a function of a counter and a key, nothing else.
__device__ inline uint4 philox(uint4 counter, unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; round++) {
        unsigned long long a = 0xD2511F53ull * counter.x, b = 0xCD9E8D57ull * counter.z;
        counter = make_uint4((unsigned)(b >> 32) ^ counter.y ^ key0, (unsigned)b, (unsigned)(a >> 32) ^ counter.w ^ key1,
                             (unsigned)a);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// What a slot is doing; the host writes it when a sequence enters.
struct Slot {
    unsigned sequence;  // number of its prompt: its random stream
    unsigned drawn;     // tokens drawn so far
    unsigned budget;    // tokens it may still draw
    unsigned fresh;     // tokens drawn since the host last looked
};

// How tokens are drawn. It lies in device memory too, so that a recorded step serves other settings.
struct Drawing {
    float inverse_temperature;  // 0 takes the most probable token
    float top_p;
    unsigned top_k;             // 0 for all
    unsigned seed_low, seed_high;
    unsigned stop_count;
};

// Of two candidates the one with the smaller key, and at equal keys the smaller token.
__device__ inline void take_better(float &key, unsigned &token, float other_key, unsigned other_token) {
    if (other_key < key || (other_key == key && other_token < token)) key = other_key, token = other_token;
}

// The token of the smallest key in the block.
__device__ inline unsigned block_argmin(float key, unsigned token, float *keys, unsigned *tokens) {
    for (int distance = 16; distance > 0; distance /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, key, distance);
        unsigned other_token = __float_as_uint(__shfl_xor_sync(0xffffffffu, __uint_as_float(token), distance));
        take_better(key, token, other, other_token);
    }
    if (threadIdx.x % 32 == 0) keys[threadIdx.x / 32] = key, tokens[threadIdx.x / 32] = token;
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / 32; i++) take_better(key, token, keys[i], tokens[i]);
    __syncthreads();
    return token;
}

// The weight from which on tokens may be drawn: the largest under which the tokens of at least that weight have together
// top_p of all, or are top_k. Positive floats are ordered like their bits, so 30 halvings of the bits find it.
__device__ inline float weight_floor(const float *row, int vocabulary, float top, float inverse, float total, const Drawing &how,
                                     float *scratch) {
    unsigned low = 0, high = 0x3f800001u;  // 0 admits all, the bits behind those of 1 admit none
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        float floor = __uint_as_float(middle), mass = 0.0f, count = 0.0f;
        for (int j = threadIdx.x; j < vocabulary; j += blockDim.x) {
            float weight = __expf((row[j] - top) * inverse);
            if (weight >= floor) mass += weight, count += 1.0f;
        }
        mass = block_sum(mass, scratch);
        count = block_sum(count, scratch);
        bool enough = (how.top_p < 1.0f && mass >= how.top_p * total) || (how.top_k && count >= (float)how.top_k);
        if (enough) low = middle;
        else high = middle;
    }
    return __uint_as_float(low);
}

// Draws a token for each live slot from its row of logits, and moves the slot on. A block a slot.
//
// With a random number u_j for every token, the token of the smallest -log(1 - u_j) / w_j is token j with probability
// w_j / Σ w: of many clocks with rates w_j, which rings first. No running sum is needed, so the result does not depend on
// how the row is shared among threads. u_j is a function of the seed, the sequence, the place in it and j alone.
//
// The log-probability is that of the whole distribution, whatever top-p and top-k leave of it.
extern "C" __global__ void draw(
    const float *logits, const Drawing *drawing, const unsigned *stop_tokens, Slot *slots, unsigned *ids, unsigned *lengths,
    unsigned *finished, unsigned *drawn_ids, float *drawn_logprobs, int vocabulary, int stride) {
    __shared__ float keys[32];
    __shared__ unsigned tokens[32];
    const int index = blockIdx.x;
    if (finished[index]) return;
    const float *row = logits + (long long)index * stride;
    const Slot slot = slots[index];
    const Drawing how = *drawing;
    const bool greedy = how.inverse_temperature == 0.0f;
    const float inverse = greedy ? 1.0f : how.inverse_temperature;
    float top = -INFINITY;
    for (int j = threadIdx.x; j < vocabulary; j += blockDim.x) top = fmaxf(top, row[j]);
    top = block_max(top, keys);
    float total = 0.0f;
    for (int j = threadIdx.x; j < vocabulary; j += blockDim.x) total += __expf((row[j] - top) * inverse);
    total = block_sum(total, keys);
    float floor = 0.0f;
    if (!greedy && (how.top_p < 1.0f || how.top_k)) floor = weight_floor(row, vocabulary, top, inverse, total, how, keys);

    float best = INFINITY;
    unsigned token = 0xffffffffu;
    for (int j = threadIdx.x * 4; j < vocabulary; j += blockDim.x * 4) {
        uint4 random = philox(make_uint4(j / 4, slot.drawn, slot.sequence, 0), how.seed_low, how.seed_high);
        const unsigned words[4] = {random.x, random.y, random.z, random.w};
        for (int i = 0; i < 4 && j + i < vocabulary; i++) {
            float weight = __expf((row[j + i] - top) * inverse);
            if (weight < floor || weight == 0.0f) continue;
            float time = -log1pf(-((float)words[i] + 0.5f) * 2.3283064e-10f);
            take_better(best, token, greedy ? -row[j + i] : time / weight, j + i);
        }
    }
    token = block_argmin(best, token, keys, tokens);
    if (threadIdx.x > 0) return;
    if (token >= (unsigned)vocabulary) token = 0;  // logits that are no numbers; the log-probability says so
    drawn_ids[slot.fresh * gridDim.x + index] = token;
    drawn_logprobs[slot.fresh * gridDim.x + index] = (row[token] - top) * inverse - logf(total);
    bool ended = slot.budget <= 1;
    for (unsigned i = 0; i < how.stop_count; i++) ended = ended || stop_tokens[i] == token;
    slots[index] = Slot{slot.sequence, slot.drawn + 1, slot.budget - 1, slot.fresh + 1};
    ids[index] = token;
    if (ended) finished[index] = 1;
    else lengths[index] += 1;
}
