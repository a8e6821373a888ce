"""Reductions over the lanes of several vectors at once, and of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from tilewright.backends.llvm.builder import I32, Code

Combine = Callable[[ir.Value, ir.Value], ir.Value]


def across(
    code: Code, rows: Sequence[ir.Value], combine: Combine, half: int | None = None
) -> ir.Value:
    """Lane i: all lanes of ``rows[i]`` combined, of L vectors of L lanes.

    L - 1 steps of two shuffles: half of what transposing them takes. They can be taken in parts:
    with ``half`` L / 2 for every n-th of the rows, and then for the L / n results.
    """
    now, half = list(rows), half or len(rows) // 2
    while len(now) > 1:
        rest = len(now) // 2
        now = [_fold(code, now[i], now[i + rest], half, combine) for i in range(rest)]
        half //= 2
    return now[0]


def all_lanes(code: Code, value: ir.Value, combine: Combine) -> ir.Value:
    """Every lane: all lanes of ``value`` combined."""
    lanes = value.type.count
    half = lanes // 2
    while half:
        picks = [j ^ half for j in range(lanes)]
        value = combine(value, _shuffle(code, value, value, picks))
        half //= 2
    return value


def greater(code: Code) -> Combine:
    """The greater of two vectors' lanes; the second one's where one is NaN."""
    return lambda x, y: code.b.select(code.b.fcmp_ordered(">", x, y), x, y)


def _fold(code: Code, low: ir.Value, high: ir.Value, half: int, combine: Combine) -> ir.Value:
    """Lanes j without the bit ``half``: low[j] and low[j + half]; with it: of high."""
    lanes = low.type.count
    keep = [j if not j & half else lanes + j for j in range(lanes)]
    swap = [j + half if not j & half else lanes + j - half for j in range(lanes)]
    return combine(_shuffle(code, low, high, keep), _shuffle(code, low, high, swap))


def _shuffle(code: Code, low: ir.Value, high: ir.Value, picks: list[int]) -> ir.Value:
    return code.b.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, len(picks)), picks))
