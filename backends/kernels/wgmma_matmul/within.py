"""GPU code of the product whose parts of K are summed within a cluster."""

from __future__ import annotations

WITHIN = """
  extern __shared__ char raw[];
  const u32 base = (shared_address(raw) + 1023) & ~1023u;
  float *const sums = (float *)(raw + (base - shared_address(raw)));
  const u32 bars = base + SUMS_BYTES;
  const u32 group = threadIdx.x / 128;
  const u32 part = cluster_rank(), down = (u32)((p0 + BM - 1) / BM);
  u32 m, n;
  tile_of(blockIdx.x / SPLIT, down, m, n);
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
  if (threadIdx.x != GROUPS * 128) launch_wait();
@EARLY@
  if (group == GROUPS) {
    if (threadIdx.x == GROUPS * 128) {
      const int early = first + STAGES < last ? first + STAGES : last;
      for (int k = first; k < early; k++) {
        const u32 stage = k - first, full = bars + 16 * stage;
        barrier_expect(full, STAGE_BYTES);
        bring_b(base + stage * STAGE_BYTES, &m1, full, k, n, 0);
      }
      launch_wait();
      u32 stage = 0, phase = 0;
      for (int k = first; k < last; k++) {
        const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
        if (k >= early) {
          barrier_wait(full + 8, phase ^ 1);
          barrier_expect(full, STAGE_BYTES);
          bring_b(at, &m1, full, k, n, 0);
        }
        bring_a(at, &m0, full, k, m);
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
    }
    __syncwarp();
    __syncthreads();
  } else {
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    float sum[MT][BN / 2];
    u32 stage = 0, phase = 0;
@MULTIPLY@
    // The ring is read; sums take its place.
    __syncthreads();
    const int row = group * WM + warp * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int j = 0; j < BN / 8; j++) {
        float *const at = sums + (row + i * 64) * (BN + PAD) + j * 8 + lane % 4 * 2;
        *(float2 *)at = make_float2(sum[i][4 * j], sum[i][4 * j + 1]);
        *(float2 *)(at + 8 * (BN + PAD)) = make_float2(sum[i][4 * j + 2], sum[i][4 * j + 3]);
      }
  }
@EXTRAS@
@AHEAD@
@LATE@
  cluster_sync();
  // Each block adds up its part of the rows, over the parts of K in their order.
  const bool even = p2 % 4 == 0 && (u64)@C@ % (4 * sizeof(Out)) == 0;
#pragma unroll 1
  for (u32 e = threadIdx.x; e < BM / SPLIT * (BN / 4); e += 128 * (GROUPS + 1)) {
    const u32 r = part * (BM / SPLIT) + e / (BN / 4), c = e % (BN / 4) * 4;
    const u32 at = base + (r * (BN + PAD) + c) * 4;
    float4 x[SPLIT];
#pragma unroll
    for (int s = 0; s < SPLIT; s++) x[s] = load_from(at, s);
    float4 v = x[0];
#pragma unroll
    for (int s = 1; s < SPLIT; s++) v.x += x[s].x, v.y += x[s].y, v.z += x[s].z, v.w += x[s].w;
    const i64 row = (i64)m * BM + r, column = (i64)n * BN + c;
@WRITE@
  }
  cluster_leave();
}
"""
"""A part of K for each block of a cluster, one tile."""

WRITE = """
    put(extras, (Out *)@C@, p2, v, row, column, p0, even);
"""

EARLY = """
  // The lines of a vector as long as a row, which the epilogue reads at the end.
  float line = 0.0f;
  if (threadIdx.x != GROUPS * 128) {
    const int at = n * BN + threadIdx.x % BN;
    line = ((const float *)@VECTOR@)[at < N ? at : N - 1];
  }
"""

LATE = """
  asm volatile("" ::"f"(line));
"""

AHEAD = """
  // What the epilogue reads of matrices, before the other parts are there.
  const bool near = near_even(extras);
  const i64 row_ahead = (i64)m * BM + part * (BM / SPLIT) + threadIdx.x / (BN / 4);
  const Near ahead =
      near_of(extras, near, row_ahead, (i64)n * BN + threadIdx.x % (BN / 4) * 4, p0);
"""

WRITE_NEAR = """
    if (near && even && row < p0 && column + 4 <= N) {
      const Near own = e == threadIdx.x ? ahead : near_of(extras, near, row, column, p0);
      store4((Out *)@C@ + row * p2 + column, epilogue_near(extras, v, own, row, column));
    } else {
      put(extras, (Out *)@C@, p2, v, row, column, p0, even);
    }
"""
