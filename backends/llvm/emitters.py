"""From a kernel's spec to LLVM IR text: finds the emitter by where the spec's class lives."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm import irregular
from tilewright.backends.llvm.irregular.kernel import IrregularKernel
from tilewright.backends.llvm.microkernel import Block, SharingModule, define
from tilewright.backends.llvm.region.kernel import emit_region
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.target import Target

_FAMILIES = "tilewright.backends.kernels."


@dataclass(frozen=True)
class EntryPoints:
    """The module of the model's own entry points, already text."""

    text: str


def kernel_name(spec: Hashable, target: Target) -> str:
    """The symbol of the kernel of `spec`: what it is, and a digest that tells specs apart."""
    digest = hashlib.sha256(repr(spec).encode()).hexdigest()[:8]
    return f"{label(spec)}_{target.name.replace('-', '_')}_{digest}"


def label(spec: Hashable) -> str:
    """The kernel family of `spec`, for symbols and reports."""
    module = type(spec).__module__
    if module.startswith(_FAMILIES):
        return module.removeprefix(_FAMILIES).split(".")[0]
    if isinstance(spec, EntryPoints):
        return "entry_points"
    if isinstance(spec, MicroKernels):
        return "micro_kernels"
    if isinstance(spec, IrregularKernel):
        return spec.family
    return "region"


@dataclass(frozen=True)
class MicroKernels:
    """The register blocks that the kernels of a model share."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Emitted:
    """LLVM IR of a kernel, the tier that made it, and the shared blocks that it calls."""

    text: str
    tier: str
    blocks: frozenset[Block] = frozenset()


def emit_shared(spec: Hashable, target: Target, name: str) -> Emitted:
    """LLVM IR of the kernel of `spec` as the function `name`, its micro-kernels only declared."""
    module = SharingModule(name)
    text, tier = _emit(module, spec, target, name)
    return Emitted(text, tier, frozenset(module.blocks))


def emit_text(spec: Hashable, target: Target, name: str) -> tuple[str, str]:
    """LLVM IR of the kernel of `spec` with all that it calls, and the tier that made it."""
    return _emit(ir.Module(name), spec, target, name)


def _emit(module: ir.Module, spec: Hashable, target: Target, name: str) -> tuple[str, str]:
    if isinstance(spec, EntryPoints):
        return spec.text, "llvm"
    module.triple = target.triple
    if isinstance(spec, MicroKernels):
        for block in spec.blocks:
            define(module, target, block)
        return str(module), "llvm"
    where = type(spec).__module__
    if where.startswith(_FAMILIES):
        emit = family(label(spec)).emit
        assert emit is not None, f"{label(spec)} has no kernel for CPUs"
        emit(module, spec, target, name)
        return str(module), "llvm"
    if isinstance(spec, IrregularKernel):
        irregular.emit(module, spec, name, target)
        return str(module), "llvm"
    if isinstance(spec, RegionSpec):
        made = emit_region(module, spec, target, name, "llvm" if target.gpu else "mlir")
        return (made.text or str(module)), made.tier
    raise ValueError(f"no emitter for {type(spec).__name__}")
