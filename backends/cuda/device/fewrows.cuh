#include "fewparts.cuh"

// C[M, N] = epilogue(A[M, K] B[K, N]) for few rows: B is streamed once, as it is packed
// (fewparts.cuh), through rings of asynchronous copies, and is the first operand of mma.m16n8k16;
// rows of A, rounded, are its eight columns. What is known of B before the launch before has ended
// is asked for by then.

// All rows, whose columns of mma are COLS at most, by panels blockIdx.x, + gridDim.x, ..: rows of A
// are brought to shared memory once, and copies of a panel go on behind those of the one before.
// Shared memory: ROOM for A, two times WARPS * COLS * 36 sums, the rings. COLS < 8. EARLY: whether
// blocks fill the device, so that those of the next launch come where one of these has ended.
template <int COLS, int WARPS, int RING, int ROOM, bool EARLY, class P>
static __device__ __forceinline__ void few_panels(const P &p, char *shared) {
  constexpr int SLOT = few_slot<P>(), STEPS = P::steps, PARTS = P::parts, CHUNKS = P::step / 32;
  constexpr int SUMS = WARPS * COLS * 36;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int tokens = (int)p.m, cols = tokens * PARTS;
  const unsigned base = few_address(shared), ring = base + ROOM + 8 * SUMS + warp * RING * SLOT;
  unsigned slot = ring;
  int panel = warp < STEPS ? blockIdx.x : P::panels, step = warp;
  if (EARLY) few_next();
  auto fetch = [&]() {
    if (panel < P::panels) {
      few_fetch<P>(slot + lane * 16, p.b + ((tw_i64)panel * STEPS + step) * SLOT + lane * 16, lane);
      step += WARPS;
      if (step >= STEPS) step = warp, panel += gridDim.x;
    }
    slot = slot + SLOT == ring + RING * SLOT ? ring : slot + SLOT;
    few_commit();
  };
#pragma unroll
  for (int j = 0; j < RING; j++) fetch();
  few_after();
  few_stage<2, WARPS * 32>(p, 0, tokens, 0, STEPS, shared, tid);
  __syncthreads();

  int buffer = 0;
  for (int at = blockIdx.x; at < P::panels; at += gridDim.x) {
    float acc[2][1][4] = {};
    unsigned rows = base + (warp * CHUNKS * cols + g) * 64 + t * 16;
    for (int s = warp; s < STEPS; s += WARPS) {
      few_wait<RING - 1>();
      __syncwarp();
      few_step<1, false, P>(acc, slot, shared + (slot - base), rows, cols * 64, 512, cols, lane);
      rows += WARPS * CHUNKS * cols * 64;
      __syncwarp();
      fetch();
    }
    float *sums = (float *)(shared + ROOM) + buffer * SUMS;
    buffer ^= 1;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        if (2 * t + q % 2 < COLS)
          sums[(warp * COLS + 2 * t + q % 2) * 36 + 16 * i + 8 * (q / 2) + g] = acc[i][0][q];
    // Nothing is left to load.
    if (!EARLY && at + gridDim.x >= P::panels) few_next();
    // One barrier a panel: these sums are written again only after the next one.
    __syncthreads();
    for (int e = tid; e < tokens * 32; e += WARPS * 32) {
      const int token = e / 32, n = e % 32;
      float sum = 0.0f;
#pragma unroll
      for (int w = 0; w < WARPS; w++)
#pragma unroll
        for (int q = 0; q < PARTS; q++) sum += sums[(w * COLS + token * PARTS + q) * 36 + n];
      const tw_i64 column = (tw_i64)at * 32 + n;
      p.keep(token, column, sum);
    }
  }
  few_wait<0>();
}

