"""Spec of the f32 convolution, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import ConvTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.gemm import TILE_BYTES
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


@dataclass(frozen=True)
class ConvSpec:
    """Y[n, o.., :] = epilogue(sum over taps t.. of X[n, o.*stride + t.*dilation - pad, :] W[t..]).

    Spatial rank r = len(kernel), 1 to 3. X is [N, in.., C], Y [N, out.., OC], channels innermost.
    Args: X, packed W, the epilogue's extras, then Y.
    Dims: p0 = N, p1..pr = input sizes, p(r+1)..p(2r) = output sizes, p(2r+1) = elements from one
    output pixel to the next (OC when dense), then a row stride for each ``col`` and ``full``
    extra. A row of the epilogue is an output pixel (n, o..) in order, a column a channel.
    ``pads`` are those before the first element of each axis; those after it follow from the
    output sizes. ``rows``: pixels of a unit, about, which changes no packed byte; 0: by the shape.
    """

    channels: int
    out_channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    epilogue: Epilogue = IDENTITY
    rows: int = 0

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def group_channels(self) -> int:
        return self.channels // self.groups

    @property
    def group_outputs(self) -> int:
        return self.out_channels // self.groups

    @property
    def depthwise(self) -> bool:
        """One input and one output channel a group: vectorized along channels instead."""
        return self.groups == self.channels == self.out_channels and self.groups > 1

    @property
    def pointwise(self) -> bool:
        """X is the matrix A as it lies in memory."""
        ones = (1,) * self.rank
        plain = self.kernel == ones and self.strides == ones and not any(self.pads)
        return plain and self.groups == 1

    @property
    def k(self) -> int:
        """Length of the dot products."""
        return self.taps * self.group_channels

    @property
    def panels(self) -> int:
        """Panels of one group."""
        return -(-self.group_outputs // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """A quarter of the panels: 49 pixels of 512 channels still make four units."""
        return max(2, -(-self.panels // 4))

    @property
    def across(self) -> int:
        """Units that share one block of pixels."""
        return self.groups * -(-self.panels // self.panels_per_unit)

    @property
    def depth(self) -> int:
        """k of one slice of a long sum, as f32_matmul takes it."""
        return MatmulSpec(self.k, self.group_outputs).depth

    @property
    def sliced(self) -> bool:
        return self.depth < self.k

    @property
    def rows_per_unit(self) -> int:
        """Pixels: their gathered rows, or a slice of them where they need not be gathered, keep to
        1 MiB or half of that; and there are enough units."""
        if self.rows:
            return self.rows
        if self.depthwise:
            return max(4, min(64, (1 << 14) // self.channels))
        if self.pointwise and self.sliced:
            return max(14, min(224, (1 << 17) // self.depth // 14 * 14))
        return max(14, min(112, (1 << 20) // (4 * max(self.k, 1)) // 14 * 14))

    @property
    def row_stride(self) -> int:
        """Elements between gathered rows; never a multiple of 1 KiB, which would put all rows of
        a register block into the same few L1 sets."""
        rounded = -(-self.k // 16) * 16
        return rounded + 16 if rounded % 256 == 0 else rounded


def pixels(spec: ConvSpec) -> str:
    """Output pixels as a formula."""
    out = range(1 + spec.rank, 1 + 2 * spec.rank)
    return "p0 * " + " * ".join(f"p{i}" for i in out)


def units(spec: ConvSpec) -> str:
    """Number of work units, a formula over the dims."""
    blocks = f"ceildiv({pixels(spec)}, {spec.rows_per_unit})"
    return blocks if spec.depthwise else f"{blocks} * {spec.across}"


def scratch_bytes(spec: ConvSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    if spec.depthwise:
        # One pointer a tap, then a row of zeros for taps in the padding.
        return str(table_bytes(spec) + 4 * spec.channels)
    total = TILE_BYTES + sums_bytes(spec)
    if not spec.pointwise:
        # 16 floats of slack: rows are written in whole vectors.
        total += 4 * (spec.rows_per_unit * spec.row_stride + 16)
    return str(total)


def sums_bytes(spec: ConvSpec) -> int:
    """Bytes of the sums of a unit between slices of k."""
    return 4 * PANEL * spec.panels_per_unit * spec.rows_per_unit if spec.sliced else 0


def table_bytes(spec: ConvSpec) -> int:
    """Bytes of the depthwise kernel's pointer table."""
    return -(-8 * spec.taps // 64) * 64


def candidates(task: Any, _target: Target) -> tuple[ConvSpec, ...]:
    """The spec of a convolution."""
    return (ConvSpec(**vars(task)),) if isinstance(task, ConvTask) else ()


def variants(spec: ConvSpec, _target: Target) -> tuple[ConvSpec, ...]:
    """The same with half and with twice as many pixels a unit."""
    rows = spec.rows_per_unit
    return (spec, *(replace(spec, rows=r) for r in (rows // 2, 2 * rows) if r >= 14))


def layout(spec: ConvSpec) -> Layout:
    """Of the packed filters."""
    if spec.depthwise:
        blocks = -(-spec.channels // PANEL)
        return Layout("f32 taps of 32 channels", 4 * blocks * PANEL * spec.taps)
    return Layout("f32 filter panels", 4 * spec.groups * spec.panels * PANEL * spec.k)
