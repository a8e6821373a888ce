"""Matmul with 8-bit floats that a model brings: f8_matmul, with A read as it is.

Packed B is that of f8_matmul. Every product is done in f32 with the model's own numbers; where the
bound on errors allows products of bf16, which hold these numbers exactly, A is rounded to bf16.
"""

from tilewright.backends.kernels.f8_coded_matmul import cases, spec
from tilewright.backends.kernels.f8_matmul import cost, llvm, packing, reference
from tilewright.backends.kernels.f8_matmul import spec as shared
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f8_coded_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=shared.units,
    scratch_bytes=shared.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=shared.layout,
    codes=True,
)

__all__ = ["FAMILY"]
