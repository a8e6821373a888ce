"""CUDA C++ of the 8-bit matmul, by mma.m16n8k32.

The packed B of CPUs is in the order of mma's operands as it is: a word holds four k of one column,
and 8 x 4 of them are what a warp's threads give to an instruction. A warp computes 32 columns, one
panel, of 16 or 32 rows; A is read from where it lies, a word a thread, and quantized there. Sums
are exact modulo 2**32.
"""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_block import steps
from tilewright.backends.llvm.int8_gemm import panel_bytes
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

WARPS = 4
FEW = 16
"""Rows up to which a block has a single tile of rows."""

_A = {"u8": "unsigned char", "s8": "signed char", "f32_tensor": "float"}
_C = {"i32": "int", "f32": "float", "u8": "unsigned char", "s8": "signed char"}
_STORE = {
    "i32": "{0}",
    "f32": "(float){0}",
    "u8": "(unsigned char)(int)fminf(fmaxf({0}, 0.0f), 255.0f)",
    "s8": "(signed char)(int)fminf(fmaxf({0}, -128.0f), 127.0f)",
}

_TEXT = """
typedef {a} Left;
static constexpr long long K = {k}, N = {n}, PANEL_BYTES = {panel_bytes}, PANELS = {panels};

// C += A B of 16 x 8 x 32.
static __device__ __forceinline__ void multiply(
    int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {{
  asm("mma.sync.aligned.m16n8k32.row.col.s32.{kind}.s8.s32 "
      "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}}

// value - point * total modulo 2**32
static __device__ __forceinline__ int wrapped(int value, int point, int total) {{
  return (int)((tw_u32)value - (tw_u32)point * (tw_u32)total);
}}

struct Quantizer {{
  float scale, zero;
  __device__ __forceinline__ unsigned operator()(unsigned char x) const {{ return x; }}
  __device__ __forceinline__ unsigned operator()(signed char x) const {{ return (unsigned char)x; }}
  __device__ __forceinline__ unsigned operator()(float x) const {{
    const float y = rintf(__fdiv_rn(x, scale)) + zero;
    return y > 0.0f ? (unsigned)fminf(y, 255.0f) : 0u;
  }}
}};

// Elements k .. k + 3 of a row as bytes; 0 where there is no row, and from K on.
static __device__ __forceinline__ unsigned four(
    const Left *row, long long k, bool words, const Quantizer &quantizer) {{
  if (row == nullptr) return 0;
  if (words && k + 4 <= K) return *(const unsigned *)(row + k);
  unsigned found = 0;
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (k + i < K) found |= quantizer(row[k + i]) << (8 * i);
  return found;
}}

template <int T>  // tiles of 16 rows
static __device__ __forceinline__ void product(
    const Left *a, const char *b, {c} *c, long long m, long long lda, long long ldc,
    const Extras &extras, const Quantizer &quantizer, long long m0, long long panel) {{
  if (panel >= PANELS || m0 >= m) return;
  const int lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
  const char *base = b + panel * PANEL_BYTES;
  const unsigned *packed = (const unsigned *)base;
  const bool words = sizeof(Left) == 1 && (((tw_u64)a | (tw_u64)lda) & 3) == 0;
  const Left *rows[T][2];
#pragma unroll
  for (int t = 0; t < T; t++)
#pragma unroll
    for (int half = 0; half < 2; half++) {{
      const long long row = m0 + t * 16 + half * 8 + group;
      rows[t][half] = row < m ? a + row * lda : nullptr;
    }}
  int sums[T][4][4] = {{}}, left[T][2] = {{}};
#pragma unroll 2
  for (long long k = 0; k < {depth}; k += 32) {{
    unsigned x[T][4];
#pragma unroll
    for (int t = 0; t < T; t++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        x[t][i] = four(rows[t][i % 2], k + quad * 4 + i / 2 * 16, words, quantizer);
    if ({zero_points}) {{
#pragma unroll
      for (int t = 0; t < T; t++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          left[t][i % 2] = {dot};
    }}
    const unsigned *at = packed + (k / 4 + quad) * 32 + group;
#pragma unroll
    for (int j = 0; j < 4; j++) {{
      const unsigned b0 = at[j * 8], b1 = at[j * 8 + 4 * 32];
#pragma unroll
      for (int t = 0; t < T; t++) multiply(sums[t][j], x[t], b0, b1);
    }}
  }}
  const int *points = (const int *)(base + {depth} * 32) + 32;
#pragma unroll
  for (int t = 0; t < T; t++)
#pragma unroll
    for (int half = 0; half < 2; half++) {{
      int total = left[t][half];
      total += __shfl_xor_sync(~0u, total, 1);
      total += __shfl_xor_sync(~0u, total, 2);
      const long long row = m0 + t * 16 + half * 8 + group;
#pragma unroll
      for (int j = 0; j < 4; j++)
#pragma unroll
        for (int i = 0; i < 2; i++) {{
          const int column = j * 8 + quad * 2 + i;
          const long long n = panel * 32 + column;
          int value = sums[t][j][half * 2 + i];
          if (row < m && n < N) {{
            if ({zero_points}) value = wrapped(value, points[column], total);
            const auto result = epilogue(extras, value, row, n);
            c[row * ldc + n] = {store};
          }}
        }}
    }}
}}
"""


