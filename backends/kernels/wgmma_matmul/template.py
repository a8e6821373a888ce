"""The GPU code of the product: one persistent template, specialized by constants before it.

A block is a group of 128 threads that brings tiles (its first thread does) and groups that multiply
them. Tiles of A and B lie in a ring of STAGES stages of shared memory; a stage is `full` when all
of its bytes are there, and `empty` when every warp that reads it is done. Blocks of a cluster take
tiles below each other, each brings its part of B's rows to all of them.

TOGETHER: groups share a tile, each has WM of its BM rows. Otherwise every group has tiles of its
own in turn (ping-pong): one multiplies while the others write.

How results are written: `staged`, `writing`.
"""

from __future__ import annotations

TILE_OF = """
static __device__ __forceinline__ void tile_of(u32 t, u32 down, u32 &m, u32 &n) {
  const u32 band = t / (RASTER * ACROSS), first = band * RASTER, in = t - band * RASTER * ACROSS;
  const u32 rows = down - first < RASTER ? down - first : RASTER;
  n = in / rows;
  m = first + in - n * rows;
}
"""

PUT = """
// Four sums of a row from column n on, with the epilogue.
static __device__ __forceinline__ void put(const Extras &e, Out *c, i64 ldc, float4 v, i64 m, i64 n,
                                           i64 rows, bool even) {
  if (m >= rows) return;
  Out *at = c + m * ldc + n;
  if (n + 3 < N) {
    v.x = epilogue(e, v.x, m, n), v.y = epilogue(e, v.y, m, n + 1);
    v.z = epilogue(e, v.z, m, n + 2), v.w = epilogue(e, v.w, m, n + 3);
    if (even) {
      store4(at, v);
    } else {
      at[0] = narrow(v.x), at[1] = narrow(v.y), at[2] = narrow(v.z), at[3] = narrow(v.w);
    }
  } else {
    if (n < N) at[0] = narrow(epilogue(e, v.x, m, n));
    if (n + 1 < N) at[1] = narrow(epilogue(e, v.y, m, n + 1));
    if (n + 2 < N) at[2] = narrow(epilogue(e, v.z, m, n + 2));
  }
}
"""

BRING = """
static __device__ __forceinline__ void bring_a(u32 at, const TensorMap *map, u32 full, int k,
                                               int m) {
#pragma unroll
  for (int p = 0; p < PLANES; p++) {
    if (PLANES == 1) load_box(at, map, full, k * BK, m * BM);
    else load_box(at + p * BM * 128, map, full, k * BK, m * BM, p);
  }
}
// The block's part of the rows, to all blocks of the cluster.
static __device__ __forceinline__ void bring_b(u32 at, const TensorMap *map, u32 full, int k, int n,
                                               u32 rank) {
  constexpr unsigned short all = (1 << CLUSTER) - 1;
  const int y = n * BN + rank * (BN / CLUSTER);
#pragma unroll
  for (int p = 0; p < PLANES; p++) {
    const u32 to = at + PLANES * BM * 128 + (p * BN + rank * (BN / CLUSTER)) * 128;
    if (PLANES == 1) {
      if (CLUSTER > 1) load_box_to(all, to, map, full, k * BK, y);
      else load_box(to, map, full, k * BK, y);
    } else {
      if (CLUSTER > 1) load_box_to(all, to, map, full, k * BK, y, p);
      else load_box(to, map, full, k * BK, y, p);
    }
  }
}
"""

FRAME = """
  extern __shared__ char raw[];
  const u32 base = (shared_address(raw) + 1023) & ~1023u;
  char *const ring = raw + (base - shared_address(raw));
  const u32 bars = base + STAGES * STAGE_BYTES;
  Piece *const corner = (Piece *)(ring + STAGES * STAGE_BYTES + 256);
  const u32 group = threadIdx.x / 128;
  const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
  const u32 down = (u32)((p0 + BM * CLUSTER - 1) / (BM * CLUSTER));
  const u32 total = down * ACROSS * SPLIT;
  const u32 start = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
@BROUGHT@

  if (threadIdx.x == 0) {
    for (u32 s = 0; s < STAGES; s++) {
      barrier_init(bars + 16 * s, 1);
      barrier_init(bars + 16 * s + 8, (TOGETHER ? GROUPS : 1) * 4 * CLUSTER);
    }
    for (u32 g = 0; g < GROUPS; g++) barrier_init(bars + TURNS + 8 * g, 4);
    barrier_publish();
    map_prefetch(&m0);
    map_prefetch(&m1);
  }
  if (CLUSTER > 1) cluster_sync();
  else __syncthreads();
  // B is there before the launch before this one has ended.
  if (threadIdx.x != GROUPS * 128) launch_wait();

  if (group == GROUPS) {
    if (GROUPS > 1) registers_fewer<GROUPS == 2 ? 40 : 32>();
    if (threadIdx.x == GROUPS * 128) {
      u32 stage = 0, phase = 0, early = 0;
      if (start < total) {
        u32 m, n;
        tile_of(start / SPLIT, down, m, n);
        const u32 part = start % SPLIT;
        for (int k = part * STEPS / SPLIT; k < (part + 1) * STEPS / SPLIT && early < STAGES; k++) {
          barrier_expect(bars + 16 * early, STAGE_BYTES);
          bring_b(base + early * STAGE_BYTES, &m1, bars + 16 * early, k, n, rank);
          early++;
        }
      }
      launch_wait();
      for (u32 t = start; t < total; t += step) {
        u32 m, n;
        tile_of(t / SPLIT, down, m, n);
        const u32 part = t % SPLIT;
        for (int k = part * STEPS / SPLIT; k < (part + 1) * STEPS / SPLIT; k++) {
          const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
          if (early > 0) {
            early--;
          } else {
            barrier_wait(full + 8, phase ^ 1);
            barrier_expect(full, STAGE_BYTES);
            bring_b(at, &m1, full, k, n, rank);
          }
          bring_a(at, &m0, full, k, m * CLUSTER + rank);
          if (++stage == STAGES) stage = 0, phase ^= 1;
        }
@BRING@
      }
    }
    // Threads that waited for the cluster instead would hold up the one that brings.
    __syncwarp();
  } else {
    if (GROUPS > 1) registers_more<GROUPS == 2 ? 232 : 160>();
@EXTRAS@
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    Piece *const mine = corner + (threadIdx.x / 32) * 16 * PITCH;
    Sum sum[MT][BN / 2];
    u32 stage = 0, phase = 0, turn = 0;
    for (u32 t = start; t < total; t += step, turn++) {
      u32 m, n;
      tile_of(t / SPLIT, down, m, n);
      const u32 part = t % SPLIT;
      const int first = part * STEPS / SPLIT, last = (part + 1) * STEPS / SPLIT;
@OUT@
      if (!TOGETHER && turn % GROUPS != group) {
        const u32 ahead = stage + (last - first)@SKIPPED@;
        phase ^= ahead / STAGES & 1;
        stage = ahead % STAGES;
        continue;
      }
      // Barriers only tell odd rounds of the ring from even ones: no group may run ahead.
      if (!TOGETHER) barrier_wait(bars + TURNS + 8 * group, (turn / GROUPS & 1) ^ (group == 0));
      const i64 row0 = (i64)(m * CLUSTER + rank) * BM + (TOGETHER ? group * WM : 0) + warp * 16;
@AHEAD@
@MULTIPLY@
@WRITE@
    }
  }
  if (CLUSTER > 1) cluster_sync();
}
"""
"""@BROUGHT@, @BRING@, @SKIPPED@: what the ring has beside steps of K (`staged`)."""

