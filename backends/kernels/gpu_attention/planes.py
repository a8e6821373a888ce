"""Q, K and V as bf16 in the workspace: rounded, or split into several values of each.

    Q [plane][batch][head][query][size], then K and V alike with their own heads and keys; sizes are
    filled up with zeros to a multiple of 16

A value that is infinite or NaN, or rounds to infinity, is in the last plane alone, where it only
meets the first one of the other factor.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.kernel import WORKSPACE, TensorMap
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec

THREADS = 256


@dataclass(frozen=True)
class Part:
    """One of Q, K and V: formulas of its sequence, of its heads and of its strides (batch, head,
    sequence)."""

    size: int
    sequence: str
    heads: str
    strides: tuple[str, str, str]

    def elements(self, planes: int) -> str:
        """In the workspace."""
        return f"{planes * padded(self.size)} * p0 * {self.heads} * {self.sequence}"

    @property
    def pieces(self) -> str:
        """Of 8 sizes, one for each thread."""
        return f"{padded(self.size) // 8} * p0 * {self.heads} * {self.sequence}"


def padded(size: int) -> int:
    """Sizes with those that fill up."""
    return -(-size // 16) * 16


def parts(spec: GpuAttentionSpec) -> tuple[Part, Part, Part]:
    """Q, K and V."""
    shared = "(p1 // max(p4, 1))"
    return (
        Part(spec.head_dim, "p2", "p1", ("p6", "p7", "p8")),
        Part(spec.head_dim, "p3", shared, ("p9", "p10", "p11")),
        Part(spec.value_dim, "p3", shared, ("p12", "p13", "p14")),
    )


def steps(part: Part) -> tuple[str, str, str]:
    """Its strides, 0 for a batch or a head that is the only one: those may be anything."""
    batch, head, step = part.strides
    return f"{batch} * min(1, p0 - 1)", f"{head} * min(1, {part.heads} - 1)", step


def size(spec: GpuAttentionSpec, planes: int) -> str:
    """Bytes of the workspace, a formula."""
    return f"2 * ({' + '.join(part.elements(planes) for part in parts(spec))})"


def blocks(spec: GpuAttentionSpec) -> str:
    """Of the entry that splits, a formula."""
    return f"ceildiv({' + '.join(part.pieces for part in parts(spec))}, {THREADS})"


def maps(spec: GpuAttentionSpec, planes: int, rows: tuple[int, ...]) -> tuple[TensorMap, ...]:
    """Boxes of ``rows`` of Q, K and V: sizes, sequence, heads of all, planes."""
    found, before = [], "0"
    for part, height in zip(parts(spec), rows, strict=True):
        width = next(c for c in (64, 32, 16) if padded(part.size) % c == 0)
        line = f"{2 * padded(part.size)}"
        head = f"{line} * {part.sequence}"
        found.append(
            TensorMap(
                WORKSPACE,
                "bf16",
                dims=(str(padded(part.size)), part.sequence, f"p0 * {part.heads}", str(planes)),
                strides=(line, head, f"{head} * p0 * {part.heads}"),
                box=(width, height, 1, 1),
                swizzle=2 * width,
                offset=f"2 * ({before})",
            )
        )
        before = f"{before} + {part.elements(planes)}"
    return tuple(found)


SPLIT = r"""
template <int SIZE, class T>
static __device__ __forceinline__ void split(const T *from, i64 batch, i64 head, i64 step,
                                             unsigned heads, unsigned length, unsigned at,
                                             unsigned pieces, u16 *to) {
  constexpr int PADDED = (SIZE + 15) / 16 * 16, ACROSS = PADDED / 8;
  const unsigned above = at / ACROSS, first = at % ACROSS * 8;
  const unsigned i = above % length, h = above / length % heads, b = above / length / heads;
  from += b * batch + h * head + i * step + first;
  float x[8];
  if (sizeof(T) == 4 && first + 8 <= SIZE && (u64)from % 16 == 0) {
    const float4 one = *(const float4 *)from, two = *(const float4 *)(from + 4);
    x[0] = one.x, x[1] = one.y, x[2] = one.z, x[3] = one.w;
    x[4] = two.x, x[5] = two.y, x[6] = two.z, x[7] = two.w;
  } else {
#pragma unroll
    for (int n = 0; n < 8; n++) x[n] = first + n < SIZE ? widen(from[n]) : 0.0f;
  }
  float last[8];
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const float whole = __uint_as_float(pack(0.0f, x[n]) & 0xffff0000u);
    const bool finite = fabsf(whole) < INF;
    last[n] = finite ? 0.0f : x[n];
    x[n] = finite ? x[n] : 0.0f;
  }
#pragma unroll
  for (int plane = 0; plane < SPLIT_PLANES; plane++) {
    u32 w[4];
#pragma unroll
    for (int n = 0; n < 4; n++) {
      float one = x[2 * n], two = x[2 * n + 1];
      if (plane == SPLIT_PLANES - 1) one += last[2 * n], two += last[2 * n + 1];
      w[n] = pack(one, two);
      x[2 * n] -= __uint_as_float(w[n] << 16);
      x[2 * n + 1] -= __uint_as_float(w[n] & 0xffff0000u);
    }
    *(uint4 *)(to + ((i64)plane * pieces + at) * 8) = make_uint4(w[0], w[1], w[2], w[3]);
  }
}
"""

START = r"""
  WAIT
  constexpr int ACROSS = (HD + 15) / 16 * 2, OVER = (VD + 15) / 16 * 2;
  const unsigned shared_heads = (unsigned)p1 / (unsigned)p4;
  const unsigned rows = (unsigned)(p0 * p1 * p2), keys = (unsigned)(p0 * p3) * shared_heads;
  const unsigned nq = rows * ACROSS, nk = keys * ACROSS, nv = keys * OVER;
  const unsigned at = blockIdx.x * 256 + threadIdx.x;
  u16 *q = (u16 *)workspace;
  u16 *k = q + (i64)nq * 8 * SPLIT_PLANES, *v = k + (i64)nk * 8 * SPLIT_PLANES;
  if (at < nq)
    split<HD>((const QT *)a0, p6, p7, p8, (unsigned)p1, (unsigned)p2, at, nq, q);
  else if (at < nq + nk)
    split<HD>((const KT *)a1, p9, p10, p11, shared_heads, (unsigned)p3, at - nq, nk, k);
  else if (at < nq + nk + nv)
    split<VD>((const VT *)a2, p12, p13, p14, shared_heads, (unsigned)p3, at - nq - nk, nv, v);
}
"""
