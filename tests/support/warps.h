// What CUDA C++ of products needs to run on a CPU: threads of the blocks of a cluster are fibers, which
// take turns where they meet (as warps, blocks or cluster); asynchronous copies happen as late as they
// may, or at once; mma is arithmetic over what the lanes of a warp hold.
#include "device_numbers.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <ucontext.h>
#include <vector>
using std::max;
using std::min;

#define __grid_constant__
struct alignas(16) float4 { float x, y, z, w; };
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static Place gridDim, blockDim;
static float __uint_as_float(unsigned x) { return bits<float>(x); }
static unsigned __float_as_uint(float x) { return bits<unsigned>(x); }
static unsigned __byte_perm(unsigned x, unsigned y, unsigned chosen) {
    unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned)(both >> 8 * (chosen >> 4 * i & 7) & 255) << 8 * i;
    return r;
}
static unsigned tw_to_bf16x2(float low, float high) {
    return (unsigned)tw_to_bf16(high) << 16 | tw_to_bf16(low);
}
static unsigned tw_to_f16x2(float low, float high) {
    return (unsigned)tw_to_f16(high) << 16 | tw_to_f16(low);
}

// And of epilogues.
static float epilogue_max(float x, float y) { return tw_greater(x, y); }
static float epilogue_min(float x, float y) { return tw_lesser(x, y); }
static float epilogue_half(unsigned short x) { return tw_from_f16(x); }

struct Meeting { int members = 0, there = 0; long long times = 0; };
struct Copy { char *to; const char *from; int bytes, room; };
struct Phase { int count, pending; long long bytes; Meeting turns; std::vector<Copy> copies; };
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool ended;
    Meeting *at;
    long long times;
    int thread, block;
    std::vector<std::vector<Copy>> groups;
};
static ucontext_t outside;
static std::vector<Fiber> fibers;
static std::vector<Meeting> warps, blocks;
static Meeting cluster;
static std::map<unsigned, Phase> phases;
static Fiber *now;
static bool late;

static void switch_out() { swapcontext(&now->context, &outside); }
static void meet(Meeting &m) {
    now->times = m.times;
    if (++m.there == m.members) {
        m.there = 0, m.times++;
        return;
    }
    now->at = &m;
    switch_out();
    now->at = nullptr;
}
static int lane_of() { return now->thread % 32; }
static Meeting &own_warp() {
    return warps[now->block * ((blockDim.x + 31) / 32) + now->thread / 32];
}
static void __syncwarp() { meet(own_warp()); }
static void __syncthreads() { meet(blocks[now->block]); }

// Shared memory of all blocks of a cluster, with bands between.
static constexpr int BAND = 4096;
static std::vector<char> arena;
static int each_shared;
static char *shared_of(int block) {
    return arena.data() + BAND + (size_t)block * (each_shared + BAND);
}
static char *own_shared() { return shared_of(now->block); }

// Operands of an instruction of a warp: two places in turn, so that lanes meet once.
template <typename T> static const T *exchange(const T &mine) {
    static std::vector<T> places[2];
    static std::vector<int> turns;
    const int warp = &own_warp() - warps.data();
    if (places[0].size() < warps.size() * 32)
        for (auto &p : places) p.resize(warps.size() * 32);
    if (turns.size() < fibers.size()) turns.resize(fibers.size());
    int &turn = turns[now - fibers.data()];
    T *all = places[turn ^= 1].data() + warp * 32;
    all[lane_of()] = mine;
    meet(own_warp());
    return all;
}
template <typename T> static T __shfl_xor_sync(unsigned, T x, int mask) {
    return exchange(x)[lane_of() ^ mask];
}
template <typename T> static T __shfl_up_sync(unsigned, T x, int by) {
    return exchange(x)[max(lane_of() - by, 0)];
}
template <typename T> static T __shfl_sync(unsigned, T x, int lane) { return exchange(x)[lane]; }
static int __popc(unsigned x) { return __builtin_popcount(x); }

