// What the CUDA C++ of regions needs to run on a CPU. Threads of a block are fibers that take turns at
// barriers and shuffles; blocks run one after the other, so that `static` serves as shared memory.
#include "device_numbers.h"
#include <ucontext.h>
#include <vector>

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

struct alignas(16) float4 { float x, y, z, w; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static unsigned tw_to_f16x2(float low, float high) {
    return tw_to_f16(low) | (unsigned)tw_to_f16(high) << 16;
}
static unsigned tw_to_bf16x2(float low, float high) {
    return tw_to_bf16(low) | (unsigned)tw_to_bf16(high) << 16;
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
