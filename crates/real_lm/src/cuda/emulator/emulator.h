// A GPU on one CPU thread, exact enough to run the kernels of `kernels/` for the tests.
//
// Blocks run one after the other. Each thread of a block is a fiber: a stack of its own, switched by `_setjmp` and `_longjmp`.
// A fiber runs until it waits at a barrier of its block or warp; a warp is run until it waits for the others.
// What a warp does together (shuffles, `mma`, `ldmatrix`) is a barrier at which each lane leaves its operands and the last
// one to arrive does the work for all.
//
// To catch what a real GPU would not forgive, or would only punish now and then: allocations end at a page that may not be
// touched and begin as NaN; shared memory is NaN at the start of each block; misaligned access traps (compiled with
// -fsanitize=alignment); barriers that can never be passed abort; and warps run as far ahead of the others as they can, in
// ascending or descending order, as the test asks, so that a missing barrier shows as a wrong or a different result.
#define EMULATED

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(name) unsigned char *name = emulator::dynamic_shared

struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct Index { unsigned x, y, z; };

static Index threadIdx, blockIdx, blockDim, gridDim;

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }
static inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
#define __expf(x) expf(x)  // the C library has a name of its own like this
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }

namespace emulator {

constexpr int MOST_THREADS = 1024, STACK = 256 << 10, SHARED = 228 << 10;

struct Fiber {
    jmp_buf where;
    ucontext_t entry;
    bool started, ended;
};
struct Warp {
    void *operands[32][3];
    float floats[2][32];
    unsigned arrived, generation;
};

static Fiber fibers[MOST_THREADS];
static Warp warps[MOST_THREADS / 32];
static jmp_buf scheduler;
static int current, threads, live, waiting, generation;
static bool descending, progress;
alignas(256) static unsigned char dynamic_shared[SHARED];
static void (*kernel)(void **);
static void **arguments;

static void give_way() {
    if (_setjmp(fibers[current].where) == 0) _longjmp(scheduler, 1);
}

static void fiber_main() {
    for (;;) {
        kernel(arguments);
        fibers[current].ended = true;
        progress = true;
        live--;
        if (waiting > 0 && waiting == live) waiting = 0, generation++;
        give_way();
    }
}

// Runs or resumes one fiber until it waits or ends.
static void enter(int index) {
    current = index;
    threadIdx = Index{(unsigned)index, 0, 0};
    if (_setjmp(scheduler) != 0) return;
    Fiber &fiber = fibers[index];
    if (fiber.started) _longjmp(fiber.where, 1);
    fiber.started = true;
    getcontext(&fiber.entry);
    fiber.entry.uc_stack.ss_sp = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fiber.entry.uc_stack.ss_size = STACK;
    makecontext(&fiber.entry, fiber_main, 0);
    setcontext(&fiber.entry);
}

// Runs the fibers of one warp until all of them have ended or wait for other warps. Returns whether any got further.
static bool run_warp(int warp) {
    bool moved = false;
    do {
        progress = false;
        for (int i = 0; i < 32; i++) {
            int index = warp * 32 + (descending ? 31 - i : i);
            if (index < threads && !fibers[index].ended) enter(index);
        }
        moved = moved || progress;
    } while (progress);
    return moved;
}

// Each warp gets as far ahead of the others as barriers let it: what a missing one would let it spoil, it spoils.
static void run_block() {
    live = threads;
    waiting = 0;
    for (Warp &warp : warps) warp.arrived = 0;
    for (int i = 0; i < threads; i++) fibers[i].ended = false;
    int count = (threads + 31) / 32;
    while (live > 0) {
        bool moved = false;
        for (int i = 0; i < count; i++) moved = run_warp(descending ? count - 1 - i : i) || moved;
        if (!moved) fprintf(stderr, "the threads of a block wait for each other for ever\n"), abort();
    }
}

// All lanes meet; the last one does `work` before any goes on.
template <typename Work> static void meet(unsigned mask, Work work) {
    Warp &warp = warps[current / 32];
    if (mask != 0xffffffffu || threads % 32 != 0) fprintf(stderr, "part of a warp meets\n"), abort();
    progress = true;
    unsigned before = warp.generation;
    if (++warp.arrived == 32) {
        work();
        warp.arrived = 0;
        warp.generation++;
        return;
    }
    while (warp.generation == before) give_way();
}

static int lane() { return current % 32; }
static Warp &own_warp() { return warps[current / 32]; }

template <typename... A, size_t... I>
static void call(void (*f)(A...), void **arguments, std::index_sequence<I...>) {
    f(*(std::remove_reference_t<A> *)arguments[I]...);
}
template <typename... A> static void call(void (*f)(A...), void **arguments) {
    call(f, arguments, std::index_sequence_for<A...>{});
}

}  // namespace emulator

static inline void __syncthreads() {
    using namespace emulator;
    progress = true;
    int before = generation;
    if (++waiting == live) {
        waiting = 0;
        generation++;
        return;
    }
    while (generation == before) give_way();
}

static inline void __syncwarp() {
    emulator::meet(0xffffffffu, [] {});
}

// Two buffers in turn: who writes one again has met all others after they read it.
static inline float __shfl_xor_sync(unsigned mask, float x, int distance) {
    auto &warp = emulator::own_warp();
    float *floats = warp.floats[warp.generation % 2];
    floats[emulator::lane()] = x;
    int other = emulator::lane() ^ distance;
    emulator::meet(mask, [] {});
    return floats[other];
}

static inline unsigned pack(float low, float high) {
    auto round = [](float x) -> unsigned {
        unsigned bits = __float_as_uint(x);
        if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    };
    return round(low) | round(high) << 16;
}