static void launch_wait() {}

// Two numbers of E4M3FN, to nearest even, cut off at the greatest.
static unsigned char e4m3(float x) {
    if (x != x) return 0x7f;
    const float y = fabsf(x);
    int least = 0;
    for (int i = 1; i < 127; i++) {
        auto value = [](int i) { return i < 8 ? i * 0x1p-9f : ldexpf(8 + i % 8, i / 8 - 10); };
        const float middle = (value(i - 1) + value(i)) / 2;
        if (y > middle || (y == middle && i % 2 == 0)) least = i;
    }
    return (std::signbit(x) ? 0x80 : 0) | least;
}
static unsigned short e4m3_pair(float x, float y) { return e4m3(x) | e4m3(y) << 8; }

// Instead of the functions of fewparts.cuh that are one instruction of PTX.
static unsigned few_address(const void *p) { return (unsigned)((const char *)p - arena.data()); }
static void few_copy_some(unsigned to, const void *from, int bytes) {
    if (to % 16 || (size_t)from % 16) abort();
    Copy copy = {arena.data() + to, (const char *)from, bytes, 16};
    if (late) now->groups.back().push_back(copy);
    else {
        memset(copy.to, 0, 16);
        memcpy(copy.to, from, bytes);
    }
}
static void few_copy(unsigned to, const void *from) { few_copy_some(to, from, 16); }
static void few_copy8(unsigned to, const void *from) {
    if (to % 8 || (size_t)from % 8) abort();
    Copy copy = {arena.data() + to, (const char *)from, 8, 8};
    if (late) now->groups.back().push_back(copy);
    else memcpy(copy.to, from, 8);
}
static void few_commit() { now->groups.emplace_back(); }
template <int LEFT> static void few_wait() {
    auto &groups = now->groups;
    while ((int)groups.size() - 1 > LEFT) {
        for (const Copy &copy : groups.front()) {
            memset(copy.to, 0, copy.room);
            memcpy(copy.to, copy.from, copy.bytes);
        }
        groups.erase(groups.begin());
    }
}
static void few_after() {}
static void few_next() {}
static void few_cluster() { meet(cluster); }
static float few_there(unsigned address, int rank) {
    float v;
    memcpy(&v, arena.data() + address + (rank - now->block) * (each_shared + BAND), 4);
    return v;
}
static uint4 few_load(unsigned from) {
    if (from % 16) abort();
    uint4 v;
    memcpy(&v, arena.data() + from, 16);
    return v;
}
static unsigned bitmap_value(unsigned from) {
    if (from % 2) abort();
    unsigned short v;
    memcpy(&v, arena.data() + from, 2);
    return v;
}
static unsigned bitmap_move(unsigned x, unsigned y, unsigned at) {
    for (int i = 0; i < 4; i++) at += (x >> 8 * i & 255) * (y >> 8 * i & 255);
    return at;
}
static unsigned bitmap_join(unsigned x, unsigned y, unsigned how) { return __byte_perm(x, y, how); }
static unsigned pairs(unsigned v, unsigned w) {
    unsigned r = 0;
    for (int i = 0; i < 2; i++) {
        float sum = tw_from_bf16(v >> 16 * i) + tw_from_bf16(w >> 16 * i);
        unsigned short made = tw_to_bf16(sum);
        if (tw_from_bf16(made) != sum) abort();
        r |= (unsigned)made << 16 * i;
    }
    return r;
}
static unsigned few_widen(unsigned w, unsigned base, unsigned minus) {
    return pairs((w & 0x000f000fu) | base, minus);
}
static unsigned few_add(unsigned v, unsigned w) { return pairs(v, w); }

