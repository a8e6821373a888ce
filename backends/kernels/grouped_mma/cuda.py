"""CUDA C++ of the matmul with group-wise integer weights."""

from __future__ import annotations

from tilewright.backends.cuda import fewrows
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec
from tilewright.backends.target import Target


def kernel(spec: GroupedMmaSpec, target: Target, name: str) -> CudaKernel:
    """A function for each range of rows."""
    return fewrows.kernel(spec.weights, spec.epilogue, target, name, spec.a, spec.c)
