"""Spec of the matmul with weights that are ternary as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.coded_matmul import CodedMatmulSpec, CodedMatmulTask
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats.blocks import Blocks

CODES = Blocks(2, 128, half=False)


@dataclass(frozen=True)
class TernaryMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B ternary.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    """

    k: int
    n: int
    epilogue: Epilogue = IDENTITY

    @property
    def coded(self) -> CodedMatmulSpec:
        """The product of codes that it is."""
        return CodedMatmulSpec(self.k, self.n, CODES, self.epilogue)


def candidates(task: Any, _target: Target) -> tuple[TernaryMatmulSpec, ...]:
    """The one spec, whatever the weights are: `suits` looks at them. Codes that a model brings are
    left to coded_matmul."""
    if not isinstance(task, MatmulTask) or isinstance(task, CodedMatmulTask):
        return ()
    return (TernaryMatmulSpec(task.k, task.n, task.epilogue),)
