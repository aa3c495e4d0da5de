// What all kernels build on: bf16 numbers, accesses of 16 bytes, sums over a warp or a block, and the tensor cores.
//
// A bf16 number is the upper half of an f32: the same range, 8 significant bits. Kernels keep it as an unsigned short and
// compute in f32, so nothing but this file needs to know the hardware's type, and no CUDA header is needed to compile.
//
// The same text is compiled twice: by NVRTC for a GPU, and for the tests by a C++ compiler, where a small header gives each
// thread of a block a stack of its own and defines `threadIdx`, `__syncthreads`, the shuffles, `mma` and `ldmatrix`.

typedef unsigned short bf16;

// Rows in shared memory are this many elements longer than their data, so that the eight rows that one `ldmatrix` reads, or
// one column of threads, lie in different banks.
constexpr int PAD = 8;

__device__ inline float to_float(bf16 x) { return __uint_as_float((unsigned)x << 16); }

#ifndef EMULATED

#define INFINITY __int_as_float(0x7f800000)

// Two numbers rounded to nearest even, `low` in the lower half.
__device__ inline unsigned pack(float low, float high) {
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

// C [16, 8] += A [16, 16] B [16, 8] by one warp. With g = lane / 4 and t = lane % 4, a lane holds of A the pairs of columns
// (2t, 2t + 1) and (2t + 8, 2t + 9) of rows g and g + 8, as a = {(g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8)}; of B the
// pairs of rows 2t and 2t + 8 of column g; and of C the columns 2t and 2t + 1 of row g, then of row g + 8.
__device__ inline void mma(float c[4], const unsigned a[4], const unsigned b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Reads four 8 by 8 matrices from shared memory. Lane i gives the address of row i % 8 of matrix i / 8, and gets of matrix j
// the elements (lane / 4, 2 (lane % 4)) and the one to its right in r[j].
__device__ inline void ldmatrix(unsigned r[4], const bf16 *row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// The same with each matrix transposed on the way.
__device__ inline void ldmatrix_transposed(unsigned r[4], const bf16 *row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

#endif

__device__ inline bf16 to_bf16(float x) { return (bf16)pack(x, 0.0f); }

// Eight neighbours as floats. All rows of the model start at multiples of eight elements.
struct Eight {
    float x[8];
};

__device__ inline Eight load_eight(const bf16 *source) {
    uint4 raw = *reinterpret_cast<const uint4 *>(source);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    Eight out;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out.x[2 * i] = __uint_as_float(words[i] << 16);
        out.x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    return out;
}

__device__ inline Eight load_eight(const float *source) {
    const float4 *quads = reinterpret_cast<const float4 *>(source);
    float4 low = quads[0], high = quads[1];
    return Eight{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

__device__ inline void store_eight(bf16 *target, const Eight &value) {
    const float *x = value.x;
    *reinterpret_cast<uint4 *>(target) =
        make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7]));
}

__device__ inline void store_eight(float *target, const Eight &value) {
    const float *x = value.x;
    float4 *quads = reinterpret_cast<float4 *>(target);
    quads[0] = make_float4(x[0], x[1], x[2], x[3]);
    quads[1] = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ inline float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

// The sum over a block, the same bits in every thread. `scratch` holds 32 numbers and may be used again at once.
__device__ inline float block_sum(float x, float *scratch) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? scratch[lane] : 0.0f);
    __syncthreads();
    return x;
}

__device__ inline float block_max(float x, float *scratch) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_max(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = warp_max(lane < warps ? scratch[lane] : -INFINITY);
    __syncthreads();
    return x;
}