// Adds up the sums of a block's warps, of WN panels and WK shares of K, and of the SPLIT blocks of a
// cluster, in the order of warps, then of blocks, and writes C. All warps have read all they need; MORE
// have no sums. MOST: columns of mma that are rows.
template <int MT, int WN, int WK, int SPLIT, int MORE = 0, int MOST = MT * 8, class P>
static __device__ __forceinline__ void few_end(const P &p, tw_i64 first, int tokens, char *shared,
                                               const float acc[2][MT][4]) {
  constexpr int WARPS = WN * WK, THREADS = 32 * (WARPS + MORE), PARTS = P::parts;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0;
  // Sums [warp][column of mma][36], of which 32 are columns of C.
  float *sums = (float *)shared;
  if (MORE == 0 || warp < WARPS) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int m = 0; m < MT; m++)
#pragma unroll
        for (int q = 0; q < 4; q++)
          if (const int col = m * 8 + 2 * t + q % 2; MOST == MT * 8 || col < MOST)
            sums[(warp * MOST + col) * 36 + 16 * i + 8 * (q / 2) + g] = acc[i][m][q];
  }
  __syncthreads();
  auto total = [&](int token, int n) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < WK; w++)
#pragma unroll
      for (int q = 0; q < PARTS; q++)
        sum += sums[((w * WN + n / 32) * MOST + token * PARTS + q) * 36 + n % 32];
    return sum;
  };
  const tw_i64 n0 = (tw_i64)(blockIdx.x / SPLIT) * WN * 32;
  auto store = [&](int token, int n, float sum) {
    p.keep(first + token, n0 + n, sum);
  };
  if (SPLIT == 1) {
    for (int e = tid; e < tokens * WN * 32; e += THREADS)
      store(e / (WN * 32), e % (WN * 32), total(e / (WN * 32), e % (WN * 32)));
    return;
  }
#if __CUDA_ARCH__ >= 900
  float *own = sums + WARPS * MOST * 36;
  for (int e = tid; e < tokens * WN * 32; e += THREADS)
    own[e] = total(e / (WN * 32), e % (WN * 32));
  few_cluster();
  for (int e = rank * THREADS + tid; e < tokens * WN * 32; e += SPLIT * THREADS) {
    float each[SPLIT], sum = 0.0f;
#pragma unroll
    for (int r = 0; r < SPLIT; r++) each[r] = few_there(few_address(own + e), r);
#pragma unroll
    for (int r = 0; r < SPLIT; r++) sum += each[r];
    store(e / (WN * 32), e % (WN * 32), sum);
  }
  few_cluster();
#endif
}

// Blocks of MT * 8 columns of mma, whose rows of A they round themselves; ROOM: bytes of shared
// memory for these. A warp is one of WN panels and every WK-th step. SPLIT blocks, a cluster, share
// the steps. Each warp has a ring of its own.
template <int MT, int WN, int WK, int RING, int SPLIT, int ROOM, class P>
static __device__ __forceinline__ void few_rows(const P &p, tw_i64 first, char *shared) {
  constexpr int STEP = P::step, CHUNKS = STEP / 32, PARTS = P::parts;
  constexpr int SLOT = few_slot<P>(), WARPS = WN * WK;
  constexpr int BATCH = MT <= 4 ? 4 : P::scaled ? 3 : 1;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int wn = warp % WN, wk = warp / WN, rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0;
  const int panel = (int)(blockIdx.x / SPLIT) * WN + wn;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int mine = panel < P::panels && end > begin + wk ? (end - begin - wk + WK - 1) / WK : 0;
  const int tokens = (int)(p.m - first < MT * 8 / PARTS ? p.m - first : MT * 8 / PARTS);
  const int cols = tokens * PARTS;

  const unsigned base = few_address(shared), ring = base + ROOM + warp * RING * SLOT;
  const char *from = p.b + ((tw_i64)panel * P::steps + begin + wk) * SLOT + lane * 16;
  unsigned slot = ring;
  int left = mine;
  auto fetch = [&]() {
    if (left > 0) {
      few_fetch<P>(slot + lane * 16, from, lane);
      from += WK * SLOT;
      left--;
    }
    slot = slot + SLOT == ring + RING * SLOT ? ring : slot + SLOT;
    few_commit();
  };

#pragma unroll
  for (int j = 0; j < RING; j++) fetch();
  few_after();

  float acc[2][MT][4] = {};
  // Rows of A in shared memory: [chunk][column][32 k], of as many rounds of steps as it has room for.
  const int rounds = (end - begin + WK - 1) / WK;
  const int fit = ROOM / (WK * STEP * 2 * (cols > 0 ? cols : 1));
  const int slab = fit > 1 ? fit : 1;
  for (int r0 = 0; r0 < rounds; r0 += slab) {
    const int s0 = begin + r0 * WK, s1 = min(end, s0 + slab * WK);
    if (r0) __syncthreads();
    few_stage<BATCH, WARPS * 32>(p, first, tokens, s0, s1, shared, tid);
    __syncthreads();

    unsigned rows = base + (wk * CHUNKS * cols + g) * 64 + t * 16;
    for (int j = r0; j < r0 + slab && j < mine; j++) {
      few_wait<RING - 1>();
      __syncwarp();
      few_step<MT, false, P>(acc, slot, shared + (slot - base), rows, cols * 64, 512, cols, lane);
      rows += WK * CHUNKS * cols * 64;
      __syncwarp();
      fetch();
    }
  }
  // Nothing is left to load.
  few_next();
  few_wait<0>();
  __syncthreads();
  few_end<MT, WN, WK, SPLIT>(p, first, tokens, shared, acc);
}

