"""The kernel's text for a spec: wgmma_matmul's template with 8-bit elements."""

from __future__ import annotations

from tilewright.backends.cuda import epilogue as epilogues
from tilewright.backends.cuda import wgmma
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.wgmma_int8_matmul.spec import DEPTH, WgmmaInt8MatmulSpec
from tilewright.backends.kernels.wgmma_matmul import template, writing
from tilewright.backends.target import Target

THREADS = 256
"""Of blocks that convert."""

RESULTS = {
    "i32": ("int", "return x;"),
    "f32": ("float", "return x;"),
    "u8": ("unsigned char", "return (unsigned char)fminf(fmaxf(x, 0.0f), 255.0f);"),
    "s8": ("signed char", "return (signed char)(int)fminf(fmaxf(x, -128.0f), 127.0f);"),
}
"""Type of C, and what makes it of what the epilogue gives."""

PIECE = """
typedef @OUT@ Out;
typedef Out Piece;
// As in the product of 16-bit numbers: rows of WIDE columns, PITCH apart.
constexpr int WIDE = sizeof(Piece) == 4 || BN % 64 ? 32 : 64;
constexpr int EACH = 16 / sizeof(Piece), LANES = WIDE / EACH, PITCH = WIDE + EACH;
static __device__ __forceinline__ Out narrow(@VALUE@ x) { @NARROW@ }
static __device__ __forceinline__ void put2(Piece *to, @VALUE@ x, @VALUE@ y) {
  struct alignas(2 * sizeof(Piece)) Two { Piece x, y; };
  *(Two *)to = Two{narrow(x), narrow(y)};
}
static __device__ __forceinline__ @VALUE@ finish(const Extras &e, int v, i64 m, i64 n) {
  return epilogue(e, v, m, n);
}
"""

CONVERT = """
  launch_wait();
  // Sixteen elements of a row for each thread, K filled up to KP.
  const i64 count = p0 * (KP / 16);
  for (i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x; e < count;
       e += (i64)gridDim.x * blockDim.x) {
    const i64 m = e / (KP / 16);
    const int k = (int)(e - m * (KP / 16)) * 16;
    const In *const from = (const In *)a0 + m * p1 + k;
    struct alignas(16) Sixteen { unsigned char v[16]; } x;
#pragma unroll
    for (int i = 0; i < 16; i++) x.v[i] = k + i < K ? @QUANTIZE@ : (unsigned char)0;
    *(Sixteen *)(workspace + m * KP + k) = x;
  }
}
"""

QUANTIZE = """
static __device__ __forceinline__ unsigned char quantize(float x, float scale, float zero) {
  const float y = rintf(__fdiv_rn(x, scale)) + zero;
  // Not a number is not greater than 0.
  return y > 0.0f ? (unsigned char)fminf(y, 255.0f) : (unsigned char)0;
}
"""


def supports(target: Target) -> bool:
    """wgmma is only there on Hopper itself."""
    return target.name == "sm_90a"


def emit(spec: WgmmaInt8MatmulSpec, target: Target, name: str) -> CudaKernel:
    """Entries: A made u8 (or copied where the tensor memory accelerator cannot read it), and the
    product over either. Raises ValueError for a target without wgmma."""
    if not supports(target):
        raise ValueError(f"{target.name} has no wgmma")
    away = "1" if spec.a == "f32_tensor" else "min(1, p1 % 16 + a0 % 16)"
    grid = f"{away} * min(ceildiv(p0 * {spec.row // 16}, {THREADS}), sms * 8)"
    entries = [
        Entry((grid, "1", "1"), (THREADS, 1, 1), suffix="_convert", overlaps=True),
        _product(spec, away, converted=True),
    ]
    if away != "1":
        entries.append(_product(spec, f"(1 - {away})", converted=False))
    return CudaKernel(_text(spec, name), tuple(entries), f"{away} * {spec.row} * p0")


def _product(spec: WgmmaInt8MatmulSpec, when: str, converted: bool) -> Entry:
    tile = spec.tile
    a = TensorMap(
        WORKSPACE if converted else 0,
        "u8",
        (str(spec.k), "p0"),
        (str(spec.row) if converted else "p1",),
        (DEPTH, tile.rows),
    )
    b = TensorMap(1, "u8", (str(spec.k), str(spec.n)), (str(spec.row),), (DEPTH, tile.columns))
    return Entry(
        (f"{when} * min(units, sms)", "1", "1"),
        (tile.threads, 1, 1),
        str(tile.shared(1)),
        maps=(a, b),
        overlaps=True,
    )


def _text(spec: WgmmaInt8MatmulSpec, name: str) -> str:
    tile = spec.tile
    operands = spec.given + len(spec.epilogue.extras) + 1
    dims = 3 + spec.epilogue.stride_count
    each = tile.rows // tile.groups if tile.together else tile.rows
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
        "TURNS": 192,
        "STAGE_BYTES": (tile.rows + tile.columns) * DEPTH,
    }
    head = "".join(f"constexpr int {key} = {value};\n" for key, value in constants.items())
    head += f"constexpr u32 RASTER = {tile.raster}, ACROSS = {spec.across};\n"
    head += f"constexpr bool TOGETHER = {str(tile.together).lower()};\n"
    out, narrow = RESULTS[spec.out]
    piece = PIECE.replace("@OUT@", out).replace("@NARROW@", narrow)
    body = (
        template.BODY.replace("@EXTRAS@", epilogues.gather(spec.epilogue, spec.given, 3))
        .replace("@MULTIPLY@", template.PLAIN)
        .replace("@AHEAD@", "")
        .replace("@WRITE@", writing.FRAGMENTS)
        .replace("@OUT@", template.OUT)
        .replace("@C@", f"a{operands - 1}")
    )
    real = spec.a == "f32_tensor"
    given = "quantize(from[i], *(const float *)a2, (float)*(const unsigned char *)a3)"
    return "".join(
        (
            '#include "hopper.cuh"\n\n',
            head,
            wgmma.multiply(tile.columns, f"{spec.element}_{spec.b}"),
            epilogues.declare(spec.epilogue, "i32"),
            piece.replace("@VALUE@", "int" if spec.out == "i32" else "float"),
            template.TILE_OF,
            template.RELEASE,
            template.BRING,
            signature(name, operands, dims, maps=2, threads=tile.threads),
            body,
            QUANTIZE if real else "",
            f"typedef {'float' if real else 'unsigned char'} In;\n",
            signature(f"{name}_convert", operands, dims, threads=THREADS),
            CONVERT.replace("@QUANTIZE@", given if real else "from[i]"),
        )
    )
