"""Spec of the matmul in f16 or bf16 on GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.cuda.operands import Weights
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target

ACCURACY = {"f16": 1e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class MmaMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), both rounded to ``dtype``, f16 or bf16.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    """

    k: int
    n: int
    dtype: str
    epilogue: Epilogue = IDENTITY

    @property
    def weights(self) -> Weights:
        """How B is packed."""
        return Weights(self.k, self.n, 16, half=self.dtype == "f16")


def units(spec: MmaMatmulSpec) -> str:
    """Blocks of 64 rows by panels."""
    return f"ceildiv(p0, 64) * {spec.weights.panels}"


def scratch_bytes(_spec: MmaMatmulSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[MmaMatmulSpec, ...]:
    """In either type."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(MmaMatmulSpec(task.k, task.n, dtype, task.epilogue) for dtype in ACCURACY)


def accuracy(spec: MmaMatmulSpec) -> float:
    """Of operands rounded to ``dtype``."""
    return ACCURACY[spec.dtype]


def layout(spec: MmaMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(f"mma operands {spec.dtype}", spec.weights.bytes)
