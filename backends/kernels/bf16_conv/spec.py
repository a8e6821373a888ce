"""Spec of the bf16 convolution, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.bf16_matmul import spec as matmul
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.f32_conv import spec as f32
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import row_tile_bytes
from tilewright.backends.llvm.bf16_gemm import SCRATCH_BYTES
from tilewright.backends.target import Target


@dataclass(frozen=True)
class Bf16ConvSpec(ConvSpec):
    """ConvSpec with the same args, dims and pads; ``products`` as in Bf16MatmulSpec.

    Raises ValueError for a depthwise convolution and for an unknown number of products.
    """

    products: int = 1

    def __post_init__(self) -> None:
        if self.depthwise:
            raise ValueError("a depthwise convolution has no bf16 kernel; use f32_conv")
        _ = self.matrix

    @property
    def matrix(self) -> Bf16MatmulSpec:
        """The product of one group."""
        return Bf16MatmulSpec(self.k, self.group_outputs, self.products)

    @property
    def rows_per_unit(self) -> int:
        """Pixels, in pairs of tiles: their gathered and their converted rows keep to 1.25 MiB."""
        if self.rows:
            return self.rows
        pair = 2 * row_tile_bytes(self.k, self.matrix.planes)
        if not self.pointwise:
            pair += 2 * ROWS * 4 * self.row_stride
        return 2 * ROWS * max(1, min(4, (5 << 18) // max(pair, 1)))


def units(spec: Bf16ConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f32.units(spec)


def gathered_bytes(spec: Bf16ConvSpec) -> int:
    """Bytes of the gathered rows of a unit (0: X is that matrix), with 16 floats of slack."""
    if spec.pointwise:
        return 0
    return 4 * (spec.rows_per_unit * spec.row_stride + 16)


def scratch_bytes(spec: Bf16ConvSpec) -> str:
    """Bytes of scratch a thread needs: a block of C, the gathered rows, the block of A."""
    block = spec.rows_per_unit // ROWS * row_tile_bytes(spec.k, spec.matrix.planes)
    return str(SCRATCH_BYTES + gathered_bytes(spec) + block)


def candidates(task: Any, target: Target) -> tuple[Bf16ConvSpec, ...]:
    """Each number of products of a convolution that is not depthwise."""
    plain = f32.candidates(task, target)
    if not plain or plain[0].depthwise:
        return ()
    return tuple(Bf16ConvSpec(**vars(task), products=p) for p in matmul.ACCURACY)


def variants(spec: Bf16ConvSpec, _target: Target) -> tuple[Bf16ConvSpec, ...]:
    """The same with half and with twice as many pixels a unit."""
    rows = spec.rows_per_unit
    pairs = (r for r in (rows // 2, 2 * rows) if r % (2 * ROWS) == 0)
    return (spec, *(replace(spec, rows=r) for r in pairs))


def accuracy(spec: Bf16ConvSpec) -> float:
    """By the number of products."""
    return matmul.ACCURACY[spec.products]


def layout(spec: Bf16ConvSpec) -> Layout:
    """Of the packed filters: those of the matmul, group by group."""
    one = matmul.layout(spec.matrix)
    return Layout(f"filters as {one.name}", one.bytes * spec.groups)
