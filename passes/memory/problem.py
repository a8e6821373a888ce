"""The offset problem, its lower bound, and the independent check of a solution."""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Buffer:
    """`size` bytes that must exist in the steps lower <= t < upper."""

    name: str
    lower: int
    upper: int
    size: int


class PlanError(Exception):
    """A memory plan that is wrong: our fault."""


def max_live(buffers: Sequence[Buffer]) -> int:
    """The greatest number of bytes alive at one step: no arena can be smaller."""
    events: dict[int, int] = {}
    for b in buffers:
        if b.upper > b.lower:
            events[b.lower] = events.get(b.lower, 0) + b.size
            events[b.upper] = events.get(b.upper, 0) - b.size
    live = best = 0
    for step in sorted(events):
        live += events[step]
        best = max(best, live)
    return best


def height(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Bytes of the arena that holds `buffers` at `offsets`."""
    return max((o + b.size for b, o in zip(buffers, offsets, strict=True)), default=0)


def validate(
    buffers: Sequence[Buffer], offsets: Sequence[int], arena: int, alignment: int = 1
) -> None:
    """Raise `PlanError` unless no two buffers share a byte at one step, the O(n^2) way."""
    if len(buffers) != len(offsets):
        raise PlanError(f"{len(buffers)} buffers but {len(offsets)} offsets")
    for i, (a, at) in enumerate(zip(buffers, offsets, strict=True)):
        if at < 0 or at + a.size > arena:
            raise PlanError(f"{a.name} at {at}+{a.size} leaves the arena of {arena} bytes")
        if at % alignment:
            raise PlanError(f"{a.name} at {at} is not aligned to {alignment}")
        for b, bt in zip(buffers[:i], offsets[:i], strict=True):
            in_time = a.lower < b.upper and b.lower < a.upper
            if in_time and at < bt + b.size and bt < at + a.size:
                raise PlanError(f"{a.name} at {at} and {b.name} at {bt} overlap")
