"""GPU code of the product whose columns are the left operand of tensor cores.

A block has one tile: of ROWS rows of A, which are all that it must wait for, and COLUMNS of B. Its
parts of K, where a cluster shares them, are added up through shared memory, as in
`wgmma_matmul.within`.
"""

from __future__ import annotations

BODY = """
  extern __shared__ char raw[];
  const u32 base = (shared_address(raw) + 1023) & ~1023u;
  float *const sums = (float *)(raw + (base - shared_address(raw)));
  const u32 bars = base + SUMS_BYTES;
  const u32 group = threadIdx.x / 128;
  const u32 part = SPLIT > 1 ? cluster_rank() : 0;
  const u32 n = blockIdx.x / SPLIT % ACROSS, m = blockIdx.x / SPLIT / ACROSS;
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
  // B is there before the launch before this one has ended.
  if (threadIdx.x != GROUPS * 128) launch_wait();

  if (group == GROUPS) {
    if (threadIdx.x == GROUPS * 128) {
      const int early = first + STAGES < last ? first + STAGES : last;
      for (int k = first; k < early; k++) {
        const u32 stage = k - first, full = bars + 16 * stage;
        barrier_expect(full, STAGE_BYTES);
        bring_a(base + stage * STAGE_BYTES, &m0, full, k, n);
      }
      launch_wait();
      u32 stage = 0, phase = 0;
      for (int k = first; k < last; k++) {
        const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
        if (k >= early) {
          barrier_wait(full + 8, phase ^ 1);
          barrier_expect(full, STAGE_BYTES);
          bring_a(at, &m0, full, k, n);
        }
        bring_b(at, &m1, full, k, m, 0);
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
    // The ring is read; sums take its place, rows of C one after the other.
    __syncthreads();
    const int line = group * WM + warp * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int j = 0; j < BN / 8; j++) {
        const float *const s = sum[i] + 4 * j;
        float *const at = sums + (j * 8 + lane % 4 * 2) * PITCH + line + i * 64;
        at[0] = s[0], at[PITCH] = s[1], at[8] = s[2], at[PITCH + 8] = s[3];
      }
  }
@EXTRAS@
  constexpr u32 QUADS = COLUMNS / 4, MINE = ROWS / SPLIT;
@AHEAD@
  if (SPLIT > 1) cluster_sync();
  else __syncthreads();
  // Each block adds up its part of the rows, over the parts of K in their order.
  const bool even = p2 % 4 == 0 && (u64)@C@ % (4 * sizeof(Out)) == 0;
#pragma unroll 1
  for (u32 e = threadIdx.x; e < MINE * QUADS; e += 128 * (GROUPS + 1)) {
    const u32 r = part * MINE + e / QUADS, c = e % QUADS * 4;
    float4 v;
    if (SPLIT == 1) {
      v = *(const float4 *)(sums + r * PITCH + c);
    } else {
      float4 x[SPLIT];
#pragma unroll
      for (int s = 0; s < SPLIT; s++) x[s] = load_from(base + (r * PITCH + c) * 4, s);
      v = x[0];
#pragma unroll
      for (int s = 1; s < SPLIT; s++) v.x += x[s].x, v.y += x[s].y, v.z += x[s].z, v.w += x[s].w;
    }
    const i64 row = (i64)m * ROWS + r, column = (i64)n * COLUMNS + c;
@WRITE@
  }
  if (SPLIT > 1) cluster_leave();
}
"""

AHEAD = """
  // What the epilogue reads of matrices, before the sums are there.
  const bool near = near_even(extras);
  const i64 row_ahead = (i64)m * ROWS + part * MINE + threadIdx.x / QUADS;
  const Near ahead =
      near_of(extras, near, row_ahead, (i64)n * COLUMNS + threadIdx.x % QUADS * 4, p0);
"""
