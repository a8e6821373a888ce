"""Spec of the bf16 matmul with factors of blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.bf16_factored_matmul.spec import INNER, ROWS
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.backends.kernels.blocked_matmul.spec import offered
from tilewright.backends.kernels.factored_matmul.pair import Inner
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.formats import BF16_FORMAT, F32_FORMAT
from tilewright.backends.target import Target
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.format import WeightFormat


@dataclass(frozen=True)
class Bf16BlockedMatmulSpec(Chain):
    """All products in bf16 with sums in f32; fields as of `Chain`."""

    k: int
    n: int
    parts: int
    rank: int
    mixed: bool = False
    epilogue: Epilogue = IDENTITY
    rows: int = 0
    a: str = F32_FORMAT
    c: str = F32_FORMAT

    @property
    def inner(self) -> Inner:
        return INNER

    @property
    def part(self) -> WeightFormat:
        return Bfloat16()

    @property
    def left(self) -> Bf16MatmulSpec:
        return Bf16MatmulSpec(self.k // self.parts, self.width, a=self.a)

    @property
    def right(self) -> Bf16MatmulSpec:
        return Bf16MatmulSpec(
            self.width, self.n // self.parts, 1, self.epilogue, BF16_FORMAT, self.c
        )

    @property
    def middle(self) -> str:
        return BF16_FORMAT

    @property
    def blocks(self) -> tuple[int, int, int]:
        return ROWS


def candidates(task: Any, _target: Target) -> tuple[Bf16BlockedMatmulSpec, ...]:
    """One spec for every format of bf16 factors that the matrix can have."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(
        Bf16BlockedMatmulSpec(task.k, task.n, f.parts, f.rank, f.mixed, task.epilogue)
        for f in offered(Bfloat16(), task)
    )


def stored(
    spec: Bf16BlockedMatmulSpec, operands: tuple[str, ...], result: str
) -> Bf16BlockedMatmulSpec:
    """The same with A and C in these formats."""
    return replace(spec, a=operands[0], c=result)
