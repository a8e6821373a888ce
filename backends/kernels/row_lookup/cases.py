"""Launches on which lookups are tested."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.row_lookup.packing import pack
from tilewright.backends.kernels.row_lookup.spec import (
    KINDS,
    PANELS,
    TIED,
    RowLookupSpec,
    accuracy,
    format_of,
)
from tilewright.compiler.formats import Encoded, named

TRIED = ("w8a8-sym", "w8-g64", "w6-g64", "w5-g64", "w4-g32", "w4-g64", "w4a8b64-g64", "w2-g64")
"""Formats whose panels are read."""

SHAPES = ((1, 1, 1), (5, 40, 64), (9, 33, 203), (17, 65, 65), (8, 3, 31), (0, 4, 9))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    return tuple(
        _case(m, rows, width, kind, index)
        for m, rows, width in SHAPES
        for kind in (*KINDS, PANELS, *(TIED + name for name in TRIED if m in (9, 17)))
        for index in (("i64", "i32") if m == 17 else ("i64",))
        if _suits(format_of(RowLookupSpec(rows, width, index, kind)), width)
    )


def _suits(name: str, width: int) -> bool:
    return not name or named(name).supports(width, 1)


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
    logical: np.ndarray | Encoded
    if name:
        logical = named(name).encode(table.T)
        held = named(name).decode(logical).astype(np.float32)
    else:
        held = np.ascontiguousarray(table.T)
        if accuracy(spec):  # numbers that bf16 holds exactly
            held = held.astype(ml_dtypes.bfloat16).astype(np.float32)
        logical = held
    return Case(
        label=f"{kind.replace(TIED, 'tied-')}-{m}of{rows}x{width}-{index}",
        spec=spec,
        args=(chosen.astype(index.replace("i", "int")), pack(logical, spec)),
        results=(np.zeros((m, width), np.float32),),
        dims=(m,),
        expected=(held.T[chosen].astype(np.float64),),
        weights=(logical, 1),
        rtol=0,
        atol=0,
    )
