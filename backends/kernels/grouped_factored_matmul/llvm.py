"""LLVM emitter of the matmul with two factors of integers."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.factored_matmul import llvm
from tilewright.backends.kernels.grouped_factored_matmul.spec import GroupedFactoredMatmulSpec
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """x86-64 with FMA and conversions of f16, that is from AVX2 on."""
    return target.triple.startswith("x86_64") and "f16c" in target.all_features


def emit(
    module: ir.Module, spec: GroupedFactoredMatmulSpec, target: Target, name: str
) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no conversions of f16")
    return llvm.emit(module, spec, target, name)
