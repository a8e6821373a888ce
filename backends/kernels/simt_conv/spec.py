"""Spec of the f32 convolution on GPUs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tilewright.backends.kernels.f32_conv.spec import ConvSpec, pixels
from tilewright.backends.kernels.tasks import ConvTask
from tilewright.backends.target import Target


@dataclass(frozen=True)
class SimtConvSpec(ConvSpec):
    """A ConvSpec with the same args, dims and packed weights."""

    @property
    def operands(self) -> int:
        return 3 + len(self.epilogue.extras)

    @property
    def dims(self) -> int:
        return 2 + 2 * self.rank + self.epilogue.stride_count

    @property
    def step_dim(self) -> int:
        """Position of the elements from one output pixel to the next."""
        return 1 + 2 * self.rank


def units(spec: SimtConvSpec) -> str:
    """Tiles of 32 pixels by 32 channels."""
    return f"ceildiv({pixels(spec)}, 32) * {spec.groups * -(-spec.group_outputs // 32)}"


def scratch_bytes(_spec: SimtConvSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[SimtConvSpec, ...]:
    """The spec of a convolution."""
    if not isinstance(task, ConvTask):
        return ()
    return (SimtConvSpec(**{f.name: getattr(task, f.name) for f in fields(ConvTask)}),)