BODY = FRAME.replace("@BROUGHT@", "").replace("@BRING@", "").replace("@SKIPPED@", "")

PLAIN_FRAME = """
      for (int k = first; k < last; k++) {
        const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
        barrier_wait(full, phase);
        const u64 a = matrix(at + (TOGETHER ? group * WM * 128 : 0));
        const u64 b = matrix(at + BM * 128);
        multiply_begin();
#pragma unroll
        for (int d = 0; d < 4; d++)
#pragma unroll
          for (int i = 0; i < MT; i++)
            multiply(sum[i], a + i * 512 + d * 2, b + d * 2, k > first || d > 0);
        multiply_commit();
        // The multiplication before this one has read its stage.
        multiply_wait<1>();
        if (k > first && lane < CLUSTER) release(bars, stage == 0 ? STAGES - 1 : stage - 1, lane);
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
@TURN@
      if (!TOGETHER && lane == 0) barrier_arrive(bars + TURNS + 8 * ((group + 1) % GROUPS));
      multiply_wait<0>();
      if (last > first && lane < CLUSTER)
        release(bars, stage == 0 ? STAGES - 1 : stage - 1, lane);
"""
"""One product for each element: sums stay in the accumulators. @TURN@: before the turn is given to
another group."""

PLAIN = PLAIN_FRAME.replace("@TURN@", "")

SPLIT_PRODUCTS = """
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < BN / 2; j++) sum[i][j] = 0.0f;
      for (int k = first; k < last; k++) {
        const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
        barrier_wait(full, phase);
        const u64 a = matrix(at + (TOGETHER ? group * WM * 128 : 0));
        const u64 b = matrix(at + PLANES * BM * 128);
        float some[MT][BN / 2];
        constexpr int HALVES = PRODUCTS == 6 ? 2 : 1;
#pragma unroll
        for (int half = 0; half < HALVES; half++) {
          multiply_begin();
#pragma unroll
          for (int q = half == 0 ? 0 : PRODUCTS - 1; q < PRODUCTS; q++)
#pragma unroll
            for (int d = 2 * half; d < (q < PRODUCTS - 1 ? 4 : 4 / HALVES * (half + 1)); d++)
#pragma unroll
              for (int i = 0; i < MT; i++)
                multiply(some[i], a + (LEFTS >> 2 * q & 3) * (BM * 8) + i * 512 + d * 2,
                         b + (RIGHTS >> 2 * q & 3) * (BN * 8) + d * 2,
                         half == 0 ? q > 0 || d > 0 : d > 2);
          multiply_commit();
          multiply_wait<0>();
          if (half == HALVES - 1 && lane < CLUSTER) release(bars, stage, lane);
#pragma unroll
          for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < BN / 2; j++) sum[i][j] += some[i][j];
        }
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
"""
"""Several products for each element, small ones first; tensor cores cut off what they add, so a
step's sum is added in f32 proper. What is cut off makes sums smaller, by 5e-8 of them, which adds
up from layer to layer (ResNet-50: 1.4e-6, ONNX Runtime 3.4e-7). So of six products, the second half
of the large one has sums of its own, of which little is cut off (7.1e-7)."""

RELEASE = """
static __device__ __forceinline__ void release(u32 bars, u32 stage, u32 rank) {
  if (CLUSTER > 1) barrier_arrive_at(bars + 16 * stage + 8, rank);
  else barrier_arrive(bars + 16 * stage + 8);
}
"""

OUT = """
      Out *const out = (Out *)@C@;
      const i64 stride = p2;
      const bool even = stride % EACH == 0 && (u64)out % 16 == 0;
"""
"""Where results go."""

OUT_PART = """
      const int extras = 0;
      float *const out = (float *)(workspace + PARTS_AT) + part * p0 * N;
      const i64 stride = N;
      const bool even = N % EACH == 0;
"""
"""Where a part's sums go, without the epilogue."""
