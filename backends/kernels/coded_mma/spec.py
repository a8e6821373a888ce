"""Spec of the matmul with B in codes that a model brings, on GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.cuda.operands import CHUNK, Weights
from tilewright.backends.kernels.coded_matmul.spec import CodedMatmulTask
from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats.blocks import Blocks

PARTS = 3
"""bf16 numbers that an f32 number is the sum of."""


@dataclass(frozen=True)
class CodedMmaSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in codes of ``format``: 4 or 8 bits, groups
    of a multiple of 32 or none, zero points that are integers or none.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    """

    k: int
    n: int
    format: Blocks
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if not reads(self.format):
            raise ValueError(
                f"no kernel for {self.format.name}: expected 4 or 8 bits, groups of 32"
            )

    @property
    def weights(self) -> Weights:
        """How B is packed."""
        f = self.format
        scaled, zeros = 2 if f.half else 4, bool(f.zeros)
        return Weights(self.k, self.n, f.bits, f.group, scaled, zeros, parts=PARTS)


def reads(f: Blocks) -> bool:
    """Whether this family reads a format."""
    return f.bits in (4, 8) and f.group % CHUNK == 0 and f.zeros in ("", "u8")


def units(spec: CodedMmaSpec) -> str:
    """Blocks of 21 rows by panels."""
    return f"ceildiv(p0, {64 // PARTS}) * {spec.weights.panels}"


def scratch_bytes(_spec: CodedMmaSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[CodedMmaSpec, ...]:
    """The one spec."""
    if not isinstance(task, CodedMatmulTask) or not reads(task.format):
        return ()
    return (CodedMmaSpec(task.k, task.n, task.format, task.epilogue),)


def layout(spec: CodedMmaSpec) -> Layout:
    """Of packed B."""
    return Layout(f"mma operands {spec.format.name}", spec.weights.bytes)
