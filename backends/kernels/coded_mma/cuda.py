"""CUDA C++ of the matmul with codes."""

from __future__ import annotations

from tilewright.backends.cuda import fewrows
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.coded_mma.spec import CodedMmaSpec
from tilewright.backends.target import Target


def kernel(spec: CodedMmaSpec, target: Target, name: str) -> CudaKernel:
    """A function for each range of rows."""
    return fewrows.kernel(spec.weights, spec.epilogue, target, name)
