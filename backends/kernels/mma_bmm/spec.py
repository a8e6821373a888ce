"""Spec of the batched matmul in f16 or bf16 on GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.mma_matmul.spec import ACCURACY
from tilewright.backends.kernels.simt_bmm.spec import SimtBmmSpec
from tilewright.backends.kernels.tasks import BatchedMatmulTask
from tilewright.backends.target import Target

TILE = 64
"""Rows and columns of a block."""


@dataclass(frozen=True)
class MmaBmmSpec(SimtBmmSpec):
    """A BmmSpec with the same args and dims; A and B are rounded to ``dtype``, f16 or bf16."""

    dtype: str = "bf16"


def units(spec: MmaBmmSpec) -> str:
    """Tiles."""
    m, n = spec.matrix_dim, spec.matrix_dim + 2
    return f"{spec.batch} * ceildiv(p{m}, {TILE}) * ceildiv(p{n}, {TILE})"


def scratch_bytes(_spec: MmaBmmSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[MmaBmmSpec, ...]:
    """In either type."""
    if not isinstance(task, BatchedMatmulTask):
        return ()
    return tuple(MmaBmmSpec(**vars(task), dtype=dtype) for dtype in ACCURACY)


def accuracy(spec: MmaBmmSpec) -> float:
    """Of operands rounded to ``dtype``."""
    return ACCURACY[spec.dtype]
