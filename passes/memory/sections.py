"""Sections of time: what a packing has to respect, in the fewest rows.

MiniMalloc (Moffitt, ASPLOS 2023) sweeps time into sections with a constant set of live buffers.
A section whose buffers all live in another section too says nothing new, so only the maximal ones
are kept. Every buffer still covers a contiguous range of them, and two buffers meet in time exactly
when they share one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.passes.memory.problem import Buffer

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sections:
    """The live buffers of a problem, by index into the caller's list, and the sections they cover.

    indices: int64 [n], the buffers that take part (a size and a life of at least one step)
    low, high: buffer k of these covers the sections low[k] <= s < high[k]
    size: int64 [n], sizes divided by `unit`, their greatest common divisor
    inside: bool [n, sections]
    width, peak: lifetime in steps, and the most bytes (in units) live in one of its sections
    """

    indices: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    size: Ints
    unit: int
    inside: npt.NDArray[np.bool_]
    width: Ints
    peak: Ints

    @property
    def count(self) -> int:
        """The number of sections."""
        return int(self.inside.shape[1])


def sweep(buffers: Sequence[Buffer]) -> Sections:
    """The maximal sections of `buffers`; those without bytes or without a step are left out."""
    indices = tuple(i for i, b in enumerate(buffers) if b.size > 0 and b.upper > b.lower)
    chosen = [buffers[i] for i in indices]
    births, deaths = {b.lower for b in chosen}, {b.upper for b in chosen}
    # A set of live buffers is maximal just from a birth that is followed by a death.
    starts: list[int] = []
    dying = False
    for point in sorted(births | deaths, reverse=True):
        if point in births and dying:
            starts.append(point)
            dying = False
        dying = dying or point in deaths
    starts.reverse()
    low = tuple(sum(s < b.lower for s in starts) for b in chosen)
    high = tuple(sum(s < b.upper for s in starts) for b in chosen)
    unit = math.gcd(*(b.size for b in chosen)) or 1
    size = np.array([b.size // unit for b in chosen], np.int64)
    inside = np.zeros((len(chosen), len(starts)), np.bool_)
    for k, (first, end) in enumerate(zip(low, high, strict=True)):
        inside[k, first:end] = True
    total = size @ inside
    peak = np.array([total[a:b].max() for a, b in zip(low, high, strict=True)], np.int64)
    width = np.array([b.upper - b.lower for b in chosen], np.int64)
    return Sections(indices, low, high, size, unit, inside, width, peak)