// A, rounded, for `few_rounds`: [row][K filled up to steps]; a thread rounds eight elements.
template <class P>
static __device__ __forceinline__ void few_prepare(const P &p, char *ready) {
  constexpr int PARTS = P::parts, OCTETS = P::steps * (P::step / 8);
  few_next();
  few_after();
  const tw_i64 at = (tw_i64)blockIdx.x * blockDim.x + threadIdx.x;
  const tw_i64 token = at / OCTETS;
  const int octet = (int)(at % OCTETS);
  if (token >= p.m) return;
  float x[8];
  uint4 parts[PARTS];
  p.load(token, (tw_i64)octet * 8, x);
  few_split<PARTS, P::half>(x, parts);
#pragma unroll
  for (int q = 0; q < PARTS; q++)
    *(uint4 *)(ready + ((token * PARTS + q) * OCTETS + octet) * 16) = parts[q];
}

// Copies of rows to [chunk][column of MT * 8][BYTES]: the BYTES of a row's chunk by 16, MOST chunks at
// most, by THREADS, each of which has the same columns every time. Rows are `stride` bytes apart and
// have LENGTH bytes, WHOLE: whole steps. Columns that are no rows stay as they are, and so do those of
// C that are made of them.
template <int MT, int BYTES, int THREADS, int MOST, int LENGTH, bool WHOLE>
struct FewCopier {
  static constexpr int TIMES = BYTES / 16, PIECES = MT * 8 * TIMES, TOGETHER = THREADS / PIECES;
  static constexpr int EACH = TOGETHER ? 1 : (PIECES + THREADS - 1) / THREADS;
  static constexpr int BY = TOGETHER ? TOGETHER : 1;
  const char *rows, *from[EACH];
  bool live[EACH];
  int chunk, piece;

