"""CUDA C++ of the matmul in f16 or bf16."""

from __future__ import annotations

from tilewright.backends.cuda import fewrows
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec
from tilewright.backends.target import Target


def kernel(spec: MmaMatmulSpec, target: Target, name: str) -> CudaKernel:
    """A function for each range of rows."""
    return fewrows.kernel(spec.weights, spec.epilogue, target, name)
