// The part of NVIDIA's driver and of cuBLAS that `gpu.rs` calls, on the emulator: so that the calls themselves, their order and
// their arguments, are tested without a GPU. It is stricter than the real thing in what it looks at: a thread without a context,
// a kernel with more shared memory than it asked for, a copy while a graph is recorded are errors. Errors have the driver's numbers.

#include <map>
#include <string>
#include <vector>

namespace driver {

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_PERMITTED = 900 };

struct Kernel {
    const char *name;
    void (*run)(void **);
    std::vector<size_t> sizes;  // of the parameters
    size_t shared = 40 << 10;   // what a launch may ask for, with room for static arrays
};
struct Launch {
    Kernel *kernel;
    unsigned grid[3], threads, shared;
    std::vector<std::vector<unsigned char>> arguments;
};
struct Gemm {
    int transposed_a, transposed_b, m, n, k, a_stride, b_stride, c_stride, c_type;
    float alpha, beta;
    const unsigned short *a, *b;
    void *c;
};
struct Node {
    bool is_gemm;
    Launch launch;
    Gemm gemm;
};
typedef std::vector<Node> Graph;

static thread_local bool has_context;
static std::map<uint64_t, size_t> allocations;
static Graph *recording;
static int stream, context, module, handle;
static bool handle_has_stream, handle_has_workspace;

template <typename... A> static std::vector<size_t> sizes(void (*)(A...)) { return {sizeof(A)...}; }
static std::vector<Kernel> &kernels();

static void run(const Node &node) {
    if (!node.is_gemm) {
        const Launch &launch = node.launch;
        std::vector<void *> pointers;
        for (auto &argument : launch.arguments) pointers.push_back((void *)argument.data());
        emulator_launch(launch.kernel->run, launch.grid, launch.threads, launch.shared, pointers.data(), 0);
        return;
    }
    // Column-major, as cuBLAS has it: element (i, j) of C is c[i + j stride].
    const Gemm &g = node.gemm;
    auto value = [](unsigned short x) { return __uint_as_float((unsigned)x << 16); };
    for (int j = 0; j < g.n; j++)
        for (int i = 0; i < g.m; i++) {
            float sum = 0.0f;
            for (int l = 0; l < g.k; l++) {
                float a = value(g.transposed_a ? g.a[l + (long)i * g.a_stride] : g.a[i + (long)l * g.a_stride]);
                float b = value(g.transposed_b ? g.b[j + (long)l * g.b_stride] : g.b[l + (long)j * g.b_stride]);
                sum += a * b;
            }
            long at = i + (long)j * g.c_stride;
            if (g.c_type == 0) {
                float *c = (float *)g.c + at;
                *c = g.alpha * sum + (g.beta == 0.0f ? 0.0f : g.beta * *c);
            } else {
                unsigned short *c = (unsigned short *)g.c + at;
                *c = (unsigned short)pack(g.alpha * sum + (g.beta == 0.0f ? 0.0f : g.beta * value(*c)), 0.0f);
            }
        }
}

static int submit(Node node) {
    if (recording) recording->push_back(node);
    else run(node);
    return SUCCESS;
}

// What most calls look at first.
static int permitted() { return !has_context ? INVALID_CONTEXT : recording ? NOT_PERMITTED : SUCCESS; }

static int copy(void *target, const void *source, size_t bytes) {
    if (int status = permitted()) return status;
    memcpy(target, source, bytes);
    return SUCCESS;
}

}  // namespace driver