  __device__ __forceinline__ FewCopier(const char *rows, tw_i64 stride, int cols, int tid)
      : rows(rows), chunk(TOGETHER ? tid / PIECES : 0), piece(TOGETHER ? tid % PIECES : tid) {
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const int u = piece + j * THREADS, col = u / TIMES;
      live[j] = u < PIECES && col < cols && chunk < BY;
      from[j] = rows + (live[j] ? col * stride : 0) + chunk * BYTES + u % TIMES * 16;
    }
  }

  // `chunks` chunks from `first` on.
  __device__ __forceinline__ void copy(unsigned to, int first, int chunks) const {
#pragma unroll
    for (int j = 0; j < EACH; j++) {
#pragma unroll
      for (int c = 0; c < MOST; c += BY) {
        if (!live[j] || chunk + c >= chunks) continue;
        const char *at = from[j] + (tw_i64)first * BYTES + c * BYTES;
        const unsigned there = to + ((chunk + c) * PIECES + piece + j * THREADS) * 16;
        const int left = LENGTH - (first + chunk + c) * BYTES - (piece + j * THREADS) % TIMES * 16;
        if (WHOLE)
          few_copy(there, at);
        else
          few_copy_some(there, left > 0 ? at : rows, left < 0 ? 0 : left < 16 ? left : 16);
      }
    }
  }
};

// As few_rows, by rows of LENGTH 16-bit numbers, `stride` apart (of A itself, or what few_prepare has
// left): the block copies them beside B, step by step of all its warps, through a ring of RING
// stages.
template <int MT, int WN, int WK, int RING, int SPLIT, int LENGTH, class P>
static __device__ __forceinline__ void few_rounds(const P &p, tw_i64 first, const tw_u16 *ready,
                                                  tw_i64 stride, char *shared) {
  constexpr int CHUNKS = P::step / 32, PARTS = P::parts, SLOT = few_slot<P>(), WARPS = WN * WK;
  constexpr int ROWS = CHUNKS * MT * 512, STAGE = WK * ROWS + WARPS * SLOT;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int wn = warp % WN, wk = warp / WN, rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0;
  const int panel = (int)(blockIdx.x / SPLIT) * WN + wn;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int rounds = (end - begin + WK - 1) / WK;
  const int tokens = (int)(p.m - first < MT * 8 / PARTS ? p.m - first : MT * 8 / PARTS);
  const unsigned base = few_address(shared);
  const char *codes = p.b + (tw_i64)panel * P::steps * SLOT;

  auto fetch_codes = [&](int round, int stage) {
    const int s = begin + round * WK + wk;
    const unsigned to = base + stage * STAGE + WK * ROWS + warp * SLOT;
    if (panel < P::panels && s < end)
      few_fetch<P>(to + lane * 16, codes + (tw_i64)s * SLOT + lane * 16, lane);
  };
  const FewCopier<MT, 64, WARPS * 32, WK * CHUNKS, LENGTH * 2, LENGTH % P::step == 0> copier(
      (const char *)(ready + first * PARTS * stride), stride * 2, tokens * PARTS, tid);
  auto fetch_rows = [&](int round, int stage) {
    const int s = begin + round * WK;
    copier.copy(base + stage * STAGE, s * CHUNKS, (min(end, s + WK) - s) * CHUNKS);
  };

#pragma unroll
  for (int j = 0; j < RING - 1; j++) fetch_codes(j, j);
  few_after();
#pragma unroll
  for (int j = 0; j < RING - 1; j++) {
    fetch_rows(j, j);
    few_commit();
  }
  float acc[2][MT][4] = {};
  int stage = 0, next = RING - 1;
  for (int r = 0; r < rounds; r++) {
    few_wait<RING - 2>();
    // Copies of all threads are there, and the stage of the round before is free.
    __syncthreads();
    fetch_codes(r + RING - 1, next);
    fetch_rows(r + RING - 1, next);
    few_commit();
    if (panel < P::panels && begin + r * WK + wk < end) {
      const unsigned at = stage * STAGE, slot = at + WK * ROWS + warp * SLOT;
      few_step<MT, true, P>(acc, base + slot, shared + slot, base + at + wk * ROWS + g * 64 + t * 16,
                            MT * 512, 512, MT * 8, lane);
    }
    stage = stage + 1 == RING ? 0 : stage + 1;
    next = next + 1 == RING ? 0 : next + 1;
  }
  few_next();
  few_wait<0>();
  __syncthreads();
  few_end<MT, WN, WK, SPLIT>(p, first, tokens, shared, acc);
}
