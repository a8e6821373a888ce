"""Spec of the f32 matmul with factors of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec, Tile
from tilewright.backends.kernels.factored_matmul.pair import Inner
from tilewright.backends.kernels.factored_matmul.spec import INNER, ROWS
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats import blast, monarch
from tilewright.compiler.formats.blocked import Blocked
from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.plain import Float32


@dataclass(frozen=True)
class BlockedMatmulSpec(Chain):
    """All products in f32; fields as of `Chain`."""

    k: int
    n: int
    parts: int
    rank: int
    mixed: bool = False
    epilogue: Epilogue = IDENTITY
    rows: int = 0

    @property
    def inner(self) -> Inner:
        return INNER

    @property
    def part(self) -> WeightFormat:
        return Float32()

    @property
    def left(self) -> MatmulSpec:
        return MatmulSpec(self.k // self.parts, self.width, tile=Tile(rows=ROWS[2]))

    @property
    def right(self) -> MatmulSpec:
        return MatmulSpec(self.width, self.n // self.parts, self.epilogue, Tile(rows=ROWS[2]))

    @property
    def blocks(self) -> tuple[int, int, int]:
        return ROWS


def candidates(task: Any, _target: Target) -> tuple[BlockedMatmulSpec, ...]:
    """One spec for every format of f32 factors that the matrix can have."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(
        BlockedMatmulSpec(task.k, task.n, f.parts, f.rank, f.mixed, task.epilogue)
        for f in offered(Float32(), task)
    )


def offered(part: WeightFormat, task: MatmulTask) -> Iterator[Blocked]:
    """Formats with such factors that a product's weights can have."""
    made: tuple[Blocked, ...] = (*monarch.FORMATS, *blast.FORMATS)
    return (f for f in made if f.part == part and f.supports(task.k, task.n))
