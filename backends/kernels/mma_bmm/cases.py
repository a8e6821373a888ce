"""Launches on which the batched matmul in f16 or bf16 is tested: those of f32_bmm, rounded."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.f32_bmm import cases as f32
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.mma_bmm.reference import run
from tilewright.backends.kernels.mma_bmm.spec import MmaBmmSpec
from tilewright.backends.kernels.mma_matmul.packing import TYPES


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    odd = f32.shaped(70, 129, 33)
    return tuple(_ours(case, dtype) for case in (*f32.cases(), *odd) for dtype in TYPES)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """B as it lies and transposed, with NaN, infinity and denormals, and a fused epilogue."""
    return tuple(_ours(case, "bf16") for case in f32.shaped(m, n, k))


def _ours(case: Case, dtype: str) -> Case:
    """The same operands with what rounding makes of them as the expectation."""
    spec = MmaBmmSpec(**vars(case.spec), dtype=dtype)
    made = replace(case, spec=spec, label=f"{case.label}-{dtype}", atol=4e-5)
    return replace(made, expected=run(spec, made.args, made.dims))
