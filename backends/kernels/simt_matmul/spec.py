"""Spec of the f32 matmul with constant B on GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.f16_matmul import spec as f16
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec, HalfMatmulTask
from tilewright.backends.kernels.f32_matmul import spec as f32
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target


@dataclass(frozen=True)
class SimtMatmulSpec:
    """C[M, N] = epilogue(A[M, K] B[K, N]), f32; ``half``: B is stored as f16.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    """

    k: int
    n: int
    half: bool = False
    epilogue: Epilogue = IDENTITY

    @property
    def matrix(self) -> MatmulSpec | F16MatmulSpec:
        """The product on CPUs whose packed B this is."""
        return F16MatmulSpec(self.k, self.n) if self.half else MatmulSpec(self.k, self.n)

    @property
    def operands(self) -> int:
        return 3 + len(self.epilogue.extras)

    @property
    def dims(self) -> int:
        return 3 + self.epilogue.stride_count


def units(spec: SimtMatmulSpec) -> str:
    """Tiles of 32 x 32."""
    return f"ceildiv(p0, 32) * {-(-spec.n // 32)}"


def scratch_bytes(_spec: SimtMatmulSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[SimtMatmulSpec, ...]:
    """The one spec."""
    if not isinstance(task, MatmulTask):
        return ()
    return (SimtMatmulSpec(task.k, task.n, isinstance(task, HalfMatmulTask), task.epilogue),)


def layout(spec: SimtMatmulSpec) -> Layout:
    """Of packed B."""
    matrix = spec.matrix
    return f16.layout(matrix) if isinstance(matrix, F16MatmulSpec) else f32.layout(matrix)
