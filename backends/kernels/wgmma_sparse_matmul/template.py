"""The GPU code of the product with 2:4 weights: columns of C are the rows of the tensor cores'
result, since these take the sparse operand on the left.

A block is a group of 128 threads that brings tiles (its first thread does) and groups that multiply
them, 64 columns of C each. A stage of the ring has rows of A, 64 elements each, the 32 values of
each column, and the words that say where these are, one for each thread that multiplies. Blocks of
a cluster take columns beside each other, each brings its part of the rows to all of them.

A tile's sums go through shared memory, 16 rows by 16 columns of a warp at a time, so that four
neighbours of a row get the epilogue and are written together.
"""

from __future__ import annotations

TILE_OF = """
static __device__ __forceinline__ void tile_of(u32 t, u32 across, u32 &n, u32 &m) {
  const u32 band = t / (RASTER * across), first = band * RASTER, in = t - band * RASTER * across;
  const u32 beside = DOWN - first < RASTER ? DOWN - first : RASTER;
  m = in / beside;
  n = first + in - m * beside;
}
"""

BRING = """
constexpr u32 VALUES_AT = BM * 128, PLACES_AT = VALUES_AT + BN * 64;
static __device__ __forceinline__ void bring_weights(u32 at, const TensorMap *values,
                                                     const TensorMap *places, u32 full, int k,
                                                     int n) {
  load_box(at + VALUES_AT, values, full, k * (BK / 2), n * BN);
  load_box(at + PLACES_AT, places, full, 0, k * ATOMS + n * GROUPS);
}
// The block's part of the rows, to all blocks of the cluster.
static __device__ __forceinline__ void bring_rows(u32 at, const TensorMap *map, u32 full, int k,
                                                  int m, u32 rank) {
  constexpr unsigned short all = (1 << CLUSTER) - 1;
  const int y = m * BM + rank * (BM / CLUSTER);
  const u32 to = at + rank * (BM / CLUSTER) * 128;
  if (CLUSTER > 1) load_box_to(all, to, map, full, k * BK, y);
  else load_box(to, map, full, k * BK, y);
}
// Rows of 64 bytes in the pattern of that size, 8 rows (512 bytes) after each other.
static __device__ __forceinline__ u64 values_matrix(u32 address) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)32 << 32 | (u64)2 << 62;
}
"""

PUT_PART = """
static __device__ __forceinline__ void put_part(float *to, float4 v, i64 m, i64 n, i64 rows) {
  if (m >= rows) return;
  float *at = to + m * N + n;
  if (N % 4 == 0 && n + 3 < N) {
    *(float4 *)at = v;
  } else {
    if (n < N) at[0] = v.x;
    if (n + 1 < N) at[1] = v.y;
    if (n + 2 < N) at[2] = v.z;
    if (n + 3 < N) at[3] = v.w;
  }
}
"""

