"""The order of a program's steps and who shares memory in it, as a memory planner sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.backends.llvm.inplace import share
from tilewright.backends.llvm.program import (
    Copy,
    Launch,
    Place,
    Program,
    Repeat,
    Step,
    blocks,
    length,
    lifetimes,
)
from tilewright.compiler.ir.dims import Dim, symbols


@dataclass(frozen=True)
class Lifetime:
    """A buffer as the planner wants it; the same fields as `passes.memory.plan.Lifetime`."""

    name: str
    lower: int
    upper: int
    bytes: Dim


@dataclass(frozen=True)
class Access:
    """What one step of a program touches, so that steps may change places where these allow it.

    Numbers below the number of rows are rows; those above are places without arena memory: the
    caller's outputs and sizes that data decide. A branch or a loop is one step of the numbers
    first <= t < end that lifetimes count in.
    """

    reads: frozenset[int]
    writes: frozenset[int]
    first: int
    end: int


@dataclass(frozen=True)
class Arrangement:
    """A program in one order. Buffers that share memory are one row.

    owner: for every buffer the one whose memory it uses;  row_of: its row
    """

    program: Program
    owner: tuple[int, ...]
    rows: tuple[Lifetime, ...]
    row_of: tuple[int, ...]
    accesses: tuple[Access, ...]


class Placement(Protocol):
    """What the backend needs of a memory plan: offsets of its rows and the arena's size."""

    @property
    def offsets(self) -> tuple[Dim, ...]: ...
    @property
    def arena(self) -> Dim: ...


class Visit(Protocol):
    """A row of memory at `offset` (bytes) while the steps first <= s < end of a program run.

    `retrieved` says that it is copied in before the first of them, `spilled` that it is copied out
    after the last; otherwise steps make it there and nobody needs it afterwards.
    """

    @property
    def row(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def retrieved(self) -> bool: ...
    @property
    def spilled(self) -> bool: ...


class Planner(Protocol):
    """Decides on order and places; `passes.memory.planner` is the one there is."""

    def order(self, accesses: Sequence[Access], rows: Sequence[Lifetime]) -> Sequence[int]:
        """An order of the steps that keeps few bytes alive, all numbers once."""
        ...

    def cost(self, accesses: Sequence[Access], rows: Sequence[Lifetime]) -> tuple[int, int]:
        """Bytes that a run copies to keep to a cap, and the most bytes alive at one step."""
        ...

    def visits(
        self, accesses: Sequence[Access], rows: Sequence[Lifetime]
    ) -> Sequence[Visit] | None:
        """Where rows are at which steps if they do not all have a place of their own."""
        ...

    def place(
        self,
        accesses: Sequence[Access],
        rows: Sequence[Lifetime],
        weights: int | None,
        fixed: Sequence[int | None] | None,
    ) -> Placement:
        """Offsets of all rows; those that are `fixed` stay.

        `weights` are the constants' bytes, if known.
        """
        ...


def schedule(program: Program, planner: Planner) -> Arrangement:
    """`program` in the order that costs least memory, of those that `planner` proposes.

    It is asked twice: with the memory shared that the order as lowered shares, and with none; then
    the new order shares anew. The order as lowered stays unless another one is better.
    """
    best = arrange(program, share(program))
    least = planner.cost(best.accesses, best.rows)
    for start in (best, arrange(program, list(range(len(program.buffers))))):
        order = planner.order(start.accesses, start.rows)
        if list(order) == sorted(order):
            continue
        steps = [program.steps[i] for i in order]
        other = Program(program.buffers, steps, program.counters)
        found = arrange(other, share(other))
        cost = planner.cost(found.accesses, found.rows)
        if cost < least:
            best, least = found, cost
    return best


def arrange(program: Program, owner: Sequence[int]) -> Arrangement:
    """The rows and accesses of a program as it is, with memory shared as `owner` says."""
    spans = lifetimes(program)
    merged: dict[int, list[int]] = {}
    for index, root in enumerate(owner):
        merged.setdefault(root, []).append(index)
    rows = tuple(
        Lifetime(
            program.buffers[root].name,
            min(spans[i][0] for i in members),
            max(spans[i][1] for i in members),
            program.buffers[root].bytes,
        )
        for root, members in merged.items()
    )
    position = {root: row for row, root in enumerate(merged)}
    row_of = tuple(position[root] for root in owner)
    return Arrangement(program, tuple(owner), rows, row_of, _accesses(program, row_of, len(rows)))


def _accesses(program: Program, row_of: Sequence[int], rows: int) -> tuple[Access, ...]:
    decided: dict[str, int] = {}
    for step in program.steps:
        for name in _decides(step):
            decided.setdefault(name, rows + len(decided))
    outputs = rows + len(decided)

    def places(touched: Iterator[Place | None]) -> set[int]:
        found = {p for p in touched if p is not None and p.kind in ("arena", "output")}
        return {row_of[p.index] if p.kind == "arena" else outputs + p.index for p in found}

    touched: list[tuple[set[int], set[int]]] = []
    for step in program.steps:
        names = {name for dim in _sizes(step) for name in symbols(dim)} & decided.keys()
        reads = places(_read(step)) | {decided[name] for name in names}
        touched.append((reads, places(_written(step)) | {decided[n] for n in _decides(step)}))
    found, clock = [], 0
    for step, (reads, writes) in zip(program.steps, touched, strict=True):
        end = clock + length(step)
        found.append(Access(frozenset(reads), frozenset(writes), clock, end))
        clock = end
    return tuple(found)


def _read(step: Step) -> Iterator[Place | None]:
    if isinstance(step, Launch):
        yield from (p for i, p in enumerate(step.operands) if i not in step.writes)
    elif isinstance(step, Copy):
        yield step.source
    else:
        yield step.condition
        for block in blocks(step):
            for inner in block:
                yield from _read(inner)


def _written(step: Step) -> Iterator[Place | None]:
    if isinstance(step, Launch):
        yield from (step.operands[i] for i in step.writes)
    elif isinstance(step, Copy):
        yield step.target
    else:
        for block in blocks(step):
            for inner in block:
                yield from _written(inner)


def _decides(step: Step) -> Iterator[str]:
    """The symbols that a step gives a value."""
    if isinstance(step, Launch):
        yield from step.counts
    elif isinstance(step, Repeat):
        yield step.counter
        if step.length is not None:
            yield step.length
    for block in blocks(step):
        for inner in block:
            yield from _decides(inner)


def _sizes(step: Step) -> Iterator[Dim]:
    """Every dimension that a step is run with."""
    yield from (p.offset for p in (*_read(step), *_written(step)) if p is not None)
    if isinstance(step, Launch):
        yield from (*step.dims, step.units, step.grain)
    elif isinstance(step, Copy):
        yield step.bytes
    elif isinstance(step, Repeat) and step.trips is not None:
        yield step.trips
    for block in blocks(step):
        for inner in block:
            yield from _sizes(inner)
