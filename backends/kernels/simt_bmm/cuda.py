"""CUDA C++ of the batched f32 matmul of two activations."""

from __future__ import annotations

from tilewright.backends.cuda import simt
from tilewright.backends.cuda.epilogue import ELEMENTS, declare
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.simt_bmm.spec import SimtBmmSpec
from tilewright.backends.llvm.epilogue import INDEX_STRIDES
from tilewright.backends.target import Target

PROBLEM = """
struct Problem {{
  typedef float Element;
  const float *a, *b;
  float *c;
  i64 m, k, columns, lda, ldb, ldc;
  Extras extras;
  static constexpr i64 first = 0;
{methods}}};
"""


def kernel(spec: SimtBmmSpec, _target: Target, name: str) -> CudaKernel:
    """A function for each tile."""
    methods = simt.ROWS_A + (simt.COLUMNS_B if spec.transposed else simt.ROWS_B) + simt.STORE
    parts = [declare(spec.epilogue), simt.PRODUCT, PROBLEM.format(methods=methods)]
    m, n = f"p{spec.matrix_dim}", f"p{spec.matrix_dim + 2}"
    grids = simt.grids(m, n, spec.batch)
    entries = []
    for tile_name, tile in simt.TILES.items():
        suffix = f"_{tile_name}"
        parts.append(
            signature(name + suffix, spec.operands, spec.dims, threads=tile.threads)
            + "  extern __shared__ __align__(16) char shared[];\n"
            f"  const i64 across = ({n} + {tile.columns - 1}) / {tile.columns};\n"
            f"  const i64 down = ({m} + {tile.rows - 1}) / {tile.rows};\n"
            "  const i64 n0 = blockIdx.x % across;\n"
            "  const i64 m0 = blockIdx.x / across % down;\n"
            "  i64 batch = blockIdx.x / across / down;\n"
            + problem(spec)
            + f"  product<{tile.arguments}>(p, m0 * {tile.rows}, n0 * {tile.columns}, shared);\n"
            + "}\n"
        )
        grid = (grids[tile_name], "1", "1")
        shared = str(tile.shared())
        entries.append(Entry(grid, (tile.threads, 1, 1), shared=shared, suffix=suffix))
    return CudaKernel("".join(parts), tuple(entries))


def problem(spec: SimtBmmSpec) -> str:
    """Text that makes the problem ``p`` of the batch element ``batch``."""
    r, extras = spec.batch_rank, spec.epilogue.extras
    firsts = [spec.strides_dim(i) for i in range(3)]
    firsts += [spec.extra_dim(i) for i in range(len(extras))]
    lines = [f"  i64 {', '.join(f'o{i} = 0' for i in range(len(firsts)))};"]
    for d in range(r - 1, -1, -1):
        lines.append(f"  {{ const i64 index = batch % p{d}; batch /= p{d};")
        lines += [f"    o{i} += index * p{first + d};" for i, first in enumerate(firsts)]
        lines.append("  }")
    m = spec.matrix_dim
    lines += [
        "  Problem p;",
        "  p.a = (const float *)a0 + o0, p.b = (const float *)a1 + o1;",
        f"  p.c = (float *)a{spec.operands - 1} + o2;",
        f"  p.m = p{m}, p.k = p{m + 1}, p.columns = p{m + 2};",
        f"  p.lda = p{firsts[0] + r}, p.ldb = p{firsts[1] + r}, p.ldc = p{firsts[2] + r};",
        "  p.extras = {};",
    ]
    for i, extra in enumerate(extras):
        kind = ELEMENTS[extra.dtype]
        lines.append(f"  p.extras.x{i} = (const {kind} *)a{2 + i} + o{3 + i};")
        if INDEX_STRIDES[extra.index]:
            lines.append(f"  p.extras.s{i} = p{firsts[3 + i] + r};")
    return "\n".join(lines) + "\n"
