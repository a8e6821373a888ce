// What the CUDA C++ of kernels with tensor cores needs to run on a CPU.
//
// Threads are fibers. A warp that waits does so until its condition holds, warps are taken in random
// order, so that they drift apart as far as barriers let them; a state in which nobody can go on is
// reported with what everybody waits for. Copies of the tensor memory accelerator and products of
// warp groups happen as early as they may, as late as they may, or at random times: whoever reads or
// overwrites what he does not own yet gets other numbers in one of these orders.
#include "device_numbers.h"
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#define __align__(n) alignas(n)
#define __grid_constant__

struct int2 { int x, y; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
static int2 make_int2(int x, int y) { return {x, y}; }
static float2 make_float2(float x, float y) { return {x, y}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static unsigned tw_to_bf16x2(float low, float high) {
    return (unsigned)tw_to_bf16(high) << 16 | tw_to_bf16(low);
}
static unsigned tw_to_f16x2(float low, float high) {
    return (unsigned)tw_to_f16(high) << 16 | tw_to_f16(low);
}
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static Place gridDim, blockDim;

static float __uint_as_float(unsigned x) { return bits<float>(x); }
static unsigned __float_as_uint(float x) { return bits<unsigned>(x); }
static float __fdividef(float x, float y) { return x / y; }
template <class A, class B> static auto min(A a, B b) {
    using C = typename std::common_type<A, B>::type;
    return (C)a < (C)b ? (C)a : (C)b;
}
template <class A, class B> static auto max(A a, B b) {
    using C = typename std::common_type<A, B>::type;
    return (C)a > (C)b ? (C)a : (C)b;
}
static unsigned __byte_perm(unsigned x, unsigned y, unsigned how) {
    unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned found = 0;
    for (int i = 0; i < 4; i++) found |= (unsigned)(both >> 8 * (how >> 4 * i & 7) & 255) << 8 * i;
    return found;
}

// Stacks.
extern "C" void tw_switch(void **from, void *to);
asm(R"(
.text
.hidden tw_switch
.globl tw_switch
tw_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

enum When { EARLY, LATE, ANY };
static When when;
static std::uint64_t state;
static unsigned chance(unsigned of) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % of;
}

// How a host describes a tensor map: cuTensorMapEncodeTiled's arguments.
struct alignas(64) TensorMap {
    unsigned long long base, dims[5], strides[4], box, swizzle, bytes, rank, rest[2];
    unsigned size(int i) const { return box >> 12 * i & 0xfff; }
};

struct Barrier { int arrived = 0; unsigned turn = 0; };
struct Phase { int count, pending; long long bytes; unsigned turn; };
struct Copy { unsigned to, bar; const TensorMap *map; int at[5]; };
struct Block {
    Place place;
    std::vector<char> memory;
    char *shared;
    long long size;
    int live, rank;
    Barrier all, named[16];
    std::map<unsigned, Phase> phases;
    std::vector<Copy> copies;
};
struct Slot { char bytes[64]; };
struct Warp {
    int arrived = 0;
    unsigned turn = 0;
    const char *what;
    Slot slots[2][32];
    long long stuck = -1;
};
struct Product {
    float *d;
    const unsigned *a[4];
    unsigned long long left, right;
    int keep, columns;
    bool sparse;
    unsigned places[2];
};
struct Fiber {
    void *stack = nullptr;
    char *memory;
    Block *block;
    Warp *warp;
    int thread;
    bool ended;
    const char *waits;
    std::deque<Product> products;
    std::deque<int> groups;
    int open;
    unsigned seen;
};

static void *scheduler;
static Fiber *me;
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static std::vector<Block> blocks;
static Barrier together;
static long long progress;
static std::string failure;
static char *block_shared;

static void yield() { tw_switch(&me->stack, scheduler); }
static void fail(const std::string &text) {
    if (failure.empty()) {
        char where[96];
        const Place at = me ? me->block->place : Place{0, 0, 0};
        snprintf(where, sizeof where, " (block %u %u, thread %d)", at.x, at.y, me ? me->thread : -1);
        failure = text + where;
    }
    while (me) yield();
}
template <class F> static void await(const char *what, F ready) {
    me->waits = what;
    while (!ready()) yield();
    progress++;
    me->waits = nullptr;
}

// All lanes of a warp bring something; where it lies then.
template <class T> static const Slot *gather(const char *what, const T &mine) {
    static_assert(sizeof(T) <= sizeof(Slot), "");
    Warp &w = *me->warp;
    const unsigned turn = w.turn;
    if (w.arrived == 0) w.what = what;
    if (w.what != what && std::string(w.what) != what)
        fail(std::string("lanes of a warp are at ") + w.what + " and at " + what);
    memcpy(w.slots[turn & 1][me->thread % 32].bytes, &mine, sizeof mine);
    progress++;
    if (++w.arrived == 32) w.arrived = 0, w.turn++;
    else await(what, [&] { return w.turn != turn; });
    return w.slots[turn & 1];
}
template <class T> static T of(const Slot *slots, int lane) {
    T x;
    memcpy(&x, slots[lane].bytes, sizeof x);
    return x;
}
static void __syncwarp(unsigned = ~0u) { gather("__syncwarp", 0); }
template <class T> static T __shfl_xor_sync(unsigned, T x, int mask) {
    return of<T>(gather("__shfl_xor_sync", x), me->thread % 32 ^ mask);
}
template <class T> static T __shfl_sync(unsigned, T x, int lane) {
    return of<T>(gather("__shfl_sync", x), lane);
}
static int __reduce_min_sync(unsigned, int x) {
    const Slot *all = gather("__reduce_min_sync", x);
    for (int i = 0; i < 32; i++) x = std::min(x, of<int>(all, i));
    return x;
}
static void arrive(Barrier &b, int count) {
    progress++;
    if (++b.arrived == count) b.arrived = 0, b.turn++;
}
static void __syncthreads() {
    Barrier &b = me->block->all;
    const unsigned turn = b.turn;
    b.arrived++, progress++;
    await("__syncthreads", [&] {
        if (b.turn == turn && b.arrived == me->block->live) b.arrived = 0, b.turn++;
        return b.turn != turn;
    });
}
static void named_arrive(int id, int count) {
    gather("bar.arrive", id);
    arrive(me->block->named[id], count);
}
static void named_sync(int id, int count) {
    gather("bar.sync", id);
    Barrier &b = me->block->named[id];
    const unsigned turn = b.turn;
    arrive(b, count);
    await("bar.sync", [&] { return b.turn != turn; });
}
static void cluster_arrive() {
    me->seen = together.turn;
    together.arrived++, progress++;
}
static void cluster_wait() {
    const unsigned turn = me->seen;
    await("cluster_sync", [&] {
        int live = 0;
        for (const Block &b : blocks) live += b.live;
        if (together.turn == turn && together.arrived == live) together.arrived = 0, together.turn++;
        return together.turn != turn;
    });
}
static void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
static void cluster_leave() { cluster_sync(); }
static unsigned cluster_rank() { return me->block->rank; }
static void launch_wait() {}

// Addresses in shared memory begin at 16, so that nothing is aligned by chance.
static const unsigned FIRST = 16;
static unsigned shared_address(const void *p) {
    return (unsigned)((const char *)p - me->block->shared) + FIRST;
}
static char *shared_at(Block &block, long long address, int bytes) {
    if (address < FIRST || address + bytes > FIRST + block.size) {
        char text[96];
        snprintf(text, sizeof text, "%d bytes at %lld of %lld of shared memory", bytes,
                 address - FIRST, block.size);
        fail(text);
    }
    return block.shared + address - FIRST;
}
static float there(unsigned address, int rank) {
    float x;
    memcpy(&x, shared_at(blocks[rank], address, 4), 4);
    return x;
}
// Of another block of the cluster, which must not have ended.
static char *there_at(unsigned address, unsigned rank, int bytes) {
    if (!blocks[rank].live) fail("shared memory of a block that has ended");
    return shared_at(blocks[rank], address, bytes);
}
static float4 load_from(unsigned address, unsigned rank) {
    return *(float4 *)there_at(address, rank, 16);
}
static void store_to(unsigned address, unsigned rank, float2 v) {
    memcpy(there_at(address, rank, 8), &v, 8);
}

// Barriers in shared memory.
static Phase &phase_at(Block &block, unsigned bar) {
    const auto found = block.phases.find(bar);
    if (found == block.phases.end()) fail("a barrier that was not initialized");
    return found->second;
}
static void complete(Phase &p) {
    progress++;
    // Another block's copy may come before this one expects it.
    if (p.pending < 0 || (p.bytes < 0 && p.pending == 0)) fail("more arrivals at a barrier than it counts");
    if (p.pending == 0 && p.bytes == 0) p.turn ^= 1, p.pending = p.count;
}
static void barrier_init(unsigned bar, unsigned count) {
    shared_at(*me->block, bar, 8);
    if (bar % 8) fail("a barrier that is not aligned");
    me->block->phases[bar] = {(int)count, (int)count, 0, 0};
}
static void barrier_publish() {}
static void barrier_expect(unsigned bar, unsigned bytes) {
    Phase &p = phase_at(*me->block, bar);
    p.bytes += bytes, p.pending--;
    complete(p);
}
static void barrier_arrive(unsigned bar) {
    Phase &p = phase_at(*me->block, bar);
    p.pending--;
    complete(p);
}
static void barrier_arrive_at(unsigned bar, unsigned rank) {
    Phase &p = phase_at(blocks[rank], bar);
    p.pending--;
    complete(p);
}
static void barrier_wait(unsigned bar, unsigned parity) {
    Phase &p = phase_at(*me->block, bar);
    await("mbarrier", [&] { return p.turn != (parity & 1); });
}

static unsigned swizzled(unsigned address, int kind) {
    const unsigned mask = kind == 1 ? 7 : kind == 2 ? 3 : kind == 3 ? 1 : 0;
    return address ^ (address >> 7 & mask) << 4;
}
static void perform(Block &block, const Copy &copy) {
    const TensorMap &m = *copy.map;
    const int kind = m.swizzle == 128 ? 1 : m.swizzle == 64 ? 2 : m.swizzle == 32 ? 3 : 0;
    unsigned sizes[5] = {1, 1, 1, 1, 1}, total = (unsigned)m.bytes;
    for (int i = 0; i < (int)m.rank; i++) total *= sizes[i] = m.size(i);
    if (copy.to % 128) fail("a copy to a place that is not aligned");
    for (unsigned n = 0; n < total / m.bytes; n++) {
        unsigned rest = n;
        bool inside = true;
        long long from = 0;
        for (int i = 0; i < (int)m.rank; i++) {
            const long long at = copy.at[i] + (long long)(rest % sizes[i]);
            rest /= sizes[i];
            inside = inside && at >= 0 && at < (long long)m.dims[i];
            from += at * (i ? (long long)m.strides[i - 1] : (long long)m.bytes);
        }
        char *to = shared_at(block, swizzled(copy.to + n * (unsigned)m.bytes, kind), (int)m.bytes);
        if (inside) memcpy(to, (const char *)m.base + from, m.bytes);
        else memset(to, 0, m.bytes);
    }
    Phase &p = phase_at(block, copy.bar);
    p.bytes -= total;
    complete(p);
}
static void load(Block &block, const Copy &copy) {
    if (when == EARLY || (when == ANY && chance(2))) perform(block, copy);
    else block.copies.push_back(copy);
}
static void load_tile(unsigned to, const TensorMap *map, unsigned bar, int x, int y, int z, int w) {
    load(*me->block, {to, bar, map, {x, y, z, w}});
}
static void load_box(unsigned to, const TensorMap *map, unsigned bar, int x, int y) {
    load_tile(to, map, bar, x, y, 0, 0);
}
static void load_box(unsigned to, const TensorMap *map, unsigned bar, int x, int y, int z) {
    load_tile(to, map, bar, x, y, z, 0);
}
static void load_box_to(unsigned short which, unsigned to, const TensorMap *map, unsigned bar, int x,
                        int y) {
    for (size_t i = 0; i < blocks.size(); i++)
        if (which >> i & 1) load(blocks[i], {to, bar, map, {x, y}});
}
static void load_box_to(unsigned short which, unsigned to, const TensorMap *map, unsigned bar, int x,
                        int y, int z) {
    for (size_t i = 0; i < blocks.size(); i++)
        if (which >> i & 1) load(blocks[i], {to, bar, map, {x, y, z}});
}
static void map_prefetch(const TensorMap *) {}
template <int> static void registers_fewer() {}
template <int> static void registers_more() {}

// Tensor cores: products are exact, cut off below the 26th bit of the largest, added, and the sum is
// cut off to f32.
__attribute__((optimize("O2")))
static float tensor_sum(float c, const float *a, const float *b, int n) {
    double terms[17], most = fabs((double)c);
    for (int i = 0; i < n; i++) {
        terms[i] = (double)a[i] * b[i];
        most = std::max(most, fabs(terms[i]));
        if (!(fabs(terms[i]) < INFINITY)) most = INFINITY;
    }
    if (!(most < INFINITY) || c != c) {
        double sum = c;
        for (int i = 0; i < n; i++) sum += terms[i];
        return (float)sum;
    }
    if (most == 0) return 0.0f;
    const int above = std::ilogb(most);
    const double step = ldexp(1.0, above - 25), inverse = ldexp(1.0, 25 - above);
    long long total = (long long)(c * inverse);
    for (int i = 0; i < n; i++) total += (long long)(terms[i] * inverse);
    const double sum = total * step;
    float found = (float)sum;
    if (fabs((double)found) > fabs(sum)) found = nextafterf(found, 0.0f);
    return found;
}
static float bf16(unsigned both, int which) {
    return bits<float>(which ? both & 0xffff0000u : both << 16);
}
struct Fragment { unsigned a[4], b[2]; };
static void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const Slot *all = gather("mma bf16", Fragment{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int g = me->thread % 32 / 4, c = me->thread % 4;
    for (int i = 0; i < 4; i++) {
        float x[16], y[16];
        for (int k = 0; k < 16; k++) {
            const Fragment left = of<Fragment>(all, g * 4 + k % 8 / 2);
            const Fragment right = of<Fragment>(all, (2 * c + i % 2) * 4 + k % 8 / 2);
            x[k] = bf16(left.a[i / 2 + k / 8 * 2], k % 2), y[k] = bf16(right.b[k / 8], k % 2);
        }
        d[i] = tensor_sum(d[i], x, y, 16);
    }
}
static void mma_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const Slot *all = gather("mma tf32", Fragment{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int g = me->thread % 32 / 4, c = me->thread % 4;
    for (int i = 0; i < 4; i++) {
        float x[8], y[8];
        for (int k = 0; k < 8; k++) {
            const Fragment left = of<Fragment>(all, g * 4 + k % 4);
            const Fragment right = of<Fragment>(all, (2 * c + i % 2) * 4 + k % 4);
            x[k] = bits<float>(left.a[i / 2 + k / 4 * 2] & 0xffffe000u);
            y[k] = bits<float>(right.b[k / 4] & 0xffffe000u);
        }
        d[i] = tensor_sum(d[i], x, y, 8);
    }
}

// Products of warp groups. Descriptors: address, strides and pattern, see the PTX manual.
static float element(unsigned long long tile, int outer, int inner, bool transposed) {
    const int kind = (int)(tile >> 62), pitch = kind == 1 ? 128 : kind == 2 ? 64 : 32;
    const unsigned first = (unsigned)(tile & 0x3fff) << 4, lead = (unsigned)(tile >> 16 & 0x3fff) << 4,
                   stride = (unsigned)(tile >> 32 & 0x3fff) << 4;
    unsigned at = first;
    if (transposed) {  // outer: what is summed over, inner: the columns
        const int wide = pitch / 2;
        at += inner / wide * lead + outer / 8 * stride + outer % 8 * pitch + inner % wide * 2;
    } else {
        at += outer / 8 * stride + outer % 8 * pitch + inner * 2;
    }
    unsigned short x;
    memcpy(&x, shared_at(*me->block, swizzled(at, kind), 2), 2);
    return bits<float>((unsigned)x << 16);
}
// Of every four k of the left side two are stored; words of the two lanes of a quad say which.
static void perform_sparse(const Product &p) {
    const int warp = me->thread / 32 % 4, g = me->thread % 32 / 4, c = me->thread % 4;
    for (int h = 0; h < 2; h++) {
        float left[16], right[16];
        int place[16];
        for (int k = 0; k < 16; k++) {
            left[k] = element(p.left, warp * 16 + g + 8 * h, k, false);
            place[k] = k / 2 * 4 + (p.places[k / 8] >> (16 * h + k % 8 * 2) & 3);
        }
        for (int k = 0; k < 16; k += 2)
            if (place[k] >= place[k + 1]) fail("places of a group that do not rise");
        for (int t = 0; t < p.columns / 8; t++)
            for (int e = 0; e < 2; e++) {
                for (int k = 0; k < 16; k++)
                    right[k] = element(p.right, 8 * t + 2 * c + e, place[k], false);
                float &d = p.d[4 * t + 2 * h + e];
                d = tensor_sum(p.keep ? d : 0.0f, left, right, 16);
            }
    }
}
static void perform(const Product &p) {
    if (p.sparse) return perform_sparse(p);
    const int warp = me->thread / 32 % 4, g = me->thread % 32 / 4, c = me->thread % 4;
    const bool registers = p.a[0] != nullptr;
    float left[2][16], right[16];
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 16; k++)
            left[h][k] = registers ? bf16(p.a[k % 8 / 2][h + k / 8 * 2], k % 2)
                                   : element(p.left, warp * 16 + g + 8 * h, k, false);
    for (int t = 0; t < p.columns / 8; t++)
        for (int e = 0; e < 2; e++) {
            const int column = 8 * t + 2 * c + e;
            for (int k = 0; k < 16; k++)
                right[k] = registers ? element(p.right, k, column, true)
                                     : element(p.right, column, k, false);
            for (int h = 0; h < 2; h++) {
                float &d = p.d[4 * t + 2 * h + e];
                d = tensor_sum(p.keep ? d : 0.0f, left[h], right, 16);
            }
        }
}
static void first_products(int count) {
    for (; count > 0; count--) {
        perform(me->products.front());
        me->products.pop_front();
        if (me->groups.empty()) me->open--;
        else if (--me->groups.front() == 0) me->groups.pop_front();
    }
}
static void issue(const Product &p) {
    me->products.push_back(p);
    me->open++;
    if (when == EARLY || (when == ANY && !chance(3))) {
        // All before it come first; what is not committed counts as a group of its own.
        if (me->open) me->groups.push_back(me->open), me->open = 0;
        first_products((int)me->products.size());
    }
}
static void multiply_begin() { gather("wgmma.fence", 0); }
static void multiply_commit() {
    gather("wgmma.commit_group", 0);
    if (me->open) me->groups.push_back(me->open), me->open = 0;
}
template <int N> static void multiply_wait() {
    while ((int)me->groups.size() > N) first_products(me->groups.front());
    gather("wgmma.wait_group", 0);
}
template <int N>
static void scores(float (&d)[N], unsigned long long a, unsigned long long b, int keep) {
    gather("wgmma", N);
    issue({d, {nullptr, nullptr, nullptr, nullptr}, a, b, keep, 2 * N});
}
template <int N>
static void multiply(float (&d)[N], unsigned long long a, unsigned long long b, int keep) {
    scores(d, a, b, keep);
}
template <int N>
static void values(float (&d)[N], const unsigned (&a)[4], unsigned long long b, int keep) {
    const Slot *all = gather("wgmma", (const unsigned *)a);
    Product p = {d, {}, 0, b, keep, 2 * N};
    for (int i = 0; i < 4; i++) p.a[i] = of<const unsigned *>(all, me->thread % 32 / 4 * 4 + i);
    issue(p);
}
template <int selector, int N>
static void multiply_sparse(float (&d)[N], unsigned long long a, unsigned long long b, unsigned places,
                            int keep) {
    const Slot *all = gather("wgmma.sp", places);
    Product p = {d, {}, a, b, keep, 2 * N, true};
    for (int i = 0; i < 2; i++)
        p.places[i] = of<unsigned>(all, me->thread % 32 / 4 * 4 + 2 * selector + i);
    issue(p);
}
template <int N> static void settled(float (&)[N]) {}
static void turn_await(int group) { named_sync(1 + group, 256); }
static void turn_pass(int group) { named_arrive(1 + group, 256); }

// Instead of functions of one instruction.
static float ex2(float x) { return flushed(exp2f(flushed(x))); }
static unsigned pack(float low, float high) {
    return (unsigned)tw_to_bf16(high) << 16 | tw_to_bf16(low);
}
static unsigned nearest(float x) {
    const unsigned y = bits<unsigned>(x);
    if (x != x) return 0x7fffffffu;
    return (y & 0x7f800000u) == 0x7f800000u ? y : (y + 0x1000u) & 0xffffe000u;
}

static void (*entry)();
static void begin() {
    entry();
    if (!me->products.empty()) fail("products that nobody waited for");
    me->ended = true;
    me->block->live--;
    progress++;
    for (;;) yield();
}
static void resume(Fiber &f) {
    me = &f;
    threadIdx = {(unsigned)f.thread, 0, 0};
    blockIdx = f.block->place;
    block_shared = f.block->shared;
    tw_switch(&scheduler, f.stack);
    me = nullptr;
}
static bool deliver() {
    std::vector<std::pair<Block *, int>> waiting;
    for (Block &b : blocks)
        for (int i = 0; i < (int)b.copies.size(); i++) waiting.push_back({&b, i});
    if (waiting.empty()) return false;
    const auto chosen = waiting[chance((unsigned)waiting.size())];
    const Copy copy = chosen.first->copies[chosen.second];
    chosen.first->copies.erase(chosen.first->copies.begin() + chosen.second);
    perform(*chosen.first, copy);
    return true;
}
static void report() {
    std::map<std::string, int> all;
    for (const Fiber &f : fibers)
        if (!f.ended) all[f.waits ? f.waits : "?"]++;
    failure = "nobody can go on:";
    for (const auto &one : all) failure += " " + std::to_string(one.second) + " at " + one.first + ",";
    failure += " block " + std::to_string(blocks[0].place.x);
}
// The blocks of a cluster, or one.
static void run_together(int threads) {
    together = {};
    for (size_t i = 0; i < fibers.size(); i++) {
        Fiber &f = fibers[i];
        f.block = &blocks[i / threads], f.thread = (int)i % threads, f.warp = &warps[i / 32];
        f.ended = false, f.waits = nullptr, f.open = 0;
        f.products.clear(), f.groups.clear();
        void **top = (void **)(((std::uintptr_t)f.memory + (1 << 17)) / 64 * 64 - 64);
        *top = (void *)begin;
        f.stack = top - 6;
    }
    std::vector<int> live(warps.size());
    for (size_t i = 0; i < warps.size(); i++) warps[i] = Warp(), live[i] = (int)i;
    while (!live.empty() && failure.empty()) {
        if (when == ANY && !chance(16)) deliver();
        const int picked = chance((unsigned)live.size());
        const int w = live[picked];
        // A warp may be late: it then stays where it is for a while.
        if (warps[w].stuck == progress) {
            bool some = false;
            for (int i : live) some = some || warps[i].stuck != progress;
            if (!some && !deliver()) report();
            continue;
        }
        const long long before = progress;
        bool left = false;
        for (int i = 0; i < 32 && failure.empty(); i++) {
            Fiber &f = fibers[w * 32 + i];
            if (!f.ended) resume(f);
            left = left || !f.ended;
        }
        if (progress == before) warps[w].stuck = progress;
        if (!left) live.erase(live.begin() + picked);
    }
    for (const Block &b : blocks)
        if (failure.empty() && !b.copies.empty()) failure = "copies under way when a block ended";
}

// Runs a grid; the text of what went wrong, or nothing. `wide`, `high`: blocks of x and of y that form
// a cluster.
static const char *run_grid(void (*function)(), const int *grid, int wide, int high, int threads,
                            int shared, int order, int seed) {
    entry = function, when = (When)order, state = (std::uint64_t)seed * 2654435761u + 1;
    failure.clear(), progress = 0;
    blockDim = {(unsigned)threads, 1, 1};
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]};
    const int cluster = wide * high, count = cluster * threads, padding = 256;
    blocks.resize(cluster), warps.resize(count / 32);
    if (threads % 32) return "a block of part of a warp";
    while ((int)fibers.size() < count) fibers.emplace_back().memory = (char *)malloc(1 << 17);
    while ((int)fibers.size() > count) free(fibers.back().memory), fibers.pop_back();
    for (int x = 0; x < grid[0]; x += wide)
        for (int y = 0; y < grid[1]; y += high) {
            for (int i = 0; i < cluster; i++) {
                Block &b = blocks[i];
                b = Block();
                b.place = {(unsigned)(x + i % wide), (unsigned)(y + i / wide), 0};
                b.memory.assign(shared + 2 * padding, (char)0xff);
                b.shared = b.memory.data() + padding;
                b.shared += -(std::uintptr_t)b.shared % 16;
                b.size = shared, b.live = threads, b.rank = i;
            }
            run_together(threads);
            for (const Block &b : blocks)
                for (const char *p = b.shared + shared; p < b.memory.data() + b.memory.size(); p++)
                    if (failure.empty() && *p != (char)0xff) failure = "written behind shared memory";
            if (!failure.empty()) return failure.c_str();
        }
    return nullptr;
}
