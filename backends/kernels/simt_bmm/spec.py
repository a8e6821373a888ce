"""Spec of the batched f32 matmul on GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.f32_bmm.spec import BmmSpec
from tilewright.backends.kernels.tasks import BatchedMatmulTask
from tilewright.backends.target import Target


@dataclass(frozen=True)
class SimtBmmSpec(BmmSpec):
    """A BmmSpec with the same args and dims."""

    @property
    def operands(self) -> int:
        return 3 + len(self.epilogue.extras)

    @property
    def dims(self) -> int:
        return self.extra_dim(len(self.epilogue.extras))

    @property
    def batch(self) -> str:
        """Batch elements, a formula."""
        return " * ".join(f"p{i}" for i in range(self.batch_rank)) or "1"


def units(spec: SimtBmmSpec) -> str:
    """Tiles of 32 x 32."""
    m, n = spec.matrix_dim, spec.matrix_dim + 2
    return f"{spec.batch} * ceildiv(p{m}, 32) * ceildiv(p{n}, 32)"


def scratch_bytes(_spec: SimtBmmSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[SimtBmmSpec, ...]:
    """The spec of a batched product of two activations."""
    return (SimtBmmSpec(**vars(task)),) if isinstance(task, BatchedMatmulTask) else ()
