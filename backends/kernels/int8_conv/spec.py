"""Spec of the 8-bit convolution, and its division into units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tilewright.backends.kernels import tasks
from tilewright.backends.kernels.f32_conv import spec as f32
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.int8_matmul import spec as matmul
from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_block import MOST_ROW_BYTES, steps
from tilewright.backends.llvm.int8_gemm import SCRATCH_BYTES
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

WORD = 4
"""Bytes that are gathered together."""


@dataclass(frozen=True)
class IntegerConvTask:
    """Channels-last convolution of 8-bit integers with constant filters, sums in i32.

    Fields, args and dims as `Int8ConvSpec`. Weights for ``pack``: [O, C / groups, taps..].
    """

    channels: int
    out_channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    epilogue: Epilogue
    a: str
    b: str
    out: str
    fill: bool = False

    def operands(self, dims: Sequence[int]) -> tasks.Bytes:
        """X, packed W, what pads count as, extras, Y."""
        r = len(self.kernel)
        images, inner, outer = dims[0], dims[1 : 1 + r], dims[1 + r : 1 + 2 * r]
        step, *strides = dims[1 + 2 * r :]
        pixels = images * prod(outer)
        others = tasks.extras(self.epilogue, pixels, self.out_channels, strides)
        size = 1 if self.out in ("u8", "s8") else 4
        y = tasks.span((pixels, self.out_channels), (step, 1), size)
        given = (1,) if self.fill else ()
        return (images * prod(inner) * self.channels, None, *given, *others, y)


@dataclass(frozen=True)
class Int8ConvSpec(ConvSpec):
    """ConvSpec with the same dims and order of args, but X of type ``a``, filters of type ``b``,
    sums in i32 modulo 2**32, and Y of type ``out``, as in Int8MatmulSpec.

    ``fill``: the third arg, one element of type ``a``, is what pads count as; without, zero.
    ``merged``: how many groups of the convolution one of ``groups`` stands for. Their filters are
    packed as one matrix with zeros where a filter does not see a channel, so that depthwise
    convolutions have whole words and panels too.

    Raises ValueError unless the channels of a group are a multiple of 4: whole words are gathered.
    """

    a: str = "u8"
    b: str = "s8"
    out: str = "i32"
    epilogue: Epilogue = IDENTITY
    merged: int = 1
    fill: bool = False

    def __post_init__(self) -> None:
        if self.group_channels % WORD:
            raise ValueError(f"{self.group_channels} channels a group: expected a multiple of 4")
        _ = self.matrix

    @property
    def given(self) -> int:
        """Args before the epilogue's extras."""
        return 3 if self.fill else 2

    @property
    def matrix(self) -> Int8MatmulSpec:
        """The product of one group."""
        zero_points = self.b == "u8"
        return Int8MatmulSpec(self.k, self.group_outputs, self.a, self.b, zero_points, self.out)

    @property
    def plain(self) -> ConvSpec:
        """The convolution that is computed, with its own groups."""
        window = (self.kernel, self.strides, self.pads, self.dilations)
        return ConvSpec(self.channels, self.out_channels, *window, self.groups * self.merged)

    @property
    def words(self) -> ConvSpec:
        """The same geometry over words of four channels."""
        channels = self.channels // WORD
        window = (self.kernel, self.strides, self.pads, self.dilations)
        return ConvSpec(channels, self.out_channels, *window, self.groups)

    @property
    def rows_per_unit(self) -> int:
        """Pixels, in pairs of tiles: their gathered and their copied rows keep to 1.25 MiB."""
        pair = 2 * ROWS * STEP * steps(self.k)
        if not self.pointwise:
            pair += 2 * ROWS * WORD * self.words.row_stride
        return 2 * ROWS * max(1, min(8, (5 << 18) // max(pair, 1)))


def units(spec: Int8ConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f32.units(spec)


def gathered_bytes(spec: Int8ConvSpec) -> int:
    """Bytes of the gathered rows of a unit (0: X is that matrix), with 16 words of slack."""
    if spec.pointwise:
        return 0
    return WORD * (spec.rows_per_unit * spec.words.row_stride + 16)


def scratch_bytes(spec: Int8ConvSpec) -> str:
    """Bytes of scratch a thread needs: blocks of C, sums of rows, gathered rows, the block of A."""
    block = spec.rows_per_unit * steps(spec.k) * MOST_ROW_BYTES
    return str(SCRATCH_BYTES + 4 * spec.rows_per_unit + gathered_bytes(spec) + block)


def candidates(task: Any, _target: Target) -> tuple[Int8ConvSpec, ...]:
    """The one way, where whole words can be gathered."""
    if not isinstance(task, IntegerConvTask):
        return ()
    merged = merge(task.groups, task.channels // task.groups, task.out_channels // task.groups)
    if not merged:
        return ()
    fields = {**vars(task), "groups": task.groups // merged}
    return (Int8ConvSpec(**fields, merged=merged),)


def merge(groups: int, channels: int, outputs: int) -> int:
    """How many groups, of so many channels and outputs each, are best taken as one; 0: none gives
    whole words. As many as fill a panel, since that is multiplied as a whole."""
    fitting = [m for m in range(1, groups + 1) if groups % m == 0 and channels * m % WORD == 0]
    if not fitting:
        return 0
    return max((m for m in fitting if m * outputs <= PANEL), default=fitting[0])


def layout(spec: Int8ConvSpec) -> Layout:
    """Of the packed filters: those of the matmul, group by group."""
    one = matmul.layout(spec.matrix)
    together = f" of {spec.merged} groups together" if spec.merged > 1 else ""
    return Layout(f"filters{together} as {one.name}", one.bytes * spec.groups)
