"""CUDA C++ of the batched matmul in f16 or bf16."""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import declare
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.mma_bmm.spec import TILE, MmaBmmSpec
from tilewright.backends.kernels.simt_bmm.cuda import problem
from tilewright.backends.target import Target

THREADS = 128

PROBLEM = """#include "mmatile.cuh"

typedef long long i64;

struct Problem {{
  static constexpr bool half = {half}, transposed = {transposed};
  const float *a, *b;
  float *c;
  i64 m, k, columns, lda, ldb, ldc;
  Extras extras;
}};
"""


def kernel(spec: MmaBmmSpec, _target: Target, name: str) -> CudaKernel:
    """One function; a block is a tile of one batch element."""
    m, n = f"p{spec.matrix_dim}", f"p{spec.matrix_dim + 2}"
    kinds = {"half": spec.dtype == "f16", "transposed": spec.transposed}
    text = (
        declare(spec.epilogue)
        + PROBLEM.format(**{key: str(value).lower() for key, value in kinds.items()})
        + signature(name, spec.operands, spec.dims, threads=THREADS)
        + f"  const i64 across = ({n} + {TILE - 1}) / {TILE};\n"
        f"  const i64 down = ({m} + {TILE - 1}) / {TILE};\n"
        "  const i64 n0 = blockIdx.x % across;\n"
        "  const i64 m0 = blockIdx.x / across % down;\n"
        "  i64 batch = blockIdx.x / across / down;\n"
        + problem(spec)
        + f"  mma_tile(p, m0 * {TILE}, n0 * {TILE});\n"
        "}\n"
    )
    grid = (f"{spec.batch} * ceildiv({m}, {TILE}) * ceildiv({n}, {TILE})", "1", "1")
    return CudaKernel(text, (Entry(grid, (THREADS, 1, 1)),))
