"""Spec of the matmul of integer weights by rows in 8-bit codes on GPUs."""

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
from tilewright.compiler.formats.activations import Int8
from tilewright.compiler.formats.integers import Integers

BITS = (4, 8)
BLOCKS = (0, 32, 64, 128, 256)
"""Elements of a row of A that may share a scale: 0 for all, or what threads of a warp read."""


@dataclass(frozen=True)
class GroupedImmaSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), B in ``format``, codes of 4 or 8 bits in groups of a
    multiple of 32 or none, A in 8-bit codes as the format says. ``a``, ``c``: formats of A and C in
    memory (llvm.formats).

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
                f"no kernel for {self.format.name}: expected 4 or 8 bits, groups of 32, rows in "
                "8-bit codes by the same groups or whole"
            )

    @property
    def weights(self) -> Weights:
        """How B is packed: as in grouped_mma."""
        f = self.format
        return Weights(self.k, self.n, f.bits, f.group, 2 if f.group else 4, not f.symmetric)

    @property
    def block(self) -> int:
        """Elements of a row of A that share a scale, 0 for all."""
        assert isinstance(self.format.reads, Int8)
        return self.format.reads.block


def reads(f: Integers) -> bool:
    """Whether this family reads a format."""
    kind = f.reads
    blocks = isinstance(kind, Int8) and kind.block in BLOCKS and kind.block in (0, f.group)
    return f.bits in BITS and f.group % CHUNK == 0 and blocks


def units(spec: GroupedImmaSpec) -> str:
    """Blocks of 64 rows by panels."""
    return f"ceildiv(p0, 64) * {spec.weights.panels}"


def scratch_bytes(_spec: GroupedImmaSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[GroupedImmaSpec, ...]:
    """One spec for each format, and for those that a CodedMatmulTask names."""
    if not isinstance(task, MatmulTask):
        return ()
    known = dict.fromkeys((*formats().values(), *getattr(task, "rounding", ())))
    return tuple(
        GroupedImmaSpec(task.k, task.n, f, task.epilogue)
        for f in known
        if isinstance(f, Integers) and reads(f) and f.supports(task.k, task.n)
    )


def stored(spec: GroupedImmaSpec, operands: tuple[str, ...], result: str) -> GroupedImmaSpec | None:
    """The same with A and C in these formats: 8 bits are the coarser rounding by far."""
    known = {operands[0], result} <= {*storage.FORMATS}
    return replace(spec, a=operands[0], c=result) if known else None


def name(spec: GroupedImmaSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: GroupedImmaSpec) -> Layout:
    """Of packed B, which grouped_mma reads too."""
    return Layout(f"mma operands {spec.format.stored.name}", spec.weights.bytes)
