"""LLVM emitter of the bf16 matmul with factors of blocks."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_blocked_matmul.spec import Bf16BlockedMatmulSpec
from tilewright.backends.kernels.blocked_matmul import llvm
from tilewright.backends.llvm import bf16
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with bf16 instructions on 512-bit vectors; AMX where they have it."""
    return bf16.has_dots(target)


def emit(module: ir.Module, spec: Bf16BlockedMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    return llvm.emit(module, spec, target, name)
