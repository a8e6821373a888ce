"""Launches on which the batched f32 matmul on GPUs is tested: those of f32_bmm."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.f32_bmm import cases as f32
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.simt_bmm.spec import SimtBmmSpec


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    return tuple(_ours(case) for case in f32.cases())


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """B as it lies and transposed, with NaN, infinity and denormals, and a fused epilogue."""
    return tuple(_ours(case) for case in f32.shaped(m, n, k))


def _ours(case: Case) -> Case:
    return replace(case, spec=SimtBmmSpec(**vars(case.spec)))
