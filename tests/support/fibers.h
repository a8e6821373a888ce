// What the CUDA C++ of regions needs to run on a CPU. Threads of a block are fibers that take turns at
// barriers and shuffles; blocks run one after the other, so that `static` serves as shared memory.
#include <cmath>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct Place { unsigned x, y, z; };
static Place threadIdx, blockIdx;

template <typename To, typename From> static To bits(From x) {
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static float __int_as_float(int x) { return bits<float>(x); }
static int __float_as_int(float x) { return bits<int>(x); }
static double __longlong_as_double(long long x) { return bits<double>(x); }
static long long __double_as_longlong(double x) { return bits<long long>(x); }
static float __fadd_rn(float x, float y) { return x + y; }
static float __fsub_rn(float x, float y) { return x - y; }
static float __fmul_rn(float x, float y) { return x * y; }
static float __fdiv_rn(float x, float y) { return x / y; }
static float __frcp_rn(float x) { return 1.0f / x; }
static float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static float __fsqrt_rn(float x) { return sqrtf(x); }
static double __dadd_rn(double x, double y) { return x + y; }
static double __dsub_rn(double x, double y) { return x - y; }
static double __dmul_rn(double x, double y) { return x * y; }
static double __ddiv_rn(double x, double y) { return x / y; }
static double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
static double __dsqrt_rn(double x) { return sqrt(x); }

// Instead of the functions of base.cuh and region.cuh that are one instruction of PTX.
static void tw_fail(int *status, int code) { if (code > *status) *status = code; }
static float tw_from_f16(unsigned short x) { return (float)bits<_Float16>(x); }
static unsigned short tw_to_f16(float x) { return bits<unsigned short>((_Float16)x); }
static unsigned short tw_to_bf16(float x) {
    unsigned y = bits<unsigned>(x);
    return x != x ? 0x7fff : (y + 0x7fff + (y >> 16 & 1)) >> 16;
}
static float tw_greater(float x, float y) { return x != x || y != y ? NAN : x > y ? x : y; }
static float tw_lesser(float x, float y) { return x != x || y != y ? NAN : x < y ? x : y; }
static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
static float tw_exp2(float x) { return flushed(exp2f(x)); }
static float tw_reciprocal(float x) { return flushed(1.0f / x); }

static ucontext_t outside;
static std::vector<ucontext_t> fibers;
static std::vector<std::vector<char>> stacks;
static std::vector<char> ended;
static long long exchanged[1024];
static int current;

static void yield() { swapcontext(&fibers[current], &outside); }
static void __syncthreads() { yield(); }
template <typename T> static T from_fiber(T value, int source) {
    memcpy(&exchanged[current], &value, sizeof value);
    yield();
    T found;
    memcpy(&found, &exchanged[source], sizeof found);
    yield();
    return found;
}
template <typename T> static T __shfl_xor_sync(unsigned, T x, int mask, int) {
    return from_fiber(x, current ^ mask);
}
template <typename T> static T __shfl_down_sync(unsigned, T x, int by, int width) {
    bool inside = current % width + by < width;
    return from_fiber(x, inside ? current + by : current);
}
template <typename T> static T __shfl_sync(unsigned, T x, int lane, int width) {
    return from_fiber(x, current / width * width + lane);
}

// All `blocks` of x * y threads; `entry` ends with finish().
static void finish() {
    ended[current] = 1;
    yield();
}
static void run_blocks(void (*entry)(), long long blocks, int x, int y) {
    int threads = x * y;
    fibers.resize(threads);
    ended.resize(threads);
    stacks.resize(threads, std::vector<char>(1 << 15));
    for (long long block = 0; block < blocks; block++) {
        blockIdx = {(unsigned)block, 0, 0};
        for (int t = 0; t < threads; t++) {
            getcontext(&fibers[t]);
            fibers[t].uc_stack.ss_sp = stacks[t].data();
            fibers[t].uc_stack.ss_size = stacks[t].size();
            fibers[t].uc_link = &outside;
            ended[t] = 0;
            makecontext(&fibers[t], entry, 0);
        }
        for (int left = threads; left;) {
            left = 0;
            for (int t = 0; t < threads; t++) {
                if (ended[t]) continue;
                current = t;
                threadIdx = {(unsigned)(t % x), (unsigned)(t / x), 0};
                swapcontext(&outside, &fibers[t]);
                left += !ended[t];
            }
        }
    }
}
