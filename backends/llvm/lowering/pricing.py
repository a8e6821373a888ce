"""What every candidate of every question takes, at typical sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

from tilewright.backends.cost.model import of_cost, on_gpu, predict
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.lowering.choice import Fork, Question, Region
from tilewright.backends.profile import MachineProfile
from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Dim, evaluate, symbols

BEHIND = 1.1e-6
"""Seconds of a region that waits for the launch before it in a graph of a GPU, beside its work: 128
rows of 384 in f16 take 1.1 us behind a product (an H200)."""

ROW = 512
"""Elements of a row of a region, about, which is a unit of it."""

SIZES = (1, 16, 128)
"""Values of a symbol at which candidates are compared where nothing says what is typical."""

Env = Mapping[str, int]
Dims = tuple[int, ...]


class Measured(Protocol):
    """Times measured on a machine."""

    def seconds(self, candidate: Candidate, dims: Dims, cold: bool) -> float | None:
        """Of one launch; None if it was not measured."""


@dataclass(frozen=True)
class Prices:
    """Seconds of one launch: `seconds[question][candidate][point]`.

    points: the symbol values of each point. measured: which of the times are measurements. forks:
    of the questions, of which not all are launched; beside: seconds of what each way of each
    launches beside them, `beside[fork][way][point]`.
    """

    points: tuple[Env, ...]
    seconds: tuple[tuple[tuple[float, ...], ...], ...]
    measured: tuple[tuple[tuple[bool, ...], ...], ...]
    forks: tuple[Fork, ...] = ()
    beside: tuple[tuple[tuple[float, ...], ...], ...] = ()

    @cached_property
    def optional(self) -> frozenset[int]:
        """The questions that need not be launched."""
        return frozenset(n for fork in self.forks for n in fork.questions)

    @cached_property
    def least(self) -> list[float]:
        """The least time that the whole graph can take at each point."""
        alone = [n for n in range(len(self.seconds)) if n not in self.optional]

        def best(way: Sequence[int], p: int) -> float:
            return sum(min(times[p] for times in self.seconds[n]) for n in way)

        def fork(fork: Fork, beside: Sequence[Sequence[float]], p: int) -> float:
            ways = zip(fork.ways, beside, strict=True)
            return min(best(way, p) + times[p] for way, times in ways)

        return [
            best(alone, p) + sum(fork(f, self.regions(i), p) for i, f in enumerate(self.forks))
            or 1.0
            for p in range(len(self.points))
        ]

    def regions(self, number: int) -> Sequence[Sequence[float]]:
        """Seconds of what each way of a fork launches beside its questions, at every point."""
        if self.beside:
            return self.beside[number]
        return [[0.0] * len(self.points) for _ in self.forks[number].ways]

    def aside(self, number: int) -> list[float]:
        """What each way of a fork costs beside its questions, as `costs`."""
        return [
            sum(t / low for t, low in zip(times, self.least, strict=True))
            for times in self.regions(number)
        ]

    def costs(self) -> list[list[float]]:
        """For each question what each candidate costs: the sum over points of its time in units of
        the least time that the whole graph can take at that point, so that no point is bad."""
        least = self.least
        return [
            [sum(t / low for t, low in zip(times, least, strict=True)) for times in question]
            for question in self.seconds
        ]


def points(
    questions: Sequence[Question], table: Mapping[str, Symbol], typical: Env
) -> tuple[Env, ...]:
    """Symbol values at which to compare: `typical` ones where given; of the others all at each of
    SIZES, and one at each of SIZES with the rest at the first. Bounds hold everywhere."""
    used = sorted({n for q in questions for d in q.dims for n in symbols(d)})
    free = [n for n in used if n not in typical]
    found = [dict.fromkeys(free, size) for size in SIZES]
    for name in free:
        found += [{**dict.fromkeys(free, SIZES[0]), name: size} for size in SIZES]
    clipped = [{n: _clip({**env, **typical}[n], table.get(n)) for n in used} for env in found]
    return tuple({tuple(env.items()): env for env in clipped}.values())


def _clip(size: int, symbol: Symbol | None) -> int:
    if symbol is None:
        return size
    return max(size if symbol.high is None else min(size, symbol.high), symbol.low)


def price(
    questions: Sequence[Question],
    envs: Sequence[Env],
    target: Target,
    profile: MachineProfile,
    cold: bool,
    measured: Measured | None = None,
    threads: int = 1,
    forks: Sequence[Fork] = (),
) -> Prices:
    """Times of all candidates: measured where known, else predicted.

    Where some candidates of a question were measured at a point, the others, which the tuner passed
    over as slower, count as no faster than the slowest of those. Measurements are of one thread;
    for more they are multiplied with the predicted ratio. threads, cold: as `cost.model.predict`.
    """
    known: dict[tuple[Any, Dims], tuple[float, bool]] = {}

    def one(candidate: Candidate, dims: Dims) -> tuple[float, bool]:
        key = (candidate.spec, dims)
        if key not in known:
            guess = partial(
                predict, candidate.family, candidate.spec, dims, target, profile, cold=cold
            )
            found = measured.seconds(candidate, dims, cold) if measured is not None else None
            if found is not None and threads > 1:
                found *= guess(threads=threads) / guess()
            known[key] = (guess(threads=threads), False) if found is None else (found, True)
        return known[key]

    table = []
    for question in questions:
        rows: list[list[tuple[float, bool]]] = [[] for _ in question.candidates]
        for env in envs:
            dims = sizes(question.dims, env)
            found = [one(c, dims) for c in question.candidates]
            slowest = max((t for t, real in found if real), default=0.0)
            for row, (time, real) in zip(rows, found, strict=True):
                row.append((time if real else max(time, slowest), real))
        table.append(rows)
    return Prices(
        tuple(envs),
        tuple(tuple(tuple(t for t, _ in row) for row in rows) for rows in table),
        tuple(tuple(tuple(real for _, real in row) for row in rows) for rows in table),
        tuple(forks),
        tuple(
            tuple(
                tuple(_seconds(region, env, target, profile, threads) for env in envs)
                for region in fork.regions or (None,) * len(fork.ways)
            )
            for fork in forks
        ),
    )


def _seconds(
    region: Region | None, env: Env, target: Target, profile: MachineProfile, threads: int
) -> float:
    """Of a launch that is no question."""
    if region is None:
        return 0.0
    (count,) = sizes((region.elements,), env)
    cost = Cost(0, count * region.bytes, epilogue=count * region.operations)
    if target.gpu:
        found = on_gpu(cost, max(count // ROW, 1), profile, cold=False)
        return found.seconds - found.launch + BEHIND
    return of_cost(cost, max(count // ROW, 1), profile, threads, cold=False).seconds


def sizes(dims: Sequence[Dim], env: Env) -> Dims:
    """The dims of a launch at a point; sizes that the values make negative count as 0."""
    return tuple(max(evaluate(d, env), 0) for d in dims)