// Barriers in shared memory that copies complete (hopper.cuh); late copies happen when nothing else can.
static void complete(Phase &phase) {
    if (phase.pending < 0 || phase.bytes < 0) abort();
    if (phase.pending == 0 && phase.bytes == 0) phase.pending = phase.count, phase.turns.times++;
}
static void barrier_init(unsigned bar, unsigned count) {
    if (bar % 8) abort();
    phases[bar] = {(int)count, (int)count, 0, {}, {}};
}
static void barrier_publish() {}
static void barrier_expect(unsigned bar, unsigned bytes) {
    Phase &phase = phases.at(bar);
    phase.bytes += bytes, phase.pending--;
    complete(phase);
}
static void barrier_arrive(unsigned bar) { barrier_expect(bar, 0); }
static void barrier_wait(unsigned bar, unsigned parity) {
    Phase &phase = phases.at(bar);
    now->times = phase.turns.times;
    if (now->times % 2 != parity) return;
    now->at = &phase.turns;
    switch_out();
    now->at = nullptr;
}
static void perform(Phase &phase) {
    const Copy copy = phase.copies.back();
    phase.copies.pop_back();
    memset(copy.to, 0, copy.room);
    memcpy(copy.to, copy.from, copy.bytes);
    phase.bytes -= copy.room;
    complete(phase);
}
static void load_bytes(unsigned to, const void *from, unsigned bytes, unsigned bar) {
    if (to % 16 || (size_t)from % 16 || bytes % 16 || !bytes) abort();
    Phase &phase = phases.at(bar);
    phase.copies.push_back({arena.data() + to, (const char *)from, (int)bytes, (int)bytes});
    if (!late) perform(phase);
}
// Of a map (emulated_kernels.py): its base, sizes, strides, box; three dims, nothing swizzled.
template <class M> static void load_box(unsigned to, const M *map, unsigned bar, int x, int y, int z) {
    const unsigned long long *word = map->words;
    const int at[3] = {x, y, z};
    unsigned size[3];
    for (int i = 0; i < 3; i++) size[i] = word[10] >> 12 * i & 0xfff;
    const int bytes = (int)word[12];
    for (unsigned n = 0; n < size[0] * size[1] * size[2]; n++) {
        const unsigned place[3] = {n % size[0], n / size[0] % size[1], n / size[0] / size[1]};
        const char *from = (const char *)word[0];
        bool inside = true;
        for (int i = 0; i < 3; i++) {
            const long long k = at[i] + (long long)place[i];
            inside = inside && k < (long long)word[1 + i];
            from += k * (i ? (long long)word[5 + i] : bytes);
        }
        Phase &phase = phases.at(bar);
        const Copy copy = {arena.data() + to + n * bytes, from, inside ? bytes : 0, bytes};
        phase.copies.push_back(copy);
    }
    if (!late)
        while (!phases.at(bar).copies.empty()) perform(phases.at(bar));
}
static bool deliver() {
    for (auto &each : phases)
        if (!each.second.copies.empty()) {
            while (!each.second.copies.empty()) perform(each.second);
            return true;
        }
    return false;
}

