"""One plan from lifetimes and symbolic sizes: constant offsets where possible, else expressions."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Bounds, Dim, bounds, ceildiv, evaluate, greatest, symbols
from tilewright.passes.memory.certificate import Certificate
from tilewright.passes.memory.exact import pack_exact
from tilewright.passes.memory.fast import Traffic
from tilewright.passes.memory.greedy import pack_greedy
from tilewright.passes.memory.problem import ALIGNMENT, Buffer, height, max_live, validate
from tilewright.passes.memory.slots import assign_slots
from tilewright.passes.memory.stacking import stack, weight

NOMINAL = 128
"""The value that an unbounded symbol counts as when a plan is judged."""

EXACT_WORK = 1_000_000
"""Nodes times buffers that the search spends on a capacity, if that suffices: about a second."""

SAMPLES = 16
"""Combinations of symbol values at which offsets that are expressions are judged."""

TRIES = 8
"""Packings of those whose order is tried."""


class Row(Protocol):
    """A buffer of `bytes` (a dimension expression) that exists in the steps lower <= t < upper."""

    @property
    def name(self) -> str: ...
    @property
    def lower(self) -> int: ...
    @property
    def upper(self) -> int: ...
    @property
    def bytes(self) -> Dim: ...


@dataclass(frozen=True)
class Lifetime:
    """A `Row`."""

    name: str
    lower: int
    upper: int
    bytes: Dim


@dataclass(frozen=True)
class Sample:
    """An arena at some values of the symbols, and the max-live bound there, both in bytes."""

    env: Mapping[str, int]
    arena: int
    bound: int


@dataclass(frozen=True)
class Plan:
    """Offsets (bytes, dimension expressions) of every buffer and the size of the arena.

    `bound` is the max-live bound, `nominal` the arena's size at the same symbol values `env`;
    `method` says how the offsets were found. `samples` judge offsets that are expressions at other
    values of the symbols; constant ones are judged at `env` alone. `certificate` is what is proven
    when the steps are known too; `traffic` what is copied to keep to a cap.
    """

    offsets: tuple[Dim, ...]
    arena: Dim
    bound: int
    nominal: int
    env: Mapping[str, int]
    method: str
    samples: tuple[Sample, ...] = ()
    certificate: Certificate | None = None
    traffic: Traffic | None = None

    @property
    def worst(self) -> Sample:
        """Where the arena is farthest above the bound, by ratio."""
        here = Sample(self.env, self.nominal, self.bound)
        return max((here, *self.samples), key=lambda s: s.arena / max(s.bound, 1))

    def conclusion(self) -> str:
        """What is known of how good the plan is, in one sentence."""
        if self.traffic is not None:
            return self.traffic.conclusion()
        assert self.certificate is not None, "what is proven takes the steps"
        proven = self.certificate.conclusion()
        if not self.samples:
            return proven
        worst = self.worst
        at = ", ".join(f"{name} = {size}" for name, size in worst.env.items())
        above = 100 * (worst.arena / worst.bound - 1) if worst.bound else 0.0
        count = 1 + len(self.samples)
        return f"{proven}; of {count} sizes, at worst {above:.1f}% above max-live ({at})"

    def proof(self) -> dict[str, Any]:
        """What is proven, for reports: numbers in bytes, and lines of text."""
        given = self.certificate
        lines = given.text().split("\n")[:-1] if given is not None else []
        return {
            "certificate": None if given is None else asdict(given),
            "copies": None if self.traffic is None else asdict(self.traffic),
            "samples": [
                {"at": dict(s.env), "arena": s.arena, "max_live": s.bound} for s in self.samples
            ],
            "text": [*lines, self.conclusion()],
        }


def plan_memory(
    lifetimes: Sequence[Row], table: Mapping[str, Symbol], exact_seconds: float = 60.0
) -> Plan:
    """Place all buffers. Every plan passes the independent validator before it is returned.

    The search for a lower arena is limited by its size, so that equal programs get equal plans;
    `exact_seconds` is what it may take at worst.
    """
    env, sized, constant = judged(lifetimes, table)
    if constant:
        return _constant(sized, env, exact_seconds)
    sizes = [_aligned(b.bytes) if b.lower < b.upper else 0 for b in lifetimes]
    return _symbolic(lifetimes, sizes, table, env, exact_seconds)


def judged(
    lifetimes: Sequence[Row], table: Mapping[str, Symbol]
) -> tuple[dict[str, int], list[Buffer], bool]:
    """Symbol values, the buffers' sizes for judging a plan, and whether no size exceeds these.

    Symbols stand at their upper bounds, at `NOMINAL` without one.
    """
    used = set().union(*(symbols(b.bytes) for b in lifetimes)) if lifetimes else set()
    limits = {n: limit(table[n]) for n in sorted(used)}
    env = {n: NOMINAL if high is None else high for n, high in limits.items()}
    env = {n: max(v, table[n].low) for n, v in env.items()}
    sizes = [_aligned(b.bytes) if b.lower < b.upper else 0 for b in lifetimes]
    most = [bounds(size, {n: (table[n].low, limits[n]) for n in limits})[1] for size in sizes]
    constant = None not in most
    found = [
        Buffer(
            b.name,
            b.lower,
            b.upper,
            high if constant and high is not None else evaluate(size, env),
        )
        for b, size, high in zip(lifetimes, sizes, most, strict=True)
    ]
    return env, found, constant


def _constant(sized: Sequence[Buffer], env: Mapping[str, int], seconds: float) -> Plan:
    offsets, method = _pack(sized, seconds)
    arena = height(sized, offsets)
    validate(sized, offsets, arena, ALIGNMENT)
    return Plan(tuple(offsets), arena, max_live(sized), arena, env, method)


def _pack(sized: Sequence[Buffer], seconds: float) -> tuple[list[int], str]:
    offsets = pack_greedy(sized)
    if height(sized, offsets) <= max_live(sized):
        return offsets, "greedy"
    nodes = max(EXACT_WORK // len(sized), 4 * len(sized))
    offsets, proven = pack_exact(sized, offsets, seconds, nodes)
    return offsets, "exact" if proven else "search (bound not met)"


def _symbolic(
    lifetimes: Sequence[Row],
    sizes: Sequence[Dim],
    table: Mapping[str, Symbol],
    env: Mapping[str, int],
    seconds: float,
) -> Plan:
    """The placement that is best where it is worst, among those made at several sizes."""
    known = {name: (symbol.low, symbol.high) for name, symbol in table.items()}

    def at(values: Mapping[str, int]) -> list[Buffer]:
        found = (evaluate(size, values) for size in sizes)
        return [Buffer(b.name, b.lower, b.upper, s) for b, s in zip(lifetimes, found, strict=True)]

    places = _samples(env, table)
    tries: list[tuple[list[Dim], Dim, str]] = []
    seen: set[tuple[int, ...]] = set()
    for values, lives in itertools.product(places, (False, True)):
        if len(seen) == TRIES:
            break
        sized = at(values)
        if values == env and not lives:
            packed, _ = _pack(sized, seconds)
        else:
            packed = pack_greedy(sized, lives=lives)
        if tuple(packed) not in seen:
            seen.add(tuple(packed))
            found = stack(sized, packed, sizes, known)
            if found is not None:
                tries.append((*found, "stacks"))
    tries.append((*_slots(at(env), sizes, known), "slots"))
    plans: list[Plan] = []
    for offsets, arena, method in tries:
        judged: list[Sample] = []
        for values in places:
            sized, total = at(values), evaluate(arena, values)
            validate(sized, [evaluate(o, values) for o in offsets], total, ALIGNMENT)
            judged.append(Sample(values, total, max_live(sized)))
        first, *rest = judged
        plans.append(
            Plan(tuple(offsets), arena, first.bound, first.arena, env, method, tuple(rest))
        )
    return min(plans, key=lambda p: (p.worst.arena / max(p.worst.bound, 1), p.nominal, _terms(p)))


def _terms(plan: Plan) -> int:
    return sum(map(weight, plan.offsets))


def _slots(sized: Sequence[Buffer], sizes: Sequence[Dim], known: Bounds) -> tuple[list[Dim], Dim]:
    slots = assign_slots(sized)
    members: dict[int, list[Dim]] = {}
    for size, slot in zip(sizes, slots, strict=True):
        members.setdefault(slot, []).append(size)
    starts: list[Dim] = []
    total: Dim = 0
    for size in (greatest(members[slot], known) for slot in sorted(members)):
        starts.append(total)
        total = total + size
    return [starts[s] for s in slots], total


def _samples(env: Mapping[str, int], table: Mapping[str, Symbol]) -> list[dict[str, int]]:
    """`env` first, then symbols at their least, a middling and their nominal value, combined."""
    lows = {n: least(table[n]) for n in env}
    ranges = {n: sorted({lows[n], _middle(lows[n], v), v}) for n, v in env.items()}
    while math.prod(map(len, ranges.values())) > SAMPLES:
        longest = max(ranges, key=lambda n: len(ranges[n]))
        ranges[longest] = (
            ranges[longest][-1:] if len(ranges[longest]) == 2 else ranges[longest][::2]
        )
    grid = (
        dict(zip(ranges, values, strict=True)) for values in itertools.product(*ranges.values())
    )
    return [dict(env), *(values for values in grid if values != env)]


def _middle(low: int, high: int) -> int:
    return max(low, math.isqrt(max(low, 1) * high))


def limit(symbol: Symbol) -> int | None:
    """The bound of a symbol that memory may be sized for; bounds of a mere type do not count."""
    return symbol.high if symbol.high is not None and symbol.high < 1 << 31 else None


def least(symbol: Symbol) -> int:
    """The lowest value of a symbol at which a plan is judged: no size is negative, and a run whose
    integer inputs would make one is refused before it has an arena."""
    return symbol.low if symbol.low > -1 << 31 else 0


def _aligned(size: Dim) -> Dim:
    return ceildiv(size, ALIGNMENT) * ALIGNMENT