BODY = """
  extern __shared__ char raw[];
  const u32 base = (shared_address(raw) + 1023) & ~1023u;
  char *const ring = raw + (base - shared_address(raw));
  const u32 bars = base + STAGES * STAGE_PITCH;
  float *const corner = (float *)(ring + STAGES * STAGE_PITCH + 256);
  const u32 group = threadIdx.x / 128;
  const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
  const u32 across = (u32)((p0 + BM - 1) / BM);
  const u32 total = across * DOWN * SPLIT;
  const u32 start = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;

  if (threadIdx.x == 0) {
    for (u32 s = 0; s < STAGES; s++) {
      barrier_init(bars + 16 * s, 1);
      barrier_init(bars + 16 * s + 8, GROUPS * 4 * CLUSTER);
    }
    barrier_publish();
    map_prefetch(&m0);
    map_prefetch(&m1);
    map_prefetch(&m2);
  }
  if (CLUSTER > 1) cluster_sync();
  else __syncthreads();
  // B is there before the launch before this one has ended.
  if (threadIdx.x != GROUPS * 128) launch_wait();

  if (group == GROUPS) {
    if (GROUPS > 1) registers_fewer<40>();
    if (threadIdx.x == GROUPS * 128) {
      u32 stage = 0, phase = 0, early = 0;
      if (start < total) {
        u32 n, m;
        tile_of(start / SPLIT, across, n, m);
        const u32 part = start % SPLIT;
        for (int k = part * STEPS / SPLIT; k < (part + 1) * STEPS / SPLIT && early < STAGES; k++) {
          barrier_expect(bars + 16 * early, STAGE_BYTES);
          bring_weights(base + early * STAGE_PITCH, &m1, &m2, bars + 16 * early, k,
                        n * CLUSTER + rank);
          early++;
        }
      }
      launch_wait();
      for (u32 t = start; t < total; t += step) {
        u32 n, m;
        tile_of(t / SPLIT, across, n, m);
        const u32 part = t % SPLIT;
        for (int k = part * STEPS / SPLIT; k < (part + 1) * STEPS / SPLIT; k++) {
          const u32 full = bars + 16 * stage, at = base + stage * STAGE_PITCH;
          // All blocks of the cluster have read what the rows will overwrite.
          if (early > 0) {
            early--;
          } else {
            barrier_wait(full + 8, phase ^ 1);
            barrier_expect(full, STAGE_BYTES);
            bring_weights(at, &m1, &m2, full, k, n * CLUSTER + rank);
          }
          bring_rows(at, &m0, full, k, m, rank);
          if (++stage == STAGES) stage = 0, phase ^= 1;
        }
      }
    }
    // Threads that waited for the cluster instead would hold up the one that brings.
    __syncwarp();
  } else {
    if (GROUPS > 1) registers_more<232>();
@EXTRAS@
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    float *const mine = corner + (threadIdx.x / 32) * 16 * PITCH;
    Sum sum[BM / 2];
    u32 stage = 0, phase = 0;
    for (u32 t = start; t < total; t += step) {
      u32 n, m;
      tile_of(t / SPLIT, across, n, m);
      const u32 part = t % SPLIT;
      const int first = part * STEPS / SPLIT, last = (part + 1) * STEPS / SPLIT;
      for (int k = first; k < last; k++) {
        const u32 full = bars + 16 * stage;
        barrier_wait(full, phase);
        const u32 at = base + stage * STAGE_PITCH;
        const u32 places = *(const u32 *)(ring + stage * STAGE_PITCH + PLACES_AT + group * 512 +
                                          threadIdx.x % 128 * 4);
        const u64 a = values_matrix(at + VALUES_AT + group * 4096), b = matrix(at);
        multiply_begin();
        multiply_sparse<0>(sum, a, b, places, k > first);
        multiply_sparse<1>(sum, a + 2, b + 4, places, 1);
        multiply_commit();
        // The multiplication before this one has read its stage.
        multiply_wait<1>();
        if (k > first && lane < CLUSTER) release(bars, stage == 0 ? STAGES - 1 : stage - 1, lane);
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
      multiply_wait<0>();
      if (last > first && lane < CLUSTER)
        release(bars, stage == 0 ? STAGES - 1 : stage - 1, lane);
      const i64 column = (i64)(n * CLUSTER + rank) * BN + group * 64 + warp * 16 + lane % 4 * 4;
#pragma unroll
      for (int c = 0; c < BM / 8; c += 2) {
        int row = m * BM + c * 8 + lane / 4;
        // Indices of all pieces at once would not fit into registers.
        asm volatile("" : "+r"(row));
        __syncwarp();
#pragma unroll
        for (int j = 0; j < 2 && c + j < BM / 8; j++) {
          const int r = (c + j) * 4;
          float *const to = mine + (j * 8 + lane % 4 * 2) * PITCH + lane / 4;
          to[0] = sum[r], to[PITCH] = sum[r + 1];
          to[8] = sum[r + 2], to[PITCH + 8] = sum[r + 3];
        }
        __syncwarp();
#pragma unroll
        for (int j = 0; j < 2 && c + j < BM / 8; j++) {
          const float4 v = *(const float4 *)(mine + (j * 8 + lane / 4) * PITCH + lane % 4 * 4);
          @PUT@;
        }
      }
    }
  }
  if (CLUSTER > 1) cluster_sync();
}
"""

PUT_RESULT = "put(extras, out, p2, v, row + j * 8, column, p0, even)"
OUT = """    Out *const out = (Out *)@C@;
    const bool even = p2 % 4 == 0 && (u64)out % (4 * sizeof(Out)) == 0;
"""
"""Where results go."""

PUT_SUMS = "put_part(out + part * p0 * N, v, row + j * 8, column, p0)"
OUT_PART = """    float *const out = (float *)(workspace + PARTS_AT);
"""
"""Where a part's sums go, without the epilogue."""
