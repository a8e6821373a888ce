"""The GPU code of the product whose rows are normalized.

A cluster of blocks has ROWS rows of C: each block COLUMNS of them, ACROSS blocks beside each other,
for each of SPLIT parts of K. A group of 128 threads brings tiles into a ring, others multiply them,
as in `wgmma_matmul.template`; TURNED: B is the left operand of tensor cores.

Sums take the ring's place in shared memory. Eight threads then share a row (MINE rows for each part
of K): they add up the parts in their order, apply the epilogue and keep its values in registers.
The mean of the piece of the row and the squared deviations from it go to all blocks that have
another piece of it; each merges what the pieces say, in their order (Chan, Golub, LeVeque 1979), to
the same bits. So a row is read and written once, and no partial result leaves the cluster.
"""

from __future__ import annotations

FINISHED = """
static __device__ __forceinline__ void keep(Out *at, bool even, float4 v, int n) {
  if (even && n + 4 <= N) {
    store4(at, v);
  } else {
    if (n < N) at[0] = narrow(v.x);
    if (n + 1 < N) at[1] = narrow(v.y);
    if (n + 2 < N) at[2] = narrow(v.z);
    if (n + 3 < N) at[3] = narrow(v.w);
  }
}
// The epilogue of columns that may be beyond the last one, which are zero.
static __device__ __forceinline__ float4 finish(const Extras &e, float4 v, i64 m, int n) {
  v.x = n < N ? epilogue(e, v.x, m, n) : 0.0f;
  v.y = n + 1 < N ? epilogue(e, v.y, m, n + 1) : 0.0f;
  v.z = n + 2 < N ? epilogue(e, v.z, m, n + 2) : 0.0f;
  v.w = n + 3 < N ? epilogue(e, v.w, m, n + 3) : 0.0f;
  return v;
}
"""
"""Results of four columns that may be beyond the last one."""

TEAM = """
// Of the eight threads of a row: the sum, in the same order for all of them.
static __device__ __forceinline__ float team_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  x += __shfl_xor_sync(0xffffffffu, x, 2);
  x += __shfl_xor_sync(0xffffffffu, x, 4);
  return x;
}
// Of the columns of a piece of a row, how many there are.
static __device__ __forceinline__ int filled(int piece) {
  const int left = N - piece * COLUMNS;
  return left < 0 ? 0 : left < COLUMNS ? left : COLUMNS;
}
"""

