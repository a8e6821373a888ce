"""Spec of the bf16 convolution for few channels, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.bf16_conv import spec as gathered
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul import spec as matmul
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_gemm import SCRATCH_BYTES
from tilewright.backends.target import Target

BLOCK_PIXELS = 512
"""Output pixels of a unit, about."""

BLOCK_BYTES = 512 << 10
"""Bound of their gathered rows: with a panel of weights they stay in L2."""

LINE = 64


@dataclass(frozen=True)
class Bf16ThinConvSpec(Bf16ConvSpec):
    """Bf16ConvSpec of rank 1 or 2 with one group and columns not dilated.

    Raises ValueError for any other.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not fits(self):
            raise ValueError(
                "bf16 convolution by filter rows: expected rank 1 or 2, one group and columns "
                f"not dilated, found {self.kernel}, {self.groups} and {self.dilations}"
            )

    @property
    def axes(self) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
        """(taps, stride, pad, dilation) of rows and of columns; rank 1 has one row."""
        all_axes = tuple(zip(self.kernel, self.strides, self.pads, self.dilations, strict=True))
        return ((1, 1, 0, 1), all_axes[0]) if self.rank == 1 else (all_axes[0], all_axes[1])

    @property
    def run(self) -> int:
        """Values of one filter row."""
        return self.kernel[-1] * self.channels

    @property
    def run_steps(self) -> int:
        return -(-self.run // STEP)

    @property
    def matrix(self) -> Bf16MatmulSpec:
        """The product, filter rows filled up to steps."""
        depth = self.taps // self.kernel[-1] * self.run_steps * STEP
        return Bf16MatmulSpec(depth, self.out_channels, self.products)

    @property
    def rows_per_unit(self) -> int:
        """Output pixels of a unit, about."""
        return self.rows or max(min(BLOCK_PIXELS, BLOCK_BYTES // self.pixel_bytes), 1)

    @property
    def pixel_bytes(self) -> int:
        """Of the gathered row of an output pixel."""
        return self.matrix.planes * self.matrix.steps * LINE


def fits(spec: Bf16ConvSpec) -> bool:
    """Whether the kernel can compute ``spec``."""
    return len(spec.kernel) <= 2 and spec.groups == 1 and spec.dilations[-1] == 1


def outputs(spec: Bf16ThinConvSpec) -> tuple[str, str]:
    """Output rows and columns, as dims."""
    return ("1", "p2") if spec.rank == 1 else ("p3", "p4")


def block_rows(spec: Bf16ThinConvSpec) -> str:
    """Most output rows of a block, a formula."""
    _, columns = outputs(spec)
    return f"max({spec.rows_per_unit} // max({columns}, 1), 1)"


def block_count(spec: Bf16ThinConvSpec) -> str:
    """Blocks of output rows of one image, a formula."""
    return f"max(ceildiv({outputs(spec)[0]}, {block_rows(spec)}), 1)"


def units(spec: Bf16ThinConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    _, columns = outputs(spec)
    return f"p0 * {block_count(spec)} * {spec.across} * min({columns}, 1)"


def pitch(spec: Bf16ThinConvSpec) -> str:
    """bf16 values of a rounded input row with its padding, a formula."""
    taps, stride, _, _ = spec.axes[1]
    return f"((({outputs(spec)[1]} - 1) * {stride} + {taps}) * {spec.channels})"


def input_rows(spec: Bf16ThinConvSpec) -> str:
    """Most input rows of a block, a formula."""
    taps, stride, _, dilation = spec.axes[0]
    return f"(({block_rows(spec)} - 1) * {stride} + {(taps - 1) * dilation + 1})"


def scratch_bytes(spec: Bf16ThinConvSpec) -> str:
    """A block of C, the gathered rows, the rounded rows with the slack of a vector each part."""
    _, columns = outputs(spec)
    planes = spec.matrix.planes
    tile = spec.matrix.steps * planes * TILE_BYTES
    block = f"ceildiv({block_rows(spec)} * {columns}, {ROWS}) * {tile}"
    rounded = f"{2 * planes} * {input_rows(spec)} * max({pitch(spec)}, 0)"
    return f"{SCRATCH_BYTES + planes * LINE} + {block} + {rounded}"


def variants(spec: Bf16ThinConvSpec, _target: Target) -> tuple[Bf16ThinConvSpec, ...]:
    """The same with half and with twice as many pixels a unit."""
    rows = spec.rows_per_unit
    return (spec, replace(spec, rows=max(rows // 2, 1)), replace(spec, rows=2 * rows))


def candidates(task: Any, target: Target) -> tuple[Bf16ThinConvSpec, ...]:
    """Those of bf16_conv that fit; a pointwise convolution has nothing to gather."""
    return tuple(
        Bf16ThinConvSpec(**vars(spec))
        for spec in gathered.candidates(task, target)
        if fits(spec) and not spec.pointwise
    )


def layout(spec: Bf16ThinConvSpec) -> Layout:
    """Of the packed filters."""
    one = matmul.layout(spec.matrix)
    return Layout(f"filter rows in steps as {one.name}", one.bytes)
