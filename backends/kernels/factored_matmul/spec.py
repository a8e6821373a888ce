"""Spec of the f32 matmul with two factors, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilewright.backends.kernels.f32_matmul import cost, packing, reference
from tilewright.backends.kernels.f32_matmul import llvm as f32
from tilewright.backends.kernels.f32_matmul import spec as f32_spec
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec, Tile
from tilewright.backends.kernels.factored_matmul.pair import Inner, Pair
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats.factored import RANKS, Factored
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.plain import Float32

ROWS = (14, 56, 196)
"""Rows of a unit: whole register blocks."""


@dataclass(frozen=True)
class FactoredMatmulSpec(Pair):
    """Both products in f32; fields as of `Pair`."""

    k: int
    n: int
    rank: int
    epilogue: Epilogue = IDENTITY
    rows: int = 0

    @property
    def inner(self) -> Inner:
        return INNER

    @property
    def format(self) -> Factored:
        return Factored(self.rank, Float32())

    @property
    def left(self) -> MatmulSpec:
        return MatmulSpec(self.k, self.rank, tile=Tile(rows=ROWS[2]))

    @property
    def right(self) -> MatmulSpec:
        return MatmulSpec(self.rank, self.n, self.epilogue, Tile(rows=ROWS[2]))

    @property
    def blocks(self) -> tuple[int, int, int]:
        return ROWS


def candidates(task: Any, _target: Target) -> tuple[FactoredMatmulSpec, ...]:
    """One spec for every rank below that of the matrix at which factors are as large as it."""
    if not isinstance(task, MatmulTask):
        return ()
    made = (FactoredMatmulSpec(task.k, task.n, rank, task.epilogue) for rank in RANKS)
    return tuple(spec for spec in made if spec.format.supports(task.k, task.n))


def variants(spec: FactoredMatmulSpec, _target: Target) -> tuple[FactoredMatmulSpec, ...]:
    """The other size of blocks of rows."""
    others = (replace(spec, rows=rows) for rows in ROWS[1:])
    return (spec, *(o for o in others if o.rows_per_unit != spec.rows_per_unit))


def _pack(encoded: Encoded, spec: MatmulSpec) -> np.ndarray:
    return packing.pack(encoded["values"], spec)


def _unpack(packed: np.ndarray, spec: MatmulSpec) -> Encoded:
    panels = packed.view(np.float32).reshape(spec.panels, spec.k, PANEL)
    return Encoded((spec.k, spec.n), {"values": packing.unpack(panels, spec)})


def _reference(
    spec: MatmulSpec, args: tuple[np.ndarray, ...], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    return reference.run(spec, (args[0], args[1].view(np.float32), *args[2:]), dims)


INNER = Inner(
    multiply=f32.multiply,
    units=f32_spec.units,
    scratch_bytes=f32_spec.scratch_bytes,
    reference=_reference,
    cost=cost.estimate,
    layout=f32_spec.layout,
    pack=_pack,
    unpack=_unpack,
)
