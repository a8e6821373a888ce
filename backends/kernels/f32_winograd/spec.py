"""Spec of the Winograd convolution, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.f32_conv import spec as direct
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

POSITIONS = 16
"""Products of a tile: 4 x 4."""

MOST_ROWS = 14
"""Tiles of one block of sums, on any target."""

INPUT_BYTES = 1 << 20
"""Transformed inputs of a block of tiles: they stay in a 2 MiB L2 while all filters pass, which is
once for 14x14 outputs of 256 channels (half of it: 15 % slower there)."""

LEAST_CHANNELS = 16
"""With fewer channels the transforms take longer than the products."""


@dataclass(frozen=True)
class WinogradSpec(ConvSpec):
    """ConvSpec with 3x3 filters, strides, dilations and groups 1; same args and dims.

    Raises ValueError for any other.
    """

    def __post_init__(self) -> None:
        if not fits(self):
            raise ValueError(
                "Winograd convolution: expected 3x3 filters with strides, dilations and groups "
                f"1, found {self.kernel}, {self.strides}, {self.dilations} and {self.groups}"
            )

    @property
    def panels_per_unit(self) -> int:
        return -(-self.panels // 4)

    @property
    def tiles_per_unit(self) -> int:
        if self.rows:
            return max(MOST_ROWS, self.rows // 4)
        fitting = INPUT_BYTES // (4 * POSITIONS * self.stride)
        return max(MOST_ROWS, min(112, fitting // MOST_ROWS * MOST_ROWS))

    @property
    def stride(self) -> int:
        """Floats from tile to tile of transformed inputs: rows in different L1 sets."""
        rounded = -(-self.channels // 16) * 16
        return rounded + 16 if rounded % 128 == 0 else rounded

    @property
    def plane(self) -> int:
        """Floats from position to position of transformed inputs."""
        return self.tiles_per_unit * self.stride + 16

    @property
    def patch(self) -> int:
        """Floats of the 4x4 pixels of a tile that reaches into the padding."""
        return POSITIONS * self.stride


def fits(spec: Any) -> bool:
    """Whether the kernel can compute a convolution."""
    return bool(
        spec.kernel == (3, 3)
        and spec.strides == spec.dilations == (1, 1)
        and spec.groups == 1
        and spec.channels >= 1
    )


def units(spec: WinogradSpec) -> str:
    """Number of work units, a formula over the dims."""
    tiles = "p0 * ceildiv(p3, 2) * ceildiv(p4, 2)"
    return f"ceildiv({tiles}, {spec.tiles_per_unit}) * {spec.across}"


def scratch_bytes(spec: WinogradSpec) -> str:
    """Bytes of scratch a thread needs: sums, a patch, transformed inputs."""
    return str(4 * (POSITIONS * (MOST_ROWS * PANEL + spec.plane) + spec.patch))


def variants(spec: WinogradSpec, _target: Target) -> tuple[WinogradSpec, ...]:
    """The same with half as many tiles a unit, for a smaller L2."""
    half = spec.tiles_per_unit // 2
    return (spec, replace(spec, rows=4 * half)) if half >= MOST_ROWS else (spec,)


def candidates(task: Any, target: Target) -> tuple[WinogradSpec, ...]:
    """The spec of a convolution that fits and has channels enough."""
    return tuple(
        WinogradSpec(**vars(spec))
        for spec in direct.candidates(task, target)
        if fits(spec) and min(spec.channels, spec.out_channels) >= LEAST_CHANNELS
    )


def layout(spec: WinogradSpec) -> Layout:
    """Of the packed filters."""
    return Layout("f32 Winograd panels", 4 * POSITIONS * spec.channels * PANEL * spec.panels)