struct Operands { unsigned a[4], b[2]; };
template <bool HALF>
static void few_mma(float d[4], const unsigned a[4], unsigned b0, unsigned b1, const float c[4]) {
    const Operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const Operands *all = exchange(mine);
    auto number = [](unsigned pair, int i) -> double {
        unsigned short x = pair >> 16 * i;
        return HALF ? tw_from_f16(x) : tw_from_bf16(x);
    };
    const int g = lane_of() / 4, t = lane_of() % 4;
    for (int q = 0; q < 4; q++) {
        const int row = g + q / 2 * 8, column = 2 * t + q % 2;
        double sum = c[q];
        for (int k = 0; k < 16; k++) {
            const unsigned left = all[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
            const unsigned right = all[column * 4 + k % 8 / 2].b[k / 8];
            sum += number(left, k % 2) * number(right, k % 2);
        }
        d[q] = (float)sum;
    }
}

// wgmma with its first operand in registers: 16 of its rows are this warp's; at once.
static void multiply_begin() {}
static void multiply_commit() {}
template <int LEFT> static void multiply_wait() {}
template <int MT>
static void multiply_registers(float (&d)[MT][4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                               unsigned long long b, int keep) {
    const Operands mine = {{a0, a1, a2, a3}, {}};
    const Operands *all = exchange(mine);
    const int g = lane_of() / 4, t = lane_of() % 4;
    // Of its address a description has 18 bits; patterns count from the beginning of shared memory.
    const unsigned base = few_address(own_shared());
    const unsigned at = (((unsigned)(b & 0x3fff) << 4) - base) & 0x3ffff;
    for (int m = 0; m < MT; m++)
        for (int q = 0; q < 4; q++) {
            const int row = g + q / 2 * 8, column = m * 8 + 2 * t + q % 2;
            double sum = keep ? d[m][q] : 0;
            for (int k = 0; k < 16; k++) {
                const unsigned left = all[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
                const unsigned place = at + column * 128 + k * 2;
                unsigned short right;
                memcpy(&right, arena.data() + base + (place ^ (place >> 7 & 7) << 4), 2);
                sum += (double)tw_from_bf16(left >> 16 * (k % 2)) * tw_from_bf16(right);
            }
            d[m][q] = (float)sum;
        }
}

static void few_multiply(int d[4], const unsigned a[4], unsigned b0, unsigned b1) {
    const Operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const Operands *all = exchange(mine);
    const int g = lane_of() / 4, t = lane_of() % 4;
    for (int q = 0; q < 4; q++)
        for (int k = 0; k < 32; k++) {
            const unsigned left = all[g * 4 + k % 16 / 4].a[q / 2 + k / 16 * 2];
            const unsigned right = all[(2 * t + q % 2) * 4 + k % 16 / 4].b[k / 16];
            d[q] += (int)(left >> k % 4 * 8 & 255) * (signed char)(right >> k % 4 * 8);
        }
}

static void finish() {
    now->ended = true;
    for (size_t i = 0; i < now->groups.size(); i++)
        if (!now->groups[i].empty()) abort();
    switch_out();
}

// Blocks of x threads, `size` of a cluster at a time. Returns 0, or 1 where threads wait for each
// other for ever, 2 where shared memory is overrun.
static int run_grid(void (*entry)(), const unsigned grid[3], int x, int size, int shared, int is_late) {
    late = is_late, each_shared = (shared + 15) / 16 * 16;
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {(unsigned)x, 1, 1};
    const int across = (x + 31) / 32;
    fibers.resize(x * size);
    for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
    for (unsigned first = 0; first < grid[0]; first += size) {
        arena.assign(BAND + (size_t)size * (each_shared + BAND), (char)0xff);
        warps.assign(size * across, {}), blocks.assign(size, {}), cluster = {};
        for (auto &m : warps) m.members = min(32, x);
        for (auto &m : blocks) m.members = x;
        cluster.members = x * size;
        for (int i = 0; i < x * size; i++) {
            Fiber &f = fibers[i];
            f.stack.resize(1 << 15);
            f.ended = false, f.at = nullptr, f.thread = i % x, f.block = i / x;
            f.groups.assign(1, {});
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = f.stack.data();
            f.context.uc_stack.ss_size = f.stack.size();
            f.context.uc_link = &outside;
            makecontext(&f.context, entry, 0);
        }
        phases.clear();
        for (int left = x * size; left;) {
            bool moved = false;
            left = 0;
            for (Fiber &f : fibers) {
                if (f.ended) continue;
                left++;
                if (f.at && f.at->times == f.times) continue;
                moved = true;
                now = &f;
                threadIdx = {(unsigned)f.thread, 0, 0};
                blockIdx = {first + f.block, y, z};
                swapcontext(&outside, &f.context);
            }
            if (left && !moved && !deliver()) return 1;
        }
        for (int b = 0; b <= size; b++)
            for (int i = 0; i < BAND; i++)
                if (shared_of(b)[i - BAND] != (char)0xff) return 2;
    }
    return 0;
}
