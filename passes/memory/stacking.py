"""Placement when sizes are known only at run time: who lies above whom, decided once.

A packing at sample sizes says of every two buffers that meet which one lies below. Kept for all
sizes, that gives each buffer the offset where the highest buffer below it ends: an expression of
maxima and sums that the artifact evaluates when the shapes of a run are known. No two buffers
that meet overlap at any sizes, and at the sample sizes the arena is never above that packing. It
is the longest-path compaction of integrated circuit layout (Lengauer, 1990, chapter 10).
"""

from collections.abc import Sequence

from tilewright.compiler.ir.dims import Bounds, Dim, Expr, Fn, greatest
from tilewright.passes.memory.problem import Buffer

LARGEST = 400
"""Symbols and functions in an offset, shared parts counted every time, beyond which it is too
much for an artifact to compute and for a report to show."""


def stack(
    buffers: Sequence[Buffer], offsets: Sequence[int], sizes: Sequence[Dim], known: Bounds
) -> tuple[list[Dim], Dim] | None:
    """Offsets (bytes) that keep the order of a packing for all `sizes`, and the arena's size.

    `offsets` pack `buffers`, whose sizes are those of `sizes` at some values of the symbols;
    `known` bounds the symbols. None if the expressions grow too large.
    """
    turn = sorted(range(len(buffers)), key=lambda i: (offsets[i], i))
    starts: list[Dim] = [0] * len(buffers)
    ends: list[Dim] = [0] * len(buffers)
    under: dict[int, set[int]] = {}
    for position, i in enumerate(turn):
        b = buffers[i]
        covered: set[int] = set()
        below: list[Dim] = []
        for j in reversed(turn[:position]):
            a = buffers[j]
            if j not in covered and a.lower < b.upper and b.lower < a.upper:
                covered |= {j, *under[j]}  # what lies under j ends no later than j
                below.append(ends[j])
        under[i] = covered
        starts[i] = greatest(below, known)
        ends[i] = starts[i] + sizes[i]
        if weight(ends[i]) > LARGEST:
            return None
    arena = greatest([ends[i] for i in turn], known)
    return (starts, arena) if weight(arena) <= LARGEST else None


def weight(dim: Dim) -> int:
    """Symbols and functions in an expression, at most just above `LARGEST`."""
    total, left = 0, [dim]
    while left and total <= LARGEST:
        part = left.pop()
        if isinstance(part, Expr):
            for atoms, _ in part.terms:
                total += len(atoms)
                left += [x for atom in atoms if isinstance(atom, Fn) for x in (atom.a, atom.b)]
    return total
