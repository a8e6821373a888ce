"""Divisor pairs: the ways to see an axis as two."""

from functools import cache


@cache
def pairs(size: int) -> tuple[tuple[int, int], ...]:
    """All (a, b) with a b = size, 1 < a < size."""
    return tuple((a, size // a) for a in range(2, size // 2 + 1) if size % a == 0)
