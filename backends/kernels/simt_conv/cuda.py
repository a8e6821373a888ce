"""CUDA C++ of the f32 convolution."""

from __future__ import annotations

from tilewright.backends.cuda import simt
from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.gathered import GATHER_A, geometry, row_bytes
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.f32_conv.spec import pixels
from tilewright.backends.kernels.simt_conv.spec import SimtConvSpec
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

PROBLEM = """
struct Problem {{
  typedef float Element;
  const float *a, *b;
  float *c;
  i64 m, lda, ldc, first;
  Geometry g;
  const Row *rows;
  Extras extras;
  static constexpr i64 k = {k}, columns = {n};
{methods}}};
"""

DEPTHWISE = """
  const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
  if (at >= p.m * {channels}) return;
  const i64 m = at / {channels};
  const int n = (int)(at % {channels});
  const Row row = p.g.row(m);
  const float *w = p.b + (n >> 5) * {taps} * 32 + (n & 31);
  float sum = 0.0f;
#pragma unroll 4
  for (int tap = 0; tap < {taps}; tap++) {{
    i64 from;
    if (p.g.inside(row, tap, from)) sum = fmaf(p.a[from + n], w[tap * 32], sum);
  }}
  p.c[m * p.ldc + n] = epilogue(p.extras, sum, m, n);
}}
"""


def kernel(spec: SimtConvSpec, _target: Target, name: str) -> CudaKernel:
    """A function for each tile, or the one of depthwise convolutions."""
    methods = (simt.ROWS_A if spec.pointwise else GATHER_A) + simt.PANELS_B + simt.STORE
    problem = PROBLEM.format(k=spec.k, n=spec.group_outputs, methods=methods)
    parts = [declare(spec.epilogue), simt.PRODUCT, geometry(spec), problem]
    if spec.depthwise:
        text = DEPTHWISE.format(channels=spec.channels, taps=spec.taps)
        parts.append(_begin(spec, name, 256, "0") + text)
        grid = (f"ceildiv({pixels(spec)} * {spec.channels}, 256)", "1", "1")
        return CudaKernel("".join(parts), (Entry(grid, (256, 1, 1)),))
    grids = simt.grids(pixels(spec), str(spec.group_outputs), str(spec.groups))
    entries = []
    for tile_name, tile in simt.TILES.items():
        suffix, across = f"_{tile_name}", -(-spec.group_outputs // tile.columns)
        table = 0 if spec.pointwise else row_bytes(tile.rows)
        parts.append(
            _begin(spec, name + suffix, tile.threads, f"blockIdx.x / {across} % {spec.groups}")
            + "  extern __shared__ __align__(16) char shared[];\n"
            + f"  const i64 m0 = (i64)(blockIdx.x / {across * spec.groups}) * {tile.rows};\n"
            + f"  const i64 n0 = (i64)(blockIdx.x % {across}) * {tile.columns};\n"
            + ("" if spec.pointwise else f"  p.rows = p.g.table<{tile.rows}>(shared, m0, p.m);\n")
            + f"  product<{tile.arguments}>(p, m0, n0, shared + {table});\n"
            + "}\n"
        )
        grid, shared = (grids[tile_name], "1", "1"), str(tile.shared() + table)
        entries.append(Entry(grid, (tile.threads, 1, 1), shared=shared, suffix=suffix))
    return CudaKernel("".join(parts), tuple(entries))


def _begin(spec: SimtConvSpec, name: str, threads: int, group: str) -> str:
    """Signature and the problem ``p`` of a group."""
    r, step = spec.rank, spec.step_dim
    sizes = [
        f"  p.g.in[{i}] = (int)p{1 + i}, p.g.out[{i}] = (int)p{1 + r + i};\n" for i in range(r)
    ]
    panels = -(-spec.group_outputs // PANEL) * PANEL * spec.k
    return (
        signature(name, spec.operands, spec.dims, threads=threads)
        + gather(spec.epilogue, 2, step + 1)
        + f"  const i64 group = {group};\n"
        "  Problem p;\n"
        f"  p.a = (const float *)a0 + group * {spec.group_channels};\n"
        f"  p.b = (const float *)a1 + group * {panels};\n"
        f"  p.first = group * {spec.group_outputs};\n"
        f"  p.c = (float *)a{spec.operands - 1} + p.first;\n"
        f"  p.m = {pixels(spec)}, p.lda = {spec.channels}, p.ldc = p{step};\n"
        + "".join(sizes)
        + "  p.extras = extras;\n"
    )
