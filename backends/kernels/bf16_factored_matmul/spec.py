"""Spec of the bf16 matmul with two factors, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilewright.backends.kernels.bf16_matmul import cost, reference
from tilewright.backends.kernels.bf16_matmul import llvm as bf16
from tilewright.backends.kernels.bf16_matmul import spec as bf16_spec
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.factored_matmul.pair import Inner, Pair
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.formats import BF16_FORMAT, F32_FORMAT
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats.factored import RANKS, Factored
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.format import Encoded

ROWS = (32, 64, 256)
"""Rows of a unit: whole pairs of tiles."""


@dataclass(frozen=True)
class Bf16FactoredMatmulSpec(Pair):
    """Both products in bf16 with sums in f32; fields as of `Pair`."""

    k: int
    n: int
    rank: int
    epilogue: Epilogue = IDENTITY
    rows: int = 0
    a: str = F32_FORMAT
    c: str = F32_FORMAT

    @property
    def inner(self) -> Inner:
        return INNER

    @property
    def format(self) -> Factored:
        return Factored(self.rank, Bfloat16())

    @property
    def left(self) -> Bf16MatmulSpec:
        return Bf16MatmulSpec(self.k, self.rank, a=self.a, c=BF16_FORMAT)

    @property
    def right(self) -> Bf16MatmulSpec:
        return Bf16MatmulSpec(self.rank, self.n, 1, self.epilogue, BF16_FORMAT, self.c)

    @property
    def middle(self) -> str:
        return BF16_FORMAT

    @property
    def blocks(self) -> tuple[int, int, int]:
        return ROWS


def candidates(task: Any, _target: Target) -> tuple[Bf16FactoredMatmulSpec, ...]:
    """One spec for every rank below that of the matrix at which factors are as large as it."""
    if not isinstance(task, MatmulTask):
        return ()
    made = (Bf16FactoredMatmulSpec(task.k, task.n, rank, task.epilogue) for rank in RANKS)
    return tuple(spec for spec in made if spec.format.supports(task.k, task.n))


def variants(spec: Bf16FactoredMatmulSpec, _target: Target) -> tuple[Bf16FactoredMatmulSpec, ...]:
    """The other size of blocks of rows."""
    others = (replace(spec, rows=rows) for rows in ROWS[1:])
    return (spec, *(o for o in others if o.rows_per_unit != spec.rows_per_unit))


def stored(
    spec: Bf16FactoredMatmulSpec, operands: tuple[str, ...], result: str
) -> Bf16FactoredMatmulSpec:
    """The same with A and C in these formats."""
    return replace(spec, a=operands[0], c=result)


def _shape(spec: Bf16MatmulSpec) -> tuple[int, ...]:
    return (1, spec.steps, STEP // 2, 2, spec.panels, PANEL)


def _pack(encoded: Encoded, spec: Bf16MatmulSpec) -> np.ndarray:
    """As bf16_matmul packs them, from codes: their bits stay what they are."""
    filled = np.zeros((spec.steps * STEP, spec.panels * PANEL), np.uint16)
    filled[: spec.k, : spec.n] = encoded["codes"]
    return np.ascontiguousarray(filled.reshape(_shape(spec)).transpose(4, 1, 0, 2, 5, 3))


def _unpack(packed: np.ndarray, spec: Bf16MatmulSpec) -> Encoded:
    shape = (spec.panels, spec.steps, 1, STEP // 2, PANEL, 2)
    back = packed.view(np.uint16).reshape(shape).transpose(2, 1, 3, 5, 0, 4)
    codes = back.reshape(spec.steps * STEP, spec.panels * PANEL)[: spec.k, : spec.n]
    return Encoded((spec.k, spec.n), {"codes": np.ascontiguousarray(codes)})


def _reference(
    spec: Bf16MatmulSpec, args: tuple[np.ndarray, ...], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    return reference.run(spec, (args[0], args[1].view(np.uint16), *args[2:]), dims)


INNER = Inner(
    multiply=bf16.multiply,
    units=bf16_spec.units,
    scratch_bytes=bf16_spec.scratch_bytes,
    reference=_reference,
    cost=cost.estimate,
    layout=bf16_spec.layout,
    pack=_pack,
    unpack=_unpack,
)
