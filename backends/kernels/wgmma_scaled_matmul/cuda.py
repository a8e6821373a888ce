"""The kernel's text for a spec: wgmma_matmul's template with 8-bit elements and scales."""

from __future__ import annotations

from tilewright.backends.cuda import epilogue as epilogues
from tilewright.backends.cuda import wgmma
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.wgmma_matmul import template, writing
from tilewright.backends.kernels.wgmma_scaled_matmul.spec import DEPTH, WgmmaScaledMatmulSpec
from tilewright.backends.target import Target

THREADS = 256
"""Of blocks that quantize a row."""

SCALED = """
struct Scaled {
  Extras extras;
  const float *rows, *columns;
};
static __device__ __forceinline__ float finish(const Scaled &e, Sum v, i64 m, i64 n) {
  return epilogue(e.extras, (float)v * (e.rows[m] * e.columns[n]), m, n);
}
"""

GATHERED = """  const Scaled extras = {given, (const float *)(workspace + p0 * KP),
                         (const float *)((const char *)a1 + (i64)N * KP)};
"""

CODES = {
    "s8": """
constexpr float MOST = 127.0f;
static __device__ __forceinline__ u16 codes(float x, float y) {
  const float low = fminf(fmaxf(rintf(x), -MOST), MOST), high = fminf(fmaxf(rintf(y), -MOST), MOST);
  return (u16)(((int)low & 255) | ((int)high & 255) << 8);
}
""",
    "e4m3": """
constexpr float MOST = 448.0f;
static __device__ __forceinline__ u16 e4m3_pair(float x, float y) {
  u16 pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(y), "f"(x));
  return pair;
}
static __device__ __forceinline__ u16 codes(float x, float y) { return e4m3_pair(x, y); }
""",
}
"""Greatest code, and two codes of numbers of that size."""

QUANTIZE = """
static __device__ __forceinline__ float wide(float x) { return x; }
static __device__ __forceinline__ float wide(u16 x) { return tw_from_bf16(x); }

// A block for each row: the greatest magnitude (as bits, so that what is not finite is greater),
// then codes; the scale of a row that is not finite is not a number.
@SIGNATURE@  launch_wait();
  __shared__ u32 greatest[@THREADS@ / 32];
  const i64 m = blockIdx.x;
  const In *const row = (const In *)a0 + m * p1;
  u32 most = 0;
#pragma unroll 4
  for (int k = threadIdx.x; k < K; k += @THREADS@)
    most = max(most, __float_as_uint(wide(row[k])) & 0x7fffffffu);
#pragma unroll
  for (int i = 16; i; i /= 2) most = max(most, __shfl_xor_sync(~0u, most, i));
  if (threadIdx.x % 32 == 0) greatest[threadIdx.x / 32] = most;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < @THREADS@ / 32; i++) most = max(most, greatest[i]);
  const bool finite = most < 0x7f800000u, some = finite && most >= @LEAST@u;
  const float top = __uint_as_float(most), inverse = some ? __fdiv_rn(MOST, top) : 0.0f;
  if (threadIdx.x == 0)
    ((float *)(workspace + p0 * KP))[m] =
        !finite ? __uint_as_float(0x7fc00000u) : some ? __fdiv_rn(top, MOST) : 0.0f;
  for (int k = threadIdx.x * 8; k < KP; k += @THREADS@ * 8) {
    u16 pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int at = k + 2 * i;
      const float x = at < K && finite ? wide(row[at]) : 0.0f;
      const float y = at + 1 < K && finite ? wide(row[at + 1]) : 0.0f;
      pairs[i] = codes(x * inverse, y * inverse);
    }
    *(uint2 *)(workspace + m * KP + k) =
        make_uint2(pairs[0] | (u32)pairs[1] << 16, pairs[2] | (u32)pairs[3] << 16);
  }
}
"""

LEAST = "0x03800000"
"""Bits of formats.activations.LEAST."""


def supports(target: Target) -> bool:
    """wgmma is only there on Hopper itself."""
    return target.name == "sm_90a"


def emit(spec: WgmmaScaledMatmulSpec, target: Target, name: str) -> CudaKernel:
    """Entries: rows of A as codes, and the product.

    Raises ValueError for a target without wgmma."""
    if not supports(target):
        raise ValueError(f"{target.name} has no wgmma")
    tile, row = spec.tile, spec.row
    a = TensorMap(WORKSPACE, "u8", (str(spec.k), "p0"), (str(row),), (DEPTH, tile.rows))
    b = TensorMap(1, "u8", (str(spec.k), str(spec.n)), (str(row),), (DEPTH, tile.columns))
    product = Entry(
        ("min(units, sms)", "1", "1"),
        (tile.threads, 1, 1),
        str(tile.shared(1)),
        maps=(a, b),
        overlaps=True,
    )
    rows = Entry(("p0", "1", "1"), (THREADS, 1, 1), suffix="_rows", overlaps=True)
    return CudaKernel(_text(spec, name), (rows, product), f"p0 * {row + 4}")


def _text(spec: WgmmaScaledMatmulSpec, name: str) -> str:
    tile, real = spec.tile, spec.element == "e4m3"
    operands, dims = 3 + len(spec.epilogue.extras), 3 + spec.epilogue.stride_count
    each = tile.rows // tile.groups
    constants = {
        "N": spec.n,
        "K": spec.k,
        "KP": spec.row,
        "STEPS": spec.steps,
        "BM": tile.rows,
        "BN": tile.columns,
        "BK": DEPTH,
        "WM": each,
        "MT": each // 64,
        "STAGES": tile.stages,
        "GROUPS": tile.groups,
        "CLUSTER": 1,
        "SPLIT": 1,
        "PLANES": 1,
        "PRODUCTS": 1,
        "LEFTS": 0,
        "RIGHTS": 0,
        "TURNS": 192,
        "STAGE_BYTES": (tile.rows + tile.columns) * DEPTH,
    }
    head = "".join(f"constexpr int {key} = {value};\n" for key, value in constants.items())
    head += f"constexpr u32 RASTER = {tile.raster}, ACROSS = {spec.across};\n"
    head += "constexpr bool TOGETHER = true;\n"
    piece = writing.STORES[spec.c] + "typedef Out Piece;\n"
    piece += writing.PIECE.replace("@ELEMENT@", "bf16")
    gathered = epilogues.gather(spec.epilogue, 2, 3, name="given") + GATHERED
    body = (
        template.BODY.replace("@EXTRAS@", gathered)
        .replace("@MULTIPLY@", template.SPLIT_PRODUCTS if real else template.PLAIN)
        .replace("@AHEAD@", "")
        .replace("@WRITE@", writing.FRAGMENTS)
        .replace("@OUT@", template.OUT)
        .replace("@C@", f"a{operands - 1}")
    )
    quantize = (
        QUANTIZE.replace("@SIGNATURE@", signature(f"{name}_rows", operands, dims, threads=THREADS))
        .replace("@THREADS@", str(THREADS))
        .replace("@LEAST@", LEAST)
    )
    return "".join(
        (
            '#include "hopper.cuh"\n\n',
            head,
            wgmma.multiply(tile.columns, "e4m3_e4m3" if real else "s8_s8"),
            epilogues.declare(spec.epilogue, fast=spec.c == "bf16"),
            piece,
            SCALED,
            template.TILE_OF,
            template.RELEASE,
            template.BRING,
            signature(name, operands, dims, maps=2, threads=tile.threads),
            body,
            CODES[spec.element],
            f"typedef {'float' if spec.a == 'f32' else 'u16'} In;\n",
            quantize,
        )
    )
