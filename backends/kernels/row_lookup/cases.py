"""Launches on which lookups are tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.row_lookup.packing import pack, unpack
from tilewright.backends.kernels.row_lookup.spec import (
    KINDS,
    PANELS,
    RowLookupSpec,
    accuracy,
    format_of,
)
from tilewright.compiler.formats import named

SHAPES = ((1, 1, 1), (5, 40, 64), (9, 33, 100), (17, 65, 65), (8, 3, 31), (23, 70, 200), (0, 4, 9))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    return tuple(
        _case(m, rows, width, kind, index)
        for m, rows, width in SHAPES
        for kind in (*KINDS, PANELS)
        for index in ("i64", "i32")
        if format_of(RowLookupSpec(rows, width, index, kind)) != "w4-g64" or width > 64
    )


def _case(m: int, rows: int, width: int, kind: str, index: str) -> Case:
    """Indices at both ends, from both ends."""
    spec = RowLookupSpec(rows, width, index, kind)
    rng = np.random.default_rng([m, rows, width])
    table = rng.standard_normal((rows, width)).astype(np.float32)
    table[rows // 2] = 0
    chosen = rng.integers(-rows, rows, m)
    ends = np.array([0, rows - 1, -1, -rows])[:m]
    chosen[: len(ends)] = ends
    name = format_of(spec)
    weights = named(name).encode(table.T) if name else np.ascontiguousarray(table.T)
    logical = weights
    if accuracy(spec):  # bf16 holds these exactly
        logical = unpack(pack(weights, spec), spec)
    held = named(name).decode(weights).astype(np.float32) if name else logical
    return Case(
        label=f"{kind}-{m}of{rows}x{width}-{index}",
        spec=spec,
        args=(chosen.astype(index.replace("i", "int")), pack(logical, spec)),
        results=(np.zeros((m, width), np.float32),),
        dims=(m,),
        expected=(held.T[chosen].astype(np.float64),),
        weights=(logical, 1),
        rtol=0,
        atol=0,
    )
