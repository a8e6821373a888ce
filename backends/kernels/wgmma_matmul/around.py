"""GPU code around the product: conversion of A before it, sums of parts of K after it."""

from __future__ import annotations

from tilewright.backends.cuda.signature import signature

THREADS = 256
"""Of blocks that convert or add up."""


def converted(a: str, element: str) -> str:
    """Formula: 1 if A is converted or copied into the workspace first, since it has other elements,
    or an address or a stride that the tensor memory accelerator does not take."""
    return "1" if a != element else "min(1, p1 % 8 + a0 % 16)"


def round_bytes(row: int, planes: int = 1) -> str:
    """Formula: bytes of converted A of ``row`` elements in a row, in whole 256."""
    return f"ceildiv(p0 * {2 * planes * row}, 256) * 256"


def conversion(a: str, element: str, name: str, operands: int, dims: int, fetch: str) -> str:
    """The function that brings A into the element type; ``fetch``: `FETCH`, or what replaces it."""
    split = SPLIT_F32.replace("@ELEMENT@", element) if a == "f32" else SPLIT_NOTHING
    return "".join(
        (
            f"typedef u16 Element;\ntypedef {'float' if a == 'f32' else 'u16'} In;\n",
            EIGHT,
            split,
            signature(f"{name}_convert", operands, dims, threads=THREADS),
            CONVERT.replace("@FETCH@", fetch),
        )
    )


FETCH = """
    const bool even = p1 % (16 / (int)sizeof(In)) == 0 && (u64)a0 % 16 == 0;
    const In *const from = (const In *)a0 + m * p1 + k;
    Eight<In> x;
    if (even && k + 8 <= K) {
      x = *(const Eight<In> *)from;
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) x.v[i] = k + i < K ? from[i] : In(0);
    }
"""
"""The elements k.. of row m of a matrix, as x."""

CONVERT = """
  launch_wait();
  // Eight elements of a row for each thread, K filled up to KP.
  Element *const to = (Element *)workspace;
  const i64 count = p0 * (KP / 8);
  for (i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x; e < count;
       e += (i64)gridDim.x * blockDim.x) {
    const i64 m = e / (KP / 8);
    const int k = (int)(e - m * (KP / 8)) * 8;
@FETCH@    Eight<Element> part[PLANES];
#pragma unroll
    for (int i = 0; i < 8; i++) split(x.v[i], i, part);
#pragma unroll
    for (int p = 0; p < PLANES; p++)
      *(Eight<Element> *)(to + ((i64)p * p0 + m) * KP + k) = part[p];
  }
}
"""

EIGHT = """
template <class E>
struct alignas(8 * sizeof(E)) Eight {
  E v[8];
};
"""

SPLIT_F32 = """
static __device__ __forceinline__ void split(float x, int i, Eight<u16> (&part)[PLANES]) {
#pragma unroll
  for (int p = 0; p < PLANES; p++) {
    const u16 bits = tw_to_@ELEMENT@(x);
    part[p].v[i] = bits;
    x -= tw_from_@ELEMENT@(bits);
  }
  // What has no rest goes to the last plane, which meets only the largest part of B.
  if (PLANES > 1 && (part[0].v[i] & 0x7f80) == 0x7f80) {
    part[PLANES - 1].v[i] = part[0].v[i];
#pragma unroll
    for (int p = 0; p < PLANES - 1; p++) part[p].v[i] = 0;
  }
}
"""

SPLIT_NOTHING = """
static __device__ __forceinline__ void split(u16 x, int i, Eight<u16> (&part)[PLANES]) {
  part[0].v[i] = x;
}
"""

REDUCE = """
  launch_wait();
  const i64 columns = (N + 3) / 4, count = p0 * columns;
  const float *const parts = (const float *)(workspace + PARTS_AT);
  const bool even = p2 % 4 == 0 && (u64)@C@ % (4 * sizeof(Out)) == 0;
@EXTRAS@
  for (i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x; e < count;
       e += (i64)gridDim.x * blockDim.x) {
    const i64 m = e / columns, n = (e - m * columns) * 4;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int s = 0; s < SPLIT; s++) {
      const float *const from = parts + ((i64)s * p0 + m) * N + n;
      if (N % 4 == 0) {
        const float4 x = *(const float4 *)from;
        v.x += x.x, v.y += x.y, v.z += x.z, v.w += x.w;
      } else {
        v.x += from[0];
        if (n + 1 < N) v.y += from[1];
        if (n + 2 < N) v.z += from[2];
        if (n + 3 < N) v.w += from[3];
      }
    }
    put(extras, (Out *)@C@, p2, v, m, n, p0, even);
  }
}
"""
