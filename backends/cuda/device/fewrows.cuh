#include "fewparts.cuh"

// C[M, N] = epilogue(A[M, K] B[K, N]) for few rows: B is streamed once, as it is packed
// (fewparts.cuh), through a ring of asynchronous copies of each warp's own, and is the first operand
// of mma.m16n8k16; rows of A, rounded, are its eight columns.

// All rows, whose columns of mma are COLS at most, by panels blockIdx.x, + gridDim.x, ..: rows of A
// are brought to shared memory once, and copies of a panel go on behind those of the one before.
// Shared memory: ROOM for A, two times WARPS * COLS * 36 sums, the rings. COLS < 8.
template <int COLS, int WARPS, int RING, int ROOM, class P>
static __device__ __forceinline__ void few_panels(const P &p, char *shared) {
  constexpr int SLOT = few_slot<P>(), STEPS = P::steps, PARTS = P::parts, CHUNKS = P::step / 32;
  constexpr int SUMS = WARPS * COLS * 36;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int tokens = (int)p.m, cols = tokens * PARTS;
  const unsigned base = few_address(shared), ring = base + ROOM + 8 * SUMS + warp * RING * SLOT;
  unsigned put = ring, get = ring;
  int panel = warp < STEPS ? blockIdx.x : P::panels, step = warp;
  auto fetch = [&]() {
    if (panel < P::panels) {
      few_fetch<P>(put + lane * 16, p.b + ((tw_i64)panel * STEPS + step) * SLOT + lane * 16, lane);
      step += WARPS;
      if (step >= STEPS) step = warp, panel += gridDim.x;
    }
    put = put + SLOT == ring + RING * SLOT ? ring : put + SLOT;
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
#pragma unroll
  for (int j = 0; j < RING - 1; j++) fetch();
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  few_stage<2, WARPS * 32>(p, 0, tokens, 0, STEPS, shared, tid);
  __syncthreads();

  int buffer = 0;
  for (int at = blockIdx.x; at < P::panels; at += gridDim.x) {
    float acc[2][1][4] = {};
    unsigned rows = base + (warp * CHUNKS * cols + g) * 64 + t * 16;
    for (int s = warp; s < STEPS; s += WARPS) {
      asm volatile("cp.async.wait_group %0;" :: "n"(RING - 2) : "memory");
      __syncwarp();
      fetch();
      few_step<1, P>(acc, get, shared + (get - base), rows, cols, lane);
      rows += WARPS * CHUNKS * cols * 64;
      get = get + SLOT == ring + RING * SLOT ? ring : get + SLOT;
    }
    float *sums = (float *)(shared + ROOM) + buffer * SUMS;
    buffer ^= 1;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        if (2 * t + q % 2 < COLS)
          sums[(warp * COLS + 2 * t + q % 2) * 36 + 16 * i + 8 * (q / 2) + g] = acc[i][0][q];
#if __CUDA_ARCH__ >= 900
    // Nothing is left to load: blocks of the next launch may begin with theirs.
    if (at + gridDim.x >= P::panels) asm volatile("griddepcontrol.launch_dependents;");
#endif
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
      if (column < P::columns)
        p.c[token * p.ldc + column] = epilogue(p.extras, sum, token, p.first + column);
    }
  }
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

// Blocks of MT * 8 columns of mma; ROOM: bytes of shared memory for rows of A. A warp is one of WN
// panels and every WK-th step. SPLIT blocks, a cluster, share the steps. Sums are added up in the
// order of warps, then of blocks.
template <int MT, int WN, int WK, int RING, int SPLIT, int ROOM, class P>
static __device__ __forceinline__ void few_rows(const P &p, tw_i64 first, char *shared) {
  constexpr int STEP = P::step, CHUNKS = STEP / 32, PARTS = P::parts;
  constexpr int SLOT = few_slot<P>(), WARPS = WN * WK;
  constexpr int BATCH = MT == 1 ? 2 : MT < 8 ? 4 : P::scaled ? 3 : 1;
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
  unsigned put = ring, get = ring;
  int left = mine;
  auto fetch = [&]() {
    if (left > 0) {
      few_fetch<P>(put + lane * 16, from, lane);
      from += WK * SLOT;
      left--;
    }
    put = put + SLOT == ring + RING * SLOT ? ring : put + SLOT;
    asm volatile("cp.async.commit_group;" ::: "memory");
  };

#pragma unroll
  for (int j = 0; j < RING - 1; j++) fetch();
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif

  float acc[2][MT][4];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int q = 0; q < 4; q++) acc[i][m][q] = 0.0f;

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
      asm volatile("cp.async.wait_group %0;" :: "n"(RING - 2) : "memory");
      __syncwarp();
      fetch();
      few_step<MT, P>(acc, get, shared + (get - base), rows, cols, lane);
      rows += WK * CHUNKS * cols * 64;
      get = get + SLOT == ring + RING * SLOT ? ring : get + SLOT;
    }
  }
#if __CUDA_ARCH__ >= 900
  // Nothing is left to load: blocks of the next launch may begin with theirs.
  asm volatile("griddepcontrol.launch_dependents;");
#endif
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();

  // Sums [warp][column of mma][36], of which 32 are columns of C.
  float *sums = (float *)shared;
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        sums[(warp * MT * 8 + m * 8 + 2 * t + q % 2) * 36 + 16 * i + 8 * (q / 2) + g] = acc[i][m][q];
  __syncthreads();
  auto total = [&](int token, int n) {
    float sum = 0.0f;
    for (int w = 0; w < WK; w++)
#pragma unroll
      for (int q = 0; q < PARTS; q++)
        sum += sums[((w * WN + n / 32) * MT * 8 + token * PARTS + q) * 36 + n % 32];
    return sum;
  };
  const tw_i64 n0 = (tw_i64)(blockIdx.x / SPLIT) * WN * 32;
  auto store = [&](int token, int n, float sum) {
    const tw_i64 m = first + token;
    if (n0 + n < P::columns)
      p.c[m * p.ldc + n0 + n] = epilogue(p.extras, sum, m, p.first + n0 + n);
  };
  if (SPLIT == 1) {
    for (int e = tid; e < tokens * WN * 32; e += WARPS * 32)
      store(e / (WN * 32), e % (WN * 32), total(e / (WN * 32), e % (WN * 32)));
    return;
  }
#if __CUDA_ARCH__ >= 900
  float *own = sums + WARPS * MT * 8 * 36;
  for (int e = tid; e < tokens * WN * 32; e += WARPS * 32)
    own[e] = total(e / (WN * 32), e % (WN * 32));
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;"
               ::: "memory");
  for (int e = rank * WARPS * 32 + tid; e < tokens * WN * 32; e += SPLIT * WARPS * 32) {
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < SPLIT; r++) {
      unsigned there;
      float v;
      asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(few_address(own + e)), "r"(r));
      asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there) : "memory");
      sum += v;
    }
    store(e / (WN * 32), e % (WN * 32), sum);
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;"
               ::: "memory");
#endif
}