def kernel(spec: Int8MatmulSpec, _target: Target, name: str) -> CudaKernel:
    """A function for few rows, whose warps lie side by side, and one for many."""
    unsigned = spec.a != "s8"
    ones = "0x01010101u" if unsigned else "0x01010101"
    dot = (
        f"(int)__dp4a(x[t][i], {ones}, (unsigned)left[t][i % 2])"
        if unsigned
        else f"__dp4a((int)x[t][i], {ones}, left[t][i % 2])"
    )
    text = _TEXT.format(
        a=_A[spec.a],
        c=_C[spec.out],
        k=spec.k,
        n=spec.n,
        panel_bytes=panel_bytes(spec.k, spec.zero_points),
        panels=spec.panel_count,
        kind="u8" if unsigned else "s8",
        depth=steps(spec.k) * STEP,
        zero_points="true" if spec.zero_points else "false",
        dot=dot,
        store=_STORE[spec.out].format("result"),
    )
    parts = [declare(spec.epilogue, "i32"), text]
    entries = []
    for suffix, tiles, down, condition in (
        ("_few", 1, 1, when(f"{FEW + 1} - p0")),
        ("_many", 2, 2, when(f"p0 - {FEW}")),
    ):
        parts.append(_function(spec, name + suffix, tiles, down))
        across = -(-spec.panel_count // (WARPS // down))
        blocks = f"{condition} * ceildiv(p0, {16 * tiles * down})"
        entries.append(Entry((str(across), blocks, "1"), (32 * WARPS, 1, 1), suffix=suffix))
    return CudaKernel("".join(parts), tuple(entries))


def _function(spec: Int8MatmulSpec, name: str, tiles: int, down: int) -> str:
    """Warps ``down`` one another, the others side by side."""
    operands = spec.given + len(spec.epilogue.extras) + 1
    quantizer = "{0.0f, 0.0f}"
    if spec.a == "f32_tensor":
        quantizer = "{*(const float *)a2, (float)*(const unsigned char *)a3}"
    strides = sum(extra.index in ("col", "full") for extra in spec.epilogue.extras)
    return (
        signature(name, operands, 3 + strides, threads=32 * WARPS)
        + gather(spec.epilogue, spec.given, 3)
        + f"  const Quantizer quantizer = {quantizer};\n"
        + f"  const int warp = threadIdx.x / 32, along = {WARPS // down};\n"
        + f"  const tw_i64 m0 = ((tw_i64)blockIdx.y * {down} + warp / along) * {16 * tiles};\n"
        + "  const long long panel = (long long)blockIdx.x * along + warp % along;\n"
        + f"  product<{tiles}>((const Left *)a0, (const char *)a1,\n"
        + f"      ({_C[spec.out]} *)a{operands - 1}, p0, p1, p2, extras, quantizer, m0, panel);\n"
        + "}\n"
    )


assert PANEL == 32, "a warp's columns are those of a panel"
