"""Spec of the matmul with group-wise integer weights on GPUs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.cuda.operands import CHUNK, Weights
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import formats as storage
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.integers import Integers

BITS = (4, 8)


@dataclass(frozen=True)
class GroupedMmaSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), B in ``format``, codes of 4 or 8 bits in groups of a
    multiple of 32 or none. ``a``, ``c``: formats of A and C in memory (llvm.formats).

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    """

    k: int
    n: int
    format: Integers
    epilogue: Epilogue = IDENTITY
    a: str = storage.F32_FORMAT
    c: str = storage.F32_FORMAT

    def __post_init__(self) -> None:
        storage.check(self.a, self.c)
        if not reads(self.format):
            raise ValueError(
                f"no kernel for {self.format.name}: expected 4 or 8 bits, groups of 32"
            )

    @property
    def weights(self) -> Weights:
        """How B is packed."""
        f = self.format
        scaled = 2 if f.group else 4
        return Weights(self.k, self.n, f.bits, f.group, scaled, not f.symmetric)


def reads(f: Integers) -> bool:
    """Whether this family reads a format, whatever that says of A."""
    return f.bits in BITS and f.group % CHUNK == 0


def units(spec: GroupedMmaSpec) -> str:
    """Blocks of 64 rows by panels."""
    return f"ceildiv(p0, 64) * {spec.weights.panels}"


def scratch_bytes(_spec: GroupedMmaSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[GroupedMmaSpec, ...]:
    """One spec for each integer format with groups, and for those that a CodedMatmulTask names."""
    if not isinstance(task, MatmulTask):
        return ()
    known = dict.fromkeys((*formats().values(), *getattr(task, "rounding", ())))
    return tuple(
        GroupedMmaSpec(task.k, task.n, f, task.epilogue)
        for f in known
        if isinstance(f, Integers) and reads(f) and f.supports(task.k, task.n)
    )


def stored(spec: GroupedMmaSpec, operands: tuple[str, ...], result: str) -> GroupedMmaSpec | None:
    """The same with A and C in these formats: A is rounded to bf16 anyway."""
    known = {operands[0], result} <= {*storage.FORMATS}
    return replace(spec, a=operands[0], c=result) if known else None


def name(spec: GroupedMmaSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: GroupedMmaSpec) -> Layout:
    """Of packed B, whatever A is read as."""
    return Layout(f"mma operands {spec.format.stored.name}", spec.weights.bytes)
