// Products of few rows by FFMA, for cuda/stream.py. A kernel has `epilogue` before this.

#include "simt.cuh"

// 16 bytes, 4-byte elements as they are and 2-byte ones from f16.
template <class E>
static __device__ __forceinline__ void stream_widen(uint4 v, float w[8]) {
  const unsigned u[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (sizeof(E) == 4)
      w[i] = __uint_as_float(u[i]);
    else
      asm("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
          : "=f"(w[2 * i]), "=f"(w[2 * i + 1]) : "r"(u[i]));
  }
}

// MR rows from the first on by C columns from n0 on, C <= 32; shared: WARPS * MR * C floats.
template <int MR, int C, int WARPS, int U, class P>
static __device__ __forceinline__ void stream(const P &p, i64 n0, float *shared) {
  typedef typename P::Element E;
  constexpr int W = 16 / sizeof(E), ACROSS = C / W, DOWN = 32 / ACROSS;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int across = lane % ACROSS, down = lane / ACROSS;
  const E *from = p.b + (n0 >> 5) * p.k * 32 + (n0 & 31) + across * W;

  float acc[MR][W];
#pragma unroll
  for (int i = 0; i < MR; i++)
#pragma unroll
    for (int j = 0; j < W; j++) acc[i][j] = 0.0f;

  for (i64 k0 = warp * DOWN * U; k0 < p.k; k0 += WARPS * DOWN * U) {
    uint4 v[U];
#pragma unroll
    for (int u = 0; u < U; u++) {
      const i64 k = k0 + u * DOWN + down;
      v[u] = make_uint4(0, 0, 0, 0);
      if (k < p.k)
        asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v[u].x), "=r"(v[u].y), "=r"(v[u].z), "=r"(v[u].w)
                     : "l"(from + k * 32));
    }
#pragma unroll
    for (int u = 0; u < U; u++) {
      const i64 k = k0 + u * DOWN + down;
      float w[8];
      stream_widen<E>(v[u], w);
      if (k < p.k)
#pragma unroll
        for (int i = 0; i < MR; i++) {
          const float x = i < p.m ? p.a[i * p.lda + k] : 0.0f;
#pragma unroll
          for (int j = 0; j < W; j++) acc[i][j] = fmaf(x, w[j], acc[i][j]);
        }
    }
  }
#pragma unroll
  for (int i = 0; i < MR; i++)
#pragma unroll
    for (int j = 0; j < W; j++) {
#pragma unroll
      for (int away = ACROSS; away < 32; away *= 2)
        acc[i][j] += __shfl_xor_sync(0xffffffffu, acc[i][j], away);
      if (down == 0) shared[(warp * MR + i) * C + across * W + j] = acc[i][j];
    }
  __syncthreads();
  for (int e = threadIdx.x; e < MR * C; e += WARPS * 32) {
    const i64 m = e / C, n = n0 + e % C;
    float sum = shared[e];
    for (int w = 1; w < WARPS; w++) sum += shared[w * MR * C + e];
    if (m < p.m && n < p.columns) p.c[m * p.ldc + n] = epilogue(p.extras, sum, m, n);
  }
}