BODY = """
  extern __shared__ char raw[];
  const u32 base = (shared_address(raw) + 1023) & ~1023u;
  float *const sums = (float *)(raw + (base - shared_address(raw)));
  const u32 bars = base + SUMS_BYTES, notes = bars + 256;
  const u32 group = threadIdx.x / 128;
  const u32 rank = cluster_rank(), n = rank % ACROSS, part = rank / ACROSS;
  const u32 m = blockIdx.x / (ACROSS * SPLIT);
  float *const vectors = sums + (SUMS_BYTES + 256 + ACROSS * MINE * 8) / 4;
  const int first = part * STEPS / SPLIT, last = (part + 1) * STEPS / SPLIT;

  if (threadIdx.x == 0) {
    for (u32 s = 0; s < STAGES; s++) {
      barrier_init(bars + 16 * s, 1);
      barrier_init(bars + 16 * s + 8, GROUPS * 4);
    }
    barrier_publish();
    map_prefetch(&m0);
    map_prefetch(&m1);
  }
  __syncthreads();
  cluster_arrive();
  // B is there before the launch before this one has ended.
  if (threadIdx.x != GROUPS * 128) launch_wait();

  if (group == GROUPS) {
    if (GROUPS > 1) registers_fewer<40>();
    if (threadIdx.x == GROUPS * 128) {
      const int early = first + STAGES < last ? first + STAGES : last;
      for (int k = first; k < early; k++) {
        const u32 stage = k - first, full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
        barrier_expect(full, STAGE_BYTES);
        @WEIGHTS@;
      }
      launch_wait();
      u32 stage = 0, phase = 0;
      for (int k = first; k < last; k++) {
        const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
        if (k >= early) {
          barrier_wait(full + 8, phase ^ 1);
          barrier_expect(full, STAGE_BYTES);
          @WEIGHTS@;
        }
        @ROWS@;
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
    }
    // Other warps meanwhile: what is as long as a row, where it is near when sums are complete.
    for (int i = (int)threadIdx.x - GROUPS * 128 - 32; i >= 0 && i < COLUMNS; i += 96) {
      const int c = n * COLUMNS + i < N ? n * COLUMNS + i : N - 1;
@COPY@
    }
    __syncwarp();
    cluster_wait();
    __syncthreads();
    if (SPLIT > 1) cluster_sync();
    else __syncthreads();
    cluster_sync();
  } else {
    if (GROUPS > 1) registers_more<232>();
@EXTRAS@
@MOVED@
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    float sum[MT][BN / 2];
    u32 stage = 0, phase = 0;
@MULTIPLY@
    cluster_wait();
    // The ring is read; sums take its place.
    __syncthreads();
    const int line = group * WM + warp * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int j = 0; j < BN / 8; j++) {
        const float *const s = sum[i] + 4 * j;
@LAY@
      }

    constexpr int TEAMS = GROUPS * 16, ROUNDS = (MINE + TEAMS - 1) / TEAMS;
    constexpr int QUADS = (COLUMNS + 31) / 32;
    // The widest tiles leave no registers for all of a thread's values, nor to read all rows early.
    constexpr bool HELD = ROUNDS * QUADS <= 24;
    constexpr int EARLY = HELD || ROUNDS < 2 || @NARROW@ ? ROUNDS : 2;
    const int team = threadIdx.x / 8, own = threadIdx.x % 8;
    const int across = n * COLUMNS + own * 4;
    const i64 above = (i64)m * ROWS + part * MINE;
    float4 v[HELD ? ROUNDS : 1][QUADS];
@AHEAD@
    if (SPLIT > 1) cluster_sync();
    else __syncthreads();
    // Whole pieces of rows without a branch at each quad: loads would wait for each other.
    if (@NEAR@N % COLUMNS == 0) {
      constexpr bool FAST = true;
@GATHER@
    } else {
      constexpr bool FAST = false;
@GATHER@
    }
    cluster_sync();

    float mean[ROUNDS], factor[ROUNDS];
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
      const int r = team + i * TEAMS < MINE ? team + i * TEAMS : MINE - 1;
      const int count = own < ACROSS ? filled(own) : 0;
      float2 piece = make_float2(0.0f, 0.0f);
      if (own < ACROSS)
        piece = *(const float2 *)((const char *)sums + SUMS_BYTES + 256 + (own * MINE + r) * 8);
      mean[i] = CENTRED ? team_sum((float)count * piece.x) / (float)N : 0.0f;
      const float off = count > 0 ? piece.x - mean[i] : 0.0f;
      const float squares = team_sum(piece.y + (float)count * (off * off));
      factor[i] = 1.0f / sqrtf(squares / (float)N + EPSILON);
    }
    Out *const c = (Out *)@C@;
    const bool even = p2 % 4 == 0 && (u64)c % (4 * sizeof(Out)) == 0;
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      if (COLUMNS % 32 && q * 32 + own * 4 >= COLUMNS) continue;
      const int column = across + q * 32;
      float4 g = make_float4(1.0f, 1.0f, 1.0f, 1.0f), b = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      const float *const nearby = vectors + q * 32 + own * 4;
      if (SCALED) g = *(const float4 *)(nearby + ROW_EXTRAS * COLUMNS);
      if (SHIFTED) b = *(const float4 *)(nearby + (ROW_EXTRAS + (SCALED ? 1 : 0)) * COLUMNS);
#pragma unroll
      for (int i = 0; i < ROUNDS; i++) {
        const i64 row = above + team + i * TEAMS;
        if (team + i * TEAMS >= MINE || row >= p0) continue;
        const u32 at = (part * MINE + team + i * TEAMS) * PITCH + q * 32 + own * 4;
        float4 x;
        if (HELD) x = v[i][q];
        else x = *(const float4 *)(sums + at);
        x.x = (x.x - mean[i]) * factor[i] * g.x + b.x;
        x.y = (x.y - mean[i]) * factor[i] * g.y + b.y;
        x.z = (x.z - mean[i]) * factor[i] * g.z + b.z;
        x.w = (x.w - mean[i]) * factor[i] * g.w + b.w;
        keep(c + row * p2 + column, even, x, column);
      }
    }
  }
}
"""

