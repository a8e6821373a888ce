"""Spec of the direct bf16 convolution, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.bf16_conv import spec as gathered
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_gemm import SCRATCH_BYTES
from tilewright.backends.target import Target

BLOCK_PIXELS = 512
"""Output pixels of a unit, about: enough to read its weights rarely, in units enough."""

BLOCK_BYTES = 512 << 10
"""Bound of the pixels that a unit reads: with a panel of weights they stay in L2."""

LINE = 64


@dataclass(frozen=True)
class Bf16DirectConvSpec(Bf16ConvSpec):
    """Bf16ConvSpec of rank 1 or 2 whose groups have a multiple of 32 channels.

    ``x``, ``y``: formats of X and Y in memory (llvm.formats), bf16 for one product. Raises
    ValueError for any other.
    """

    x: str = formats.F32_FORMAT
    y: str = formats.F32_FORMAT

    def __post_init__(self) -> None:
        super().__post_init__()
        formats.check(self.x, self.y)
        if self.products > 1 and self.x != formats.F32_FORMAT:
            raise ValueError(f"{self.products} products split f32 values, not {self.x} ones")
        if not fits(self):
            raise ValueError(
                "direct bf16 convolution: expected rank 1 or 2 and a multiple of 32 channels a "
                f"group, found kernel {self.kernel} and {self.group_channels} channels"
            )

    @property
    def axes(self) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
        """(taps, stride, pad, dilation) of rows and of columns; rank 1 has one row."""
        all_axes = tuple(zip(self.kernel, self.strides, self.pads, self.dilations, strict=True))
        return ((1, 1, 0, 1), all_axes[0]) if self.rank == 1 else (all_axes[0], all_axes[1])

    @property
    def phases(self) -> tuple[tuple[int, int], ...]:
        """Remainders of input coordinates by the strides that some tap meets: one plane each."""
        rows, columns = (
            sorted({t * dilation % stride for t in range(taps)})
            for taps, stride, _, dilation in self.axes
        )
        return tuple((r, c) for r in rows for c in columns)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns that a plane has beyond those of the output."""
        rows, columns = ((k - 1) * dilation // stride for k, stride, _, dilation in self.axes)
        return rows, columns

    @property
    def pixel_bytes(self) -> int:
        """From one pixel of a plane to the next: a tile's 16 rows must not share few L1 sets."""
        size = 2 * self.group_channels
        return size + LINE if size % 256 == 0 else size

    def row_bytes(self, columns: str) -> str:
        """A row of all planes and parts for ``columns`` output columns, as a formula."""
        _, more = self.reach
        return (
            f"(({columns} + {more}) * {len(self.phases) * self.matrix.planes * self.pixel_bytes})"
        )

    @property
    def rows_per_unit(self) -> int:
        """Output pixels of a unit, about."""
        return self.rows or BLOCK_PIXELS

    @property
    def table_bytes(self) -> int:
        """The offsets of the taps."""
        return -(-8 * self.taps // LINE) * LINE


def fits(spec: Bf16ConvSpec) -> bool:
    """Whether the kernel can compute ``spec``."""
    return len(spec.kernel) <= 2 and spec.group_channels % STEP == 0


def _outputs(spec: Bf16DirectConvSpec) -> tuple[str, str]:
    """Output rows and columns, as dims."""
    return ("1", "p2") if spec.rank == 1 else ("p3", "p4")


def block_rows(spec: Bf16DirectConvSpec) -> str:
    """Most output rows of a block, a formula."""
    _, columns = _outputs(spec)
    _, more = spec.reach
    by_pixels = f"{spec.rows_per_unit} // ({columns} + {more})"
    return f"max(min({BLOCK_BYTES} // {spec.row_bytes(columns)}, {by_pixels}), 1)"


def block_count(spec: Bf16DirectConvSpec) -> str:
    """Blocks of output rows of one image, a formula."""
    rows, _ = _outputs(spec)
    return f"max(ceildiv({rows}, {block_rows(spec)}), 1)"


def units(spec: Bf16DirectConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    _, columns = _outputs(spec)
    # No output columns, no units: the kernel would otherwise form tiles of no pixel.
    return f"p0 * {block_count(spec)} * {spec.across} * min({columns}, 1)"


def scratch_bytes(spec: Bf16DirectConvSpec) -> str:
    """A block of C, the table of taps, and the planes with the slack of a last tile."""
    _, columns = _outputs(spec)
    more, _ = spec.reach
    rows = f"({block_rows(spec)} + {more})"
    fixed = SCRATCH_BYTES + spec.table_bytes + 2 * ROWS * spec.pixel_bytes
    return f"{fixed} + {rows} * {spec.row_bytes(columns)}"


def variants(spec: Bf16DirectConvSpec, _target: Target) -> tuple[Bf16DirectConvSpec, ...]:
    """The same with half and with twice as many pixels a unit."""
    return (spec, *(replace(spec, rows=r) for r in (BLOCK_PIXELS // 2, 2 * BLOCK_PIXELS)))


def stored(
    spec: Bf16DirectConvSpec, operands: tuple[str, ...], result: str
) -> Bf16DirectConvSpec | None:
    """The same with X and Y in these formats; None where it cannot."""
    if spec.products > 1 and (*operands, result) != (formats.F32_FORMAT,) * 2:
        return None
    return replace(spec, x=operands[0], y=result)


def candidates(task: Any, target: Target) -> tuple[Bf16DirectConvSpec, ...]:
    """Those of bf16_conv that fit; a pointwise convolution has nothing to gather."""
    return tuple(
        Bf16DirectConvSpec(**vars(spec))
        for spec in gathered.candidates(task, target)
        if fits(spec) and not spec.pointwise
    )
