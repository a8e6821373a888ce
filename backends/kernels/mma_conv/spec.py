"""Spec of the convolution in f16 or bf16 on GPUs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tilewright.backends.cuda.operands import Weights
from tilewright.backends.kernels.f32_conv.spec import ConvSpec, pixels
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.mma_matmul.spec import ACCURACY
from tilewright.backends.kernels.tasks import ConvTask
from tilewright.backends.target import Target


@dataclass(frozen=True)
class MmaConvSpec(ConvSpec):
    """A ConvSpec with the same args and dims; X and weights are rounded to ``dtype``, f16 or bf16.

    Raises ValueError for a depthwise convolution.
    """

    dtype: str = "bf16"

    def __post_init__(self) -> None:
        if self.depthwise:
            raise ValueError("a depthwise convolution has no mma kernel; use simt_conv")

    @property
    def weights(self) -> Weights:
        """How the weights of one group are packed."""
        return Weights(self.k, self.group_outputs, 16, half=self.dtype == "f16")


def units(spec: MmaConvSpec) -> str:
    """Blocks of 64 pixels by panels."""
    return f"ceildiv({pixels(spec)}, 64) * {spec.groups * spec.weights.panels}"


def scratch_bytes(_spec: MmaConvSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[MmaConvSpec, ...]:
    """In either type, of all but depthwise convolutions."""
    if not isinstance(task, ConvTask):
        return ()
    if task.groups == task.channels == task.out_channels and task.groups > 1:
        return ()
    known = {f.name: getattr(task, f.name) for f in fields(ConvTask)}
    return tuple(MmaConvSpec(**known, dtype=dtype) for dtype in ACCURACY)


def accuracy(spec: MmaConvSpec) -> float:
    """Of operands rounded to ``dtype``."""
    return ACCURACY[spec.dtype]


def layout(spec: MmaConvSpec) -> Layout:
    """Of packed weights."""
    return Layout(f"mma filters {spec.dtype}", spec.groups * spec.weights.bytes)
