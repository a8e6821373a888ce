"""Tables of sines and cosines of multiples become their computation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.leaf import DimValue, Iota
from tilewright.compiler.ir.ops.shape import Broadcast, Reshape, Slice
from tilewright.compiler.ir.ops.unary import Cast, Cos, Sin
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

LEAST_ROWS = 32
"""Of a table that is looked at: fewer could be met by chance, and save nothing."""

CLOSE = 2.0**-23
"""By how much elements may differ from what is computed: one unit in the last place of 1."""

CLEAR = 0.3
"""Distance of a sine or cosine from where it is flat, for its angle to be taken from it."""

NEIGHBOURS = 8
"""Float32 numbers on either side of an estimated frequency that are tried."""


@graph_pass
def compute_rotations(graph: Graph) -> Graph:
    """Compute the rows that are sliced from a table cos(p f) or sin(p f), p the number of the row.

        slice(constant [P, d], rows s .. s + n)  ->  cos(cast(iota(n) + s) * f), f a constant [d]

    So rotary position embeddings come with exported models, with a row for every position that is
    possible. Products p f are rounded to f32 as those were from which a table was made, so that
    elements differ by the rounding of the cosine alone.

    Requires: nothing.
    Ensures: no slice of whole rows of a constant of at least 32 rows that has this form.
    Leaves alone: tables that any f misses by more than 2^-23, tables that are gathered from.
    """
    known: dict[str, tuple[type[Cos] | type[Sin], np.ndarray] | None] = {}

    def rule(op: Op, builder: Builder) -> Replacement:
        if not isinstance(op, Slice) or op.x.rank != 2 or op.x.dtype != DType.F32:
            return None
        rows, width = op.x.shape
        whole = op.steps == (1, 1) and op.starts[1] == 0 and op.shape[1] == width
        table = builder.array(op.x)
        if not whole or table is None or not isinstance(rows, int) or rows < LEAST_ROWS:
            return None
        name = getattr(op.x.op, "name", "")
        if name not in known:
            known[name] = _frequencies(table)
        found = known[name]
        return None if found is None else (_computed(op, *found, builder),)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _computed(
    op: Slice, function: type[Cos] | type[Sin], frequencies: np.ndarray, builder: Builder
) -> Value:
    count, start = op.shape[0], op.starts[0]
    positions = builder.emit(Iota, length=count, dtype=DType.I64)
    if start != 0:
        positions = builder.emit(Add, a=positions, b=_repeated(start, count, builder))
    numbers = builder.emit(Cast, x=positions, dtype=DType.F32)
    column = builder.emit(Reshape, x=numbers, shape=(count, 1))
    row = builder.constant(frequencies, "frequencies")
    angles = (builder.emit(Broadcast, x=x, shape=op.shape) for x in (column, row))
    return builder.emit(function, x=builder.emit(Mul, **dict(zip("ab", angles, strict=True))))


def _repeated(start: Dim, count: Dim, builder: Builder) -> Value:
    scalar = builder.emit(DimValue, size=start)
    return builder.emit(Broadcast, x=scalar, shape=(count,))


def _frequencies(table: np.ndarray) -> tuple[type[Cos] | type[Sin], np.ndarray] | None:
    """The function, and f f32 [d], of a table f32 [P, d]; None where it is no such table."""
    if not table.size or not np.isfinite(table).all() or np.abs(table).max() > 1 + CLOSE:
        return None
    for function, first, of in ((Cos, 1, np.cos), (Sin, 0, np.sin)):
        if (table[0] != first).any():
            continue
        found = [_frequency(column, of) for column in table.T.astype(np.float64)]
        if all(f is not None for f in found):
            return function, np.array(found, np.float32)
    return None


def _frequency(column: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.float32 | None:
    """f, 0 <= f <= pi, of a column of(p f) f64 [P]."""
    estimate = _estimate(column, of is np.cos)
    if estimate is None:
        return None
    near = int(np.float32(estimate).view(np.int32))
    tried = np.arange(max(near - NEIGHBOURS, 0), near + NEIGHBOURS + 1, dtype=np.int32)
    candidates = tried.view(np.float32)
    positions = np.arange(len(column), dtype=np.float32)
    off = [np.abs(of((positions * f).astype(np.float64)) - column).max() for f in candidates]
    best = int(np.argmin(off))
    return candidates[best] if off[best] <= CLOSE else None


def _estimate(column: np.ndarray, cosine: bool) -> float | None:
    """f from angles p f for p doubled again and again, each from the one before to within a
    turn; None where there is none from 0 on."""
    moved = 1 - column if cosine else np.abs(column)
    clear = np.flatnonzero(moved > CLEAR)
    at = int(clear[0]) if len(clear) else len(column) - 1
    found = float(np.arccos(column[at]) if cosine else np.arcsin(column[at])) / at
    if found < 0:
        return None
    while 2 * at < len(column):
        at *= 2
        value = float(np.clip(column[at], -1, 1))
        if 1 - value**2 < CLEAR**2 if cosine else value**2 > 1 - CLEAR**2:
            continue
        angle = np.arccos(value) if cosine else np.arcsin(value)
        both = (angle, -angle) if cosine else (angle, np.pi - angle)
        turns = 2 * np.pi * np.round((at * found - np.array(both)) / (2 * np.pi))
        angles = np.array(both) + turns
        found = float(angles[np.argmin(np.abs(angles - at * found))]) / at
    return found
