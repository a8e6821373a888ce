"""Spec of the 8-bit convolution of f32 pixels, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.f32_conv import spec as f32
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec
from tilewright.backends.kernels.tasks import ConvTask
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_block import MOST_ROW_BYTES, steps
from tilewright.backends.llvm.int8_scaled_product import SCRATCH_BYTES
from tilewright.backends.target import Target
from tilewright.compiler.formats import named
from tilewright.compiler.formats.tensor import Tensor

WORD = 4
"""Channels, and bytes of their codes, that are gathered together."""

LINE = 64
"""Bytes behind the panels, f32: what X is multiplied by, its zero, its step, what a sum of
weights is multiplied by."""

SLACK = 64
"""Bytes that codes and gathered rows may be overrun by."""

FORMAT = "w8a8-tensor"


@dataclass(frozen=True)
class Int8ScaledConvSpec(ConvSpec):
    """ConvSpec of one group with the same args and dims; X is quantized by one step and zero point,
    filters are s8 with a scale an output channel.

    ``x``, ``y``: formats of X and Y in memory (llvm.formats). Raises ValueError for channels that
    are no multiple of 4, and for groups.
    """

    x: str = formats.F32_FORMAT
    y: str = formats.F32_FORMAT

    def __post_init__(self) -> None:
        formats.check(self.x, self.y)
        if self.groups != 1:
            raise ValueError(f"{self.groups} groups: expected one")
        if self.channels % WORD:
            raise ValueError(f"{self.channels} channels: expected a multiple of {WORD}")

    @property
    def matrix(self) -> ScaledMatmulSpec:
        """The product of gathered pixels and filters."""
        return ScaledMatmulSpec(self.k, self.out_channels)

    @property
    def format(self) -> Tensor:
        """Of its weights."""
        found = named(FORMAT)
        assert isinstance(found, Tensor)
        return found

    @property
    def words(self) -> ConvSpec:
        """The same geometry over words of four channels."""
        window = (self.kernel, self.strides, self.pads, self.dilations)
        return ConvSpec(self.channels // WORD, self.out_channels, *window)

    @property
    def in_steps(self) -> bool:
        """Whether a tap is whole steps, which are then put into the block of A at once."""
        return self.channels % STEP == 0

    @property
    def packed_bytes(self) -> int:
        return self.matrix.packed_bytes + LINE

    @property
    def rows_per_unit(self) -> int:
        """Pixels, in pairs of tiles: their rows keep to 1.25 MiB."""
        if self.rows:
            return self.rows
        pair = 2 * ROWS * STEP * steps(self.k)
        if not self.in_steps:
            pair += 2 * ROWS * WORD * self.words.row_stride
        return 2 * ROWS * max(1, min(16, (5 << 18) // pair))


def weight_format(_spec: Int8ScaledConvSpec) -> str:
    """Name of the format of the filters."""
    return FORMAT


def units(spec: Int8ScaledConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f32.units(spec)


def row_bytes(spec: Int8ScaledConvSpec) -> int:
    """Bytes of the scales of a unit's rows, and of their middles."""
    return 4 * spec.rows_per_unit


def gathered_bytes(spec: Int8ScaledConvSpec) -> int:
    """Bytes of rows that are gathered by words first."""
    if spec.in_steps:
        return 0
    return WORD * spec.rows_per_unit * spec.words.row_stride + SLACK


def scratch_bytes(spec: Int8ScaledConvSpec) -> str:
    """Bytes of scratch a thread needs: blocks of C, scales and middles, the block of A, gathered
    rows, and the codes of all lines along the first axis that a unit's pixels see."""
    block = spec.rows_per_unit * steps(spec.k) * MOST_ROW_BYTES
    fixed = SCRATCH_BYTES + 2 * row_bytes(spec) + block + gathered_bytes(spec) + SLACK
    return f"{fixed} + {seen_lines(spec)} * {line_elements(spec)}"


def line_elements(spec: Int8ScaledConvSpec) -> str:
    """Elements of X at one place of the first axis, a formula."""
    inner = "".join(f" * p{i}" for i in range(2, 1 + spec.rank))
    return f"({spec.channels}{inner})"


def seen_lines(spec: Int8ScaledConvSpec) -> str:
    """Most lines of X that a unit reads, a formula: those of one image between the first and the
    last output pixel, or whole images where there are several."""
    r = spec.rank
    inner = " * ".join(f"p{i}" for i in range(r + 2, 2 * r + 1)) or "1"
    outputs = f"({spec.rows_per_unit - 1} // max({inner}, 1) + 1)"
    reach = (spec.kernel[0] - 1) * spec.dilations[0] + 1
    one = f"min(p1, {outputs} * {spec.strides[0]} + {reach})"
    several = f"min(p0, ceildiv({outputs}, max(p{r + 1}, 1)) + 1) * p1"
    return f"min({one} + 2 * max(p0 - 1, 0) * p1, {several})"


def variants(spec: Int8ScaledConvSpec, _target: Target) -> tuple[Int8ScaledConvSpec, ...]:
    """The same with half as many pixels a unit."""
    half = spec.rows_per_unit // 2 // (2 * ROWS) * 2 * ROWS
    return (spec, replace(spec, rows=half)) if half else (spec,)


def candidates(task: Any, _target: Target) -> tuple[Int8ScaledConvSpec, ...]:
    """The one way, where whole words can be gathered."""
    if not isinstance(task, ConvTask) or task.groups != 1 or task.channels % WORD:
        return ()
    return (Int8ScaledConvSpec(**vars(task)),)


def stored(
    spec: Int8ScaledConvSpec, operands: tuple[str, ...], result: str
) -> Int8ScaledConvSpec | None:
    """The same with X and Y in these formats. X in bf16 is rounded twice; 8 bits are the coarser
    rounding by far."""
    return replace(spec, x=operands[0], y=result)


def layout(spec: Int8ScaledConvSpec) -> Layout:
    """Of the packed filters."""
    return Layout(f"s8 filter panels of 32 columns with scales, {FORMAT}", spec.packed_bytes)
