"""The product of codes that a ternary one is: coded_matmul's emitter and all that goes with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from tilewright.backends.kernels.coded_matmul import FAMILY as CODED
from tilewright.backends.kernels.family import Cost, Layout
from tilewright.backends.kernels.ternary_matmul.spec import TernaryMatmulSpec
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: TernaryMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    assert CODED.emit is not None
    return CODED.emit(module, spec.coded, target, name)


def reference(
    spec: TernaryMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64, exact sums."""
    return CODED.reference(spec.coded, args, dims)


def units(spec: TernaryMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    return CODED.units(spec.coded)


def scratch_bytes(spec: TernaryMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    return CODED.scratch_bytes(spec.coded)


def cost(spec: TernaryMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once."""
    return CODED.cost(spec.coded, dims, target)


def layout(spec: TernaryMatmulSpec) -> Layout:
    """Of packed B."""
    assert CODED.layout is not None
    return CODED.layout(spec.coded)


def supports(target: Target) -> bool:
    """Targets that coded_matmul has."""
    assert CODED.supports is not None
    return CODED.supports(target)
