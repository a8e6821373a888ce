"""How a tile's results leave the registers, in the GPU code of the product.

They go through shared memory, 16 rows by 128 bytes of a warp at a time, so that rows are written in
whole segments. FRAGMENTS: the epilogue is computed where sums are, in registers (with what is
brought ahead: `staged`). ROWS, for matrices that find no room in the ring: sums go
through shared memory and get the epilogue where they are written, four neighbours in a thread, so
that what it reads of whole matrices comes in segments as well; the first of it is asked for before
the product is computed, what follows while the piece before it is written.
"""

from __future__ import annotations

PIECE = """
// A warp's piece of results in shared memory: 16 rows of WIDE columns, PITCH apart (conflicts of
// banks); LANES threads with EACH elements, 16 bytes, write a row.
constexpr int WIDE = sizeof(Piece) == 4 || BN % 64 ? 32 : 64;
constexpr int EACH = 16 / sizeof(Piece), LANES = WIDE / EACH, PITCH = WIDE + EACH;
static __device__ __forceinline__ void put2(float *to, float x, float y) {
  *(float2 *)to = make_float2(x, y);
}
static __device__ __forceinline__ void put2(u16 *to, float x, float y) {
  *(u32 *)to = tw_to_@ELEMENT@x2(x, y);
}
"""

FRAGMENTS = """
#pragma unroll
      for (int i = 0; i < MT; i++) {
        // Rows and columns beyond the end read what is there last; they are not stored.
        const i64 above = row0 + i * 64 + lane / 4, below = above + 8;
        const i64 row_a = above < p0 ? above : p0 - 1, row_b = below < p0 ? below : p0 - 1;
#pragma unroll
        for (int c = 0; c < BN / WIDE; c++) {
          int column = n * BN + c * WIDE;
          // Indices of all pieces at once would not fit into registers.
          asm volatile("" : "+r"(column));
          __syncwarp();
#pragma unroll
          for (int j = 0; j < WIDE / 8; j++) {
            const int r = (c * (WIDE / 8) + j) * 4;
            const int at = column + j * 8 + lane % 4 * 2;
            const int left = at < N ? at : N - 1, right = at + 1 < N ? at + 1 : N - 1;
            Piece *const to = mine + lane / 4 * PITCH + j * 8 + lane % 4 * 2;
            put2(to, finish(extras, sum[i][r], row_a, left),
                 finish(extras, sum[i][r + 1], row_a, right));
            put2(to + 8 * PITCH, finish(extras, sum[i][r + 2], row_b, left),
                 finish(extras, sum[i][r + 3], row_b, right));
          }
          __syncwarp();
#pragma unroll
          for (int h = 0; h < LANES / 2; h++) {
            const int r = h * (32 / LANES) + lane / LANES, w = lane % LANES * EACH;
            const i64 row = row0 + i * 64 + r;
            const Piece *const from = mine + r * PITCH + w;
            Piece *const to = out + row * stride + column + w;
            if (row < p0) {
              if (even && column + w + EACH <= N) {
                *(uint4 *)to = *(const uint4 *)from;
              } else {
#pragma unroll 1
                for (int v = 0; v < EACH && column + w + v < N; v++) to[v] = from[v];
              }
            }
          }
        }
      }
"""

ROWS_AHEAD = """
      const int own = n * BN + lane % LANES * EACH;
      const bool near = even && near_even(extras);
      // Wide tiles leave few registers for that, the widest none; several products have two sums.
      constexpr int SUMS = MT * BN * (PRODUCTS > 1 ? 2 : 1);
      constexpr int BUFFERS = SUMS > 192 ? 0 : SUMS > 128 ? 1 : 2;
      Near ahead[2][LANES / 2];
#pragma unroll
      for (int h = 0; h < LANES / 2 && BUFFERS > 1; h++)
        ahead[0][h] = near_of(extras, near, row0 + h * (32 / LANES) + lane / LANES, own, p0);
"""

ROWS = """
#pragma unroll
      for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int c = 0; c < BN / WIDE; c++) {
          constexpr int PIECES = BN / WIDE;
          int column = n * BN + c * WIDE;
          // Indices of all pieces at once would not fit into registers.
          asm volatile("" : "+r"(column));
          const int buffer = BUFFERS == 2 ? (i * PIECES + c) % 2 : 0;
#pragma unroll
          for (int h = 0; h < LANES / 2 && BUFFERS == 1; h++)
            ahead[0][h] = near_of(extras, near, row0 + i * 64 + h * (32 / LANES) + lane / LANES,
                                  column + lane % LANES * EACH, p0);
          __syncwarp();
#pragma unroll
          for (int j = 0; j < WIDE / 8; j++) {
            const int r = (c * (WIDE / 8) + j) * 4;
            Piece *const to = mine + lane / 4 * PITCH + j * 8 + lane % 4 * 2;
            put2(to, sum[i][r], sum[i][r + 1]);
            put2(to + 8 * PITCH, sum[i][r + 2], sum[i][r + 3]);
          }
          __syncwarp();
          if (BUFFERS > 1 && i * PIECES + c + 1 < MT * PIECES) {
            const i64 next = row0 + (c + 1 < PIECES ? i : i + 1) * 64;
            const int beside = c + 1 < PIECES ? column + WIDE : n * BN;
#pragma unroll
            for (int h = 0; h < LANES / 2; h++)
              ahead[1 - buffer][h] = near_of(extras, near, next + h * (32 / LANES) + lane / LANES,
                                             beside + lane % LANES * EACH, p0);
          }
#pragma unroll
          for (int h = 0; h < LANES / 2; h++) {
            const int r = h * (32 / LANES) + lane / LANES, at = column + lane % LANES * EACH;
            const i64 row = row0 + i * 64 + r;
            const float4 v = *(const float4 *)(mine + r * PITCH + lane % LANES * EACH);
            if (BUFFERS == 0) ahead[0][h] = near_of(extras, near, row, at, p0);
            if (row < p0) {
              if (near && at + EACH <= N)
                store4(out + row * stride + at,
                       epilogue_near(extras, v, ahead[buffer][h], row, at));
              else
                put(extras, out, stride, v, row, at, p0, false);
            }
          }
        }
      }
"""

STORES = {
    "f32": """
typedef float Out;
static __device__ __forceinline__ float narrow(float x) { return x; }
static __device__ __forceinline__ void store4(float *at, float4 v) { *(float4 *)at = v; }
""",
    "bf16": """
typedef u16 Out;
static __device__ __forceinline__ u16 narrow(float x) { return tw_to_bf16(x); }
static __device__ __forceinline__ void store4(u16 *at, float4 v) {
  *(uint2 *)at = make_uint2(tw_to_bf16x2(v.x, v.y), tw_to_bf16x2(v.z, v.w));
}
""",
    "f16": """
typedef u16 Out;
static __device__ __forceinline__ u16 narrow(float x) { return tw_to_f16(x); }
static __device__ __forceinline__ void store4(u16 *at, float4 v) {
  *(uint2 *)at = make_uint2(tw_to_f16x2(v.x, v.y), tw_to_f16x2(v.z, v.w));
}
""",
}
"""Format of C -> how sums become its elements."""
