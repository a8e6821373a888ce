"""Products of few rows: parts of K in a launch over all of the device, then a function that adds up
the parts of a row, applies the epilogue and normalizes it, a block for each row."""

from __future__ import annotations

from tilewright.backends.cuda import neighbours
from tilewright.backends.cuda.epilogue import literal
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.wgmma_matmul.cuda import Ending
from tilewright.backends.kernels.wgmma_matmul.cuda import emit as product_kernel
from tilewright.backends.kernels.wgmma_normed_matmul import template
from tilewright.backends.kernels.wgmma_normed_matmul.spec import WgmmaNormedMatmulSpec
from tilewright.backends.target import Target

MOST = 512
"""Threads of a row."""

SUM = """
// Of all threads of a row, in the same order for each of them.
static __device__ __forceinline__ float row_sum(float x, float *held) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) x += __shfl_xor_sync(0xffffffffu, x, mask);
  if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = x;
  __syncthreads();
  x = held[0];
  for (int w = 1; w < ROW_THREADS / 32; w++) x += held[w];
  return x;
}
// Four numbers of a vector as long as a row.
static __device__ __forceinline__ float4 along(const float *x, bool even, int n) {
  if (even && n + 4 <= N) return *(const float4 *)(x + n);
  return make_float4(n < N ? x[n] : 0.0f, n + 1 < N ? x[n + 1] : 0.0f, n + 2 < N ? x[n + 2] : 0.0f,
                     n + 3 < N ? x[n + 3] : 0.0f);
}
"""

ROWS = """
  extern __shared__ char raw[];
  float *const held = (float *)raw;
  constexpr int QUADS = (N + 4 * ROW_THREADS - 1) / (4 * ROW_THREADS);
  const float *const scale = (const float *)@SCALE@, *const bias = (const float *)@BIAS@;
  const bool level = (u64)scale % 16 == 0 && (u64)bias % 16 == 0;
  // Constants, before the parts are there.
  float4 g[QUADS], b[QUADS];
#pragma unroll
  for (int q = 0; q < QUADS; q++) {
    const int n = (q * ROW_THREADS + (int)threadIdx.x) * 4;
    g[q] = make_float4(1.0f, 1.0f, 1.0f, 1.0f), b[q] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (SCALED) g[q] = along(scale, level, n);
    if (SHIFTED) b[q] = along(bias, level, n);
  }
  launch_wait();
  const float *const parts = (const float *)(workspace + PARTS_AT);
  Out *const c = (Out *)@C@;
  const bool even = p2 % 4 == 0 && (u64)c % (4 * sizeof(Out)) == 0;
@EXTRAS@
  for (i64 m = blockIdx.x; m < p0; m += gridDim.x) {
    float4 v[QUADS];
    float total = 0.0f;
    if (@NEAR@N % 4 == 0) {
#pragma unroll
      for (int q = 0; q < QUADS; q++) {
        const int n = (q * ROW_THREADS + (int)threadIdx.x) * 4, at = n < N ? n : N - 4;
@BESIDE@
        float4 y[SPLIT];
#pragma unroll
        for (int s = 0; s < SPLIT; s++) y[s] = *(const float4 *)(parts + (s * p0 + m) * N + at);
        float4 x = y[0];
#pragma unroll
        for (int s = 1; s < SPLIT; s++) x.x += y[s].x, x.y += y[s].y, x.z += y[s].z, x.w += y[s].w;
@FINISH@
        v[q] = n < N ? x : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
    } else {
#pragma unroll
      for (int q = 0; q < QUADS; q++) {
        const int n = (q * ROW_THREADS + (int)threadIdx.x) * 4;
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int s = 0; s < SPLIT; s++) {
          const float *const from = parts + (s * p0 + m) * N + n;
          if (n < N) x.x += from[0];
          if (n + 1 < N) x.y += from[1];
          if (n + 2 < N) x.z += from[2];
          if (n + 3 < N) x.w += from[3];
        }
        v[q] = finish(extras, x, m, n);
      }
    }
#pragma unroll
    for (int q = 0; q < QUADS; q++) total += (v[q].x + v[q].y) + (v[q].z + v[q].w);
    const float mean = CENTRED ? row_sum(total, held) / (float)N : 0.0f;
    float squares = 0.0f;
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      const int n = (q * ROW_THREADS + (int)threadIdx.x) * 4;
      v[q].x -= mean, v[q].y -= mean, v[q].z -= mean, v[q].w -= mean;
      if (n + 4 <= N) {
        squares += (v[q].x * v[q].x + v[q].y * v[q].y) + (v[q].z * v[q].z + v[q].w * v[q].w);
      } else {
        if (n < N) squares += v[q].x * v[q].x;
        if (n + 1 < N) squares += v[q].y * v[q].y;
        if (n + 2 < N) squares += v[q].z * v[q].z;
      }
    }
    squares = row_sum(squares, held + ROW_THREADS / 32);
    const float factor = 1.0f / sqrtf(squares / (float)N + EPSILON);
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      const int n = (q * ROW_THREADS + (int)threadIdx.x) * 4;
      float4 x = v[q];
      x.x = x.x * factor * g[q].x + b[q].x, x.y = x.y * factor * g[q].y + b[q].y;
      x.z = x.z * factor * g[q].z + b[q].z, x.w = x.w * factor * g[q].w + b[q].w;
      keep(c + m * p2 + n, even, x, n);
    }
    // RMS has one sum alone: the next row must not overtake it.
    if (!CENTRED) __syncthreads();
  }
}
"""

FINISH = """
        x.x = epilogue(extras, x.x, m, at), x.y = epilogue(extras, x.y, m, at + 1);
        x.z = epilogue(extras, x.z, m, at + 2), x.w = epilogue(extras, x.w, m, at + 3);
"""


def emit(spec: WgmmaNormedMatmulSpec, target: Target, name: str) -> CudaKernel:
    """Entries: conversion of A, parts of the product, rows. Raises ValueError as `wgmma_matmul`."""
    product = spec.product
    threads = min(-(-product.n // 128) * 32, MOST)
    by_rows = len(neighbours.near(product.epilogue)) in (1, 2)
    vectors = 2 + len(product.epilogue.extras)
    text = (
        ROWS.replace("@NEAR@", "near_even(extras) && " if by_rows else "")
        .replace(
            "@BESIDE@", "        const Near near = near_of(extras, true, m, at, p0);" * by_rows
        )
        .replace(
            "@FINISH@",
            "        x = epilogue_near(extras, x, near, m, at);" if by_rows else FINISH,
        )
        .replace("@SCALE@", f"a{vectors}" if spec.norm.scale else "0")
        .replace("@BIAS@", f"a{vectors + spec.norm.arguments - 1}" if spec.norm.bias else "0")
    )
    before = "".join(
        (
            f"constexpr int ROW_THREADS = {threads};\n",
            f"constexpr bool CENTRED = {str(spec.norm.kind == 'layer').lower()}, ",
            f"SCALED = {str(spec.norm.scale).lower()}, SHIFTED = {str(spec.norm.bias).lower()};\n",
            f"#define EPSILON {literal(spec.norm.eps)}\n",
            neighbours.declare(product.epilogue, product.c != "f32") if by_rows else "",
            template.FINISHED,
            SUM,
        )
    )
    ending = Ending(
        "_rows",
        text,
        "min(p0, sms * 16)",
        threads,
        str(threads // 32 * 8),
        spec.norm.arguments,
        before,
    )
    return product_kernel(spec.product, target, name, ending=ending)