extern "C" {
using namespace driver;

int cuInit(unsigned) { return SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = 7, ordinal == 0 ? SUCCESS : INVALID_VALUE; }
int cuDeviceGetName(char *name, int length, int device) {
    return snprintf(name, length, "pretended GPU"), device == 7 ? SUCCESS : INVALID_VALUE;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
    static const std::map<int, int> values = {{75, 9}, {76, 0}, {16, 132}, {97, 232448}};
    if (!values.count(attribute)) return INVALID_VALUE;
    return *value = values.at(attribute), SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **out, int) { return *out = &context, SUCCESS; }
int cuCtxSetCurrent(void *given) { return has_context = given == &context, has_context ? SUCCESS : INVALID_CONTEXT; }
int cuStreamCreate(void **out, unsigned flags) {
    return *out = &stream, !has_context ? INVALID_CONTEXT : flags == 1 ? SUCCESS : INVALID_VALUE;
}
int cuStreamSynchronize(void *given) { return given == &stream ? permitted() : INVALID_VALUE; }
int cuStreamBeginCapture_v2(void *given, int mode) {
    if (given != &stream || mode != 2) return INVALID_VALUE;
    if (int status = permitted()) return status;
    return recording = new Graph, SUCCESS;
}
int cuStreamEndCapture(void *, void **graph) {
    *graph = recording;
    recording = nullptr;
    return *graph ? SUCCESS : INVALID_VALUE;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    return *executable = new Graph(*(Graph *)graph), flags == 0 ? SUCCESS : INVALID_VALUE;
}
int cuGraphDestroy(void *graph) { return delete (Graph *)graph, SUCCESS; }
int cuGraphExecDestroy(void *graph) { return delete (Graph *)graph, permitted(); }
int cuGraphLaunch(void *graph, void *given) {
    if (int status = given == &stream ? permitted() : INVALID_VALUE) return status;
    for (const Node &node : *(Graph *)graph) run(node);
    return SUCCESS;
}
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    if (int status = permitted()) return status;
    *address = (uint64_t)emulator_allocate(bytes);
    allocations[*address] = bytes;
    return SUCCESS;
}
int cuMemFree_v2(uint64_t address) {
    if (!allocations.count(address)) return INVALID_VALUE;
    emulator_free((void *)address, allocations[address]);
    allocations.erase(address);
    return SUCCESS;
}
int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = *total = (size_t)80 << 30, permitted(); }
int cuMemcpyHtoDAsync_v2(uint64_t target, const void *source, size_t bytes, void *given) {
    return given == &stream ? copy((void *)target, source, bytes) : INVALID_VALUE;
}
int cuMemcpyDtoHAsync_v2(void *target, uint64_t source, size_t bytes, void *given) {
    return given == &stream ? copy(target, (void *)source, bytes) : INVALID_VALUE;
}
int cuMemsetD8Async(uint64_t target, unsigned char value, size_t bytes, void *given) {
    if (int status = given == &stream ? permitted() : INVALID_VALUE) return status;
    memset((void *)target, value, bytes);
    return SUCCESS;
}
int cuModuleLoadData(void **out, const void *) { return *out = &module, has_context ? SUCCESS : INVALID_CONTEXT; }
int cuModuleGetFunction(void **function, void *given, const char *name) {
    for (Kernel &kernel : kernels())
        if (given == &module && !strcmp(kernel.name, name)) return *function = &kernel, SUCCESS;
    return NOT_FOUND;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    return ((Kernel *)function)->shared = value, attribute == 8 ? SUCCESS : INVALID_VALUE;
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y, unsigned threads_z,
                   unsigned shared, void *given, void **arguments, void **extra) {
    if (!has_context) return INVALID_CONTEXT;
    Kernel *kernel = (Kernel *)function;
    bool valid = given == &stream && !extra && threads_y == 1 && threads_z == 1 && threads >= 1 && threads <= 1024 &&
                 x >= 1 && y >= 1 && y <= 65535 && z >= 1 && z <= 65535 && shared <= kernel->shared;
    if (!valid) return INVALID_VALUE;
    Node node{};
    node.launch = Launch{kernel, {x, y, z}, threads, shared, {}};
    for (size_t i = 0; i < kernel->sizes.size(); i++) {
        auto *bytes = (unsigned char *)arguments[i];
        node.launch.arguments.emplace_back(bytes, bytes + kernel->sizes[i]);
    }
    return submit(node);
}
int cuGetErrorName(int status, const char **name) {
    return *name = status == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : nullptr, SUCCESS;
}

int cublasCreate_v2(void **out) { return *out = &handle, handle_has_stream = handle_has_workspace = false, 0; }
int cublasSetStream_v2(void *, void *given) {
    return handle_has_stream = given == &stream, handle_has_workspace = false, 0;
}
int cublasSetWorkspace_v2(void *, uint64_t workspace, size_t bytes) {
    return handle_has_workspace = allocations.count(workspace) && allocations[workspace] >= bytes, 0;
}
int cublasGemmEx(void *given, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int a_stride,
                 const void *b, int b_type, int b_stride, const void *beta, void *c, int c_type, int c_stride, int compute,
                 int algorithm) {
    // The leading dimensions must hold a column of what is stored.
    bool valid = given == &handle && handle_has_stream && handle_has_workspace && a_type == 14 && b_type == 14 &&
                 (c_type == 0 || c_type == 14) && compute == 68 && algorithm == -1 && a_stride >= (op_a ? k : m) &&
                 b_stride >= (op_b ? n : k) && c_stride >= m && has_context;
    if (!valid) return 7;
    Node node{};
    node.is_gemm = true;
    node.gemm = Gemm{op_a, op_b, m, n, k, a_stride, b_stride, c_stride, c_type, *(const float *)alpha, *(const float *)beta,
                     (const unsigned short *)a, (const unsigned short *)b, c};
    return submit(node);
}
}