GATHER = """
#pragma unroll
      for (int i = 0; i < ROUNDS; i++) {
        // Teams without a row of their own, and rows beyond the last, do as the last ones.
        const int r = team + i * TEAMS < MINE ? team + i * TEAMS : MINE - 1;
        const i64 row = above + r < p0 ? above + r : p0 - 1;
        // Sums of all rounds at once would not fit into registers.
        asm volatile("" ::: "memory");
        float total = 0.0f;
        float4 (&mine)[QUADS] = v[HELD ? i : 0];
#pragma unroll
        for (int q = 0; q < QUADS; q++) {
          float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
          if (COLUMNS % 32 == 0 || q * 32 + own * 4 < COLUMNS) {
            const u32 at = (part * MINE + r) * PITCH + q * 32 + own * 4;
            if (SPLIT == 1) {
              x = *(const float4 *)(sums + at);
            } else {
              float4 y[SPLIT];
#pragma unroll
              for (int s = 0; s < SPLIT; s++) y[s] = load_from(base + at * 4, s * ACROSS + n);
              x = y[0];
#pragma unroll
              for (int s = 1; s < SPLIT; s++)
                x.x += y[s].x, x.y += y[s].y, x.z += y[s].z, x.w += y[s].w;
            }
            const int column = across + q * 32;
@FINISH@
            if (!HELD && team + i * TEAMS < MINE) *(float4 *)(sums + at) = x;
          }
          mine[q] = x;
          total += (x.x + x.y) + (x.z + x.w);
        }
        const int count = FAST ? COLUMNS : filled(n);
        const float mean = CENTRED ? team_sum(total) / (float)count : 0.0f;
        float squares = 0.0f;
#pragma unroll
        for (int q = 0; q < QUADS; q++) {
          const int left = count - q * 32 - own * 4;
          const float x = mine[q].x - mean, y = mine[q].y - mean, z = mine[q].z - mean,
                      w = mine[q].w - mean;
          if (left >= 4) {
            squares += (x * x + y * y) + (z * z + w * w);
          } else {
            if (left > 0) squares += x * x;
            if (left > 1) squares += y * y;
            if (left > 2) squares += z * z;
          }
        }
        squares = team_sum(squares);
        if (own < ACROSS && team + i * TEAMS < MINE)
          store_to(notes + (n * MINE + r) * 8, part * ACROSS + own, make_float2(mean, squares));
@NEXT@
      }
"""
"""Rows of sums to values, their statistics to all blocks that have a piece of them."""

LAY = """
        float *const at = sums + (line + i * 64) * PITCH + j * 8 + lane % 4 * 2;
        *(float2 *)at = make_float2(s[0], s[1]);
        *(float2 *)(at + 8 * PITCH) = make_float2(s[2], s[3]);
"""
LAY_TURNED = """
        float *const at = sums + (j * 8 + lane % 4 * 2) * PITCH + line + i * 64;
        at[0] = s[0], at[PITCH] = s[1], at[8] = s[2], at[PITCH + 8] = s[3];
"""
"""Sums from registers to shared memory, rows of C one after the other."""

AHEAD = """
    // What the epilogue reads of a matrix, while other parts and groups still multiply.
    const bool near = near_even(extras);
    Near ahead[EARLY][QUADS];
    const auto read_ahead = [&](int i) {
      const int r = team + i * TEAMS < MINE ? team + i * TEAMS : MINE - 1;
#pragma unroll
      for (int q = 0; q < QUADS; q++)
        if (COLUMNS % 32 == 0 || q * 32 + own * 4 < COLUMNS)
          ahead[i % EARLY][q] = near_of(extras, near, above + r, across + q * 32, p0);
    };
#pragma unroll
    for (int i = 0; i < EARLY; i++) read_ahead(i);
"""

NEXT = "        if (i + EARLY < ROUNDS) read_ahead(i + EARLY);\n"

FINISH = """
            if (FAST) {
              x.x = epilogue(extras, x.x, row, column);
              x.y = epilogue(extras, x.y, row, column + 1);
              x.z = epilogue(extras, x.z, row, column + 2);
              x.w = epilogue(extras, x.w, row, column + 3);
            } else {
              x = finish(extras, x, row, column);
            }
"""

FINISH_NEAR = """
            if (FAST)
              x = epilogue_near(extras, x, ahead[i % EARLY][q], row, column);
            else
              x = finish(extras, x, row, column);
"""