static inline float bf16_of(unsigned pair, int which) {
    return __uint_as_float(which ? pair & 0xffff0000u : pair << 16);
}

static inline void mma(float c[4], const unsigned a[4], const unsigned b[2]) {
    auto &warp = emulator::own_warp();
    void **own = warp.operands[emulator::lane()];
    own[0] = c, own[1] = (void *)a, own[2] = (void *)b;
    emulator::meet(0xffffffffu, [&] {
        float A[16][16], B[16][8];
        for (int lane = 0; lane < 32; lane++) {
            const unsigned *a = (unsigned *)warp.operands[lane][1], *b = (unsigned *)warp.operands[lane][2];
            int g = lane / 4, t = lane % 4 * 2;
            for (int i = 0; i < 2; i++) {
                A[g][t + i] = bf16_of(a[0], i), A[g + 8][t + i] = bf16_of(a[1], i);
                A[g][t + 8 + i] = bf16_of(a[2], i), A[g + 8][t + 8 + i] = bf16_of(a[3], i);
                B[t + i][g] = bf16_of(b[0], i), B[t + 8 + i][g] = bf16_of(b[1], i);
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            float *c = (float *)warp.operands[lane][0];
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                for (int k = 0; k < 16; k++) c[i] += A[row][k] * B[k][column];
            }
        }
    });
}

template <bool TRANSPOSED> static void load_matrices(unsigned r[4], const unsigned short *row) {
    auto &warp = emulator::own_warp();
    if ((uintptr_t)row % 16 != 0) fprintf(stderr, "ldmatrix from a misaligned row\n"), abort();
    void **own = warp.operands[emulator::lane()];
    own[0] = r, own[1] = (void *)row;
    emulator::meet(0xffffffffu, [&] {
        for (int lane = 0; lane < 32; lane++)
            for (int j = 0; j < 4; j++) {
                auto at = [&](int row, int column) -> unsigned {
                    return ((unsigned short *)warp.operands[j * 8 + row][1])[column];
                };
                int g = lane / 4, t = lane % 4 * 2;
                ((unsigned *)warp.operands[lane][0])[j] =
                    TRANSPOSED ? at(t, g) | at(t + 1, g) << 16 : at(g, t) | at(g, t + 1) << 16;
            }
    });
}
static inline void ldmatrix(unsigned r[4], const unsigned short *row) { load_matrices<false>(r, row); }
static inline void ldmatrix_transposed(unsigned r[4], const unsigned short *row) { load_matrices<true>(r, row); }

extern "C" void emulator_launch(void (*kernel)(void **), const unsigned *grid, unsigned threads, unsigned shared,
                                void **arguments, int descending) {
    using namespace emulator;
    // There is one set of fibers and one shared memory.
    static std::mutex turn;
    std::lock_guard<std::mutex> guard(turn);
    if (threads > MOST_THREADS || shared > SHARED) fprintf(stderr, "a block too large\n"), abort();
    emulator::kernel = kernel;
    emulator::arguments = arguments;
    emulator::threads = threads;
    emulator::descending = descending;
    blockDim = Index{threads, 1, 1};
    gridDim = Index{grid[0], grid[1], grid[2]};
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = Index{x, y, z};
                memset(dynamic_shared, 0xff, shared);
                run_block();
            }
}

// Memory that ends, up to 15 bytes of alignment, at a page that may not be touched.
extern "C" void *emulator_allocate(size_t bytes) {
    size_t page = sysconf(_SC_PAGESIZE), rounded = (bytes + 15) / 16 * 16, body = (rounded + page - 1) / page * page;
    char *base = (char *)mmap(nullptr, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    mprotect(base + body, page, PROT_NONE);
    memset(base, 0xff, body);
    return base + body - rounded;
}

extern "C" void emulator_free(void *memory, size_t bytes) {
    size_t page = sysconf(_SC_PAGESIZE), rounded = (bytes + 15) / 16 * 16, body = (rounded + page - 1) / page * page;
    munmap((char *)memory + rounded - body, body + page);
}

// The product of matrices in row-major order, as `Gemm` of the host describes it; bf16 operands, f32 sums.
extern "C" void emulator_gemm(const unsigned short *a, const unsigned short *b, void *c, const long *sizes, const int *flags,
                              float alpha, float beta) {
    long m = sizes[0], n = sizes[1], k = sizes[2], lda = sizes[3], ldb = sizes[4], ldc = sizes[5];
    auto value = [](unsigned short x) { return __uint_as_float((unsigned)x << 16); };
    float *sums = (float *)malloc(n * sizeof(float));
    for (long i = 0; i < m; i++) {
        memset(sums, 0, n * sizeof(float));
        for (long l = 0; l < k; l++) {
            float x = value(flags[0] ? a[l * lda + i] : a[i * lda + l]);
            if (flags[1])
                for (long j = 0; j < n; j++) sums[j] += x * value(b[j * ldb + l]);
            else
                for (long j = 0; j < n; j++) sums[j] += x * value(b[l * ldb + j]);
        }
        for (long j = 0; j < n; j++) {
            if (flags[2]) {
                float *out = (float *)c + i * ldc + j;
                *out = alpha * sums[j] + (beta == 0.0f ? 0.0f : beta * *out);
            } else {
                unsigned short *out = (unsigned short *)c + i * ldc + j;
                *out = (unsigned short)pack(alpha * sums[j] + (beta == 0.0f ? 0.0f : beta * value(*out)), 0.0f);
            }
        }
    }
    free(sums);
}
