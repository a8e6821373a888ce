"""Spec of the f16 convolution, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.f16_matmul import spec as matmul
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.kernels.f32_conv import spec as f32
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import ConvTask
from tilewright.backends.llvm import f16_gemm
from tilewright.backends.llvm.f16_gemm import HALF, SCRATCH_BYTES, row_stride, wide_bytes
from tilewright.backends.target import Target


@dataclass(frozen=True)
class HalfConvTask(ConvTask):
    """A ConvTask whose filters have only f16 numbers; what computes that one computes this one."""


@dataclass(frozen=True)
class F16ConvSpec(ConvSpec):
    """ConvSpec with the same args, dims and pads, X and Y f32; ``chain`` as in F16MatmulSpec.

    Raises ValueError for a depthwise convolution.
    """

    chain: int = 0

    def __post_init__(self) -> None:
        if self.depthwise:
            raise ValueError("a depthwise convolution has no f16 kernel; use f32_conv")

    @property
    def matrix(self) -> F16MatmulSpec:
        """The product of one group."""
        return F16MatmulSpec(self.k, self.group_outputs, self.chain)

    @property
    def rows_per_unit(self) -> int:
        """Pixels: their rows keep to 1 MiB."""
        return self.rows or max(12, min(120, (1 << 20) // (4 * max(self.k, 1)) // 12 * 12))


def units(spec: F16ConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f32.units(spec)


def gathered_bytes(spec: F16ConvSpec) -> int:
    """Bytes of the gathered rows of a unit (0: X is that matrix), with 16 floats of slack."""
    return 0 if spec.pointwise else 4 * (spec.rows_per_unit * spec.row_stride + 16)


def scratch_bytes(spec: F16ConvSpec) -> str:
    """Bytes of scratch a thread needs: a block of C, the gathered rows; those in f16, or a widened
    panel and sums of the slices before."""
    once, row = 0, HALF * row_stride(spec.k)
    if not spec.chain:
        once, row = wide_bytes(spec.k, spec.matrix.depth, spec.panels_per_unit)
    return str(SCRATCH_BYTES + gathered_bytes(spec) + once + row * spec.rows_per_unit)


def candidates(task: Any, target: Target) -> tuple[F16ConvSpec, ...]:
    """Products in f32 and, where there are f16 ones, those; nothing for depthwise filters."""
    if not isinstance(task, HalfConvTask) or f32.candidates(task, target)[0].depthwise:
        return ()
    chains = (0, matmul.CHAIN) if f16_gemm.has_chains(target) else (0,)
    return tuple(F16ConvSpec(**vars(task), chain=chain) for chain in chains)


def variants(spec: F16ConvSpec, _target: Target) -> tuple[F16ConvSpec, ...]:
    """The same with half and with twice as many pixels a unit."""
    rows = spec.rows_per_unit
    return (spec, *(replace(spec, rows=r) for r in (rows // 2, 2 * rows) if r >= 12))


def accuracy(spec: F16ConvSpec) -> float:
    """Of rounded rows and f16 sums."""
    return matmul.accuracy(spec.matrix)


def layout(spec: F16ConvSpec) -> Layout:
    """Of the packed filters: those of the matmul, group by group."""
    one = matmul.layout(spec.matrix)
    return Layout(f"filters as {one.name}", one.bytes * spec.groups)
