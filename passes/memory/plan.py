"""One plan from lifetimes and symbolic sizes: constant offsets where possible, slots otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Dim, bounds, ceildiv, evaluate, greatest, symbols
from tilewright.passes.memory.exact import pack_exact
from tilewright.passes.memory.greedy import pack_greedy
from tilewright.passes.memory.problem import ALIGNMENT, Buffer, height, max_live, validate
from tilewright.passes.memory.slots import assign_slots

NOMINAL = 128
"""The value that an unbounded symbol counts as when a plan is judged."""

EXACT_WORK = 1_000_000
"""Nodes times buffers that the search spends on a capacity, if that suffices: about a second."""


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `bytes` (a dimension expression) that exists in the steps lower <= t < upper."""

    name: str
    lower: int
    upper: int
    bytes: Dim


@dataclass(frozen=True)
class Plan:
    """Offsets (bytes, dimension expressions) of every buffer and the size of the arena.

    `bound` is the max-live bound, `nominal` the arena's size at the same symbol values `env`;
    `method` says how the offsets were found.
    """

    offsets: tuple[Dim, ...]
    arena: Dim
    bound: int
    nominal: int
    env: Mapping[str, int]
    method: str


def plan_memory(
    lifetimes: Sequence[Lifetime], table: Mapping[str, Symbol], exact_seconds: float = 60.0
) -> Plan:
    """Place all buffers. Every plan passes the independent validator before it is returned.

    The search for a lower arena is limited by its size, so that equal programs get equal plans;
    `exact_seconds` is what it may take at worst.
    """
    used = set().union(*(symbols(b.bytes) for b in lifetimes)) if lifetimes else set()
    limits = {n: _limit(table[n]) for n in sorted(used)}
    env = {n: NOMINAL if limit is None else limit for n, limit in limits.items()}
    env = {n: max(v, table[n].low) for n, v in env.items()}
    sizes = [_aligned(b.bytes) if b.lower < b.upper else 0 for b in lifetimes]
    most = [bounds(size, {n: (table[n].low, limits[n]) for n in limits})[1] for size in sizes]
    constant = None not in most
    sized = [
        Buffer(b.name, b.lower, b.upper, high if constant and high is not None else at)
        for b, high, at in zip(lifetimes, most, (evaluate(s, env) for s in sizes), strict=True)
    ]
    bound = max_live(sized)
    if constant:
        offsets = pack_greedy(sized)
        method = "greedy"
        if height(sized, offsets) > bound:
            nodes = max(EXACT_WORK // len(sized), 4 * len(sized))
            offsets, proven = pack_exact(sized, offsets, exact_seconds, nodes)
            method = "exact" if proven else "search (bound not met)"
        arena = height(sized, offsets)
        validate(sized, offsets, arena, ALIGNMENT)
        return Plan(tuple(offsets), arena, bound, arena, env, method)
    slots = assign_slots(sized)
    members: dict[int, list[Dim]] = {}
    for size, slot in zip(sizes, slots, strict=True):
        members.setdefault(slot, []).append(size)
    known = {name: (symbol.low, symbol.high) for name, symbol in table.items()}
    starts: list[Dim] = []
    total: Dim = 0
    for size in (greatest(members[slot], known) for slot in sorted(members)):
        starts.append(total)
        total = total + size
    placed = tuple(starts[s] for s in slots)
    nominal = evaluate(total, env)
    validate(sized, [evaluate(o, env) for o in placed], nominal, ALIGNMENT)
    return Plan(placed, total, bound, nominal, env, "slots")


def _limit(symbol: Symbol) -> int | None:
    """The bound of a symbol that memory may be sized for; bounds of a mere type do not count."""
    return symbol.high if symbol.high is not None and symbol.high < 1 << 31 else None


def _aligned(size: Dim) -> Dim:
    return ceildiv(size, ALIGNMENT) * ALIGNMENT
