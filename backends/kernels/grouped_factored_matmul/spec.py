"""Spec of the matmul with two factors of integers, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.factored_matmul.pair import Inner, Pair
from tilewright.backends.kernels.grouped_matmul import cost, packing, reference
from tilewright.backends.kernels.grouped_matmul import llvm as grouped
from tilewright.backends.kernels.grouped_matmul import spec as grouped_spec
from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats.factored import GROUP, PARTS, RANKS, Factored
from tilewright.compiler.formats.integers import Integers

ROWS = (32, 128, 256)
"""Rows of a unit: whole pairs of tiles; few blocks, as each widens both factors."""


@dataclass(frozen=True)
class GroupedFactoredMatmulSpec(Pair):
    """Both products with codes of ``bits`` bits; fields as of `Pair`."""

    k: int
    n: int
    rank: int
    bits: int = 8
    epilogue: Epilogue = IDENTITY
    rows: int = 0

    @property
    def inner(self) -> Inner:
        return INNER

    @property
    def part(self) -> Integers:
        """The format of both factors."""
        return next(p for p in PARTS if isinstance(p, Integers) and p.bits == self.bits)

    @property
    def format(self) -> Factored:
        return Factored(self.rank, self.part)

    @property
    def left(self) -> GroupedMatmulSpec:
        symmetric = self.part.symmetric
        return GroupedMatmulSpec(self.k, self.rank, self.bits, GROUP, symmetric=symmetric)

    @property
    def right(self) -> GroupedMatmulSpec:
        symmetric = self.part.symmetric
        return GroupedMatmulSpec(
            self.rank, self.n, self.bits, GROUP, False, symmetric, self.epilogue
        )

    @property
    def blocks(self) -> tuple[int, int, int]:
        return ROWS


def candidates(task: Any, _target: Target) -> tuple[GroupedFactoredMatmulSpec, ...]:
    """Specs for codes of 8 and 4 bits of every rank below that at which factors are as large as
    the matrix."""
    if not isinstance(task, MatmulTask):
        return ()
    made = (
        GroupedFactoredMatmulSpec(task.k, task.n, rank, part.bits, task.epilogue)
        for part in PARTS
        if isinstance(part, Integers)
        for rank in RANKS
    )
    return tuple(spec for spec in made if spec.format.supports(task.k, task.n))


INNER = Inner(
    multiply=grouped.multiply,
    units=grouped_spec.units,
    scratch_bytes=grouped_spec.scratch_bytes,
    reference=reference.run,
    cost=cost.estimate,
    layout=grouped_spec.layout,
    pack=packing.pack,
    unpack=packing.unpack,
)
