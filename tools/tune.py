"""Measuring what a compile chooses between, so that it can choose by times of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, log
from time import perf_counter
from typing import Any

from tilewright.backends.artifact.selection_report import describe_spec, describe_task
from tilewright.backends.cuda.here import why_not_here
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.lowering.pricing import Env, sizes
from tilewright.backends.llvm.lowering.select import Selection
from tilewright.backends.target import Target, cpu_flags, runs_here
from tilewright.backends.tuning import device
from tilewright.backends.tuning.cache import Cache, Row, Shipped, key_of, row_key
from tilewright.backends.tuning.code import Codes
from tilewright.backends.tuning.device import Loaded
from tilewright.backends.tuning.measure import Compiled, load_candidates, measure
from tilewright.backends.tuning.sources import kernel_version
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.dims import Dim

Progress = Callable[[str, int, int], None]
"""Gets what is measured now, its number and the number of all."""


@dataclass(frozen=True)
class Contest:
    """Candidates for one task at one point: those that prediction puts first."""

    task: Any
    dims: tuple[int, ...]
    point: Env
    candidates: tuple[Candidate, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """Seconds of a contest's candidates: `measured` now, or known from before."""

    contest: Contest
    seconds: tuple[float, ...]
    measured: bool

    @property
    def regret(self) -> float:
        """Time of the candidate predicted fastest over that of the fastest."""
        first = self.contest.predicted.index(min(self.contest.predicted))
        return self.seconds[first] / min(self.seconds)

    def describe(self) -> dict[str, Any]:
        """For the document of --json; times in microseconds."""
        contest = self.contest
        rows = zip(contest.candidates, contest.predicted, self.seconds, strict=True)
        return {
            "task": describe_task(contest.task),
            "at": dict(contest.point),
            "candidates": [
                {
                    "kernel": f"{c.family.name} {describe_spec(c.spec, contest.task)}".rstrip(),
                    "predicted": predicted * 1e6,
                    "measured": seconds * 1e6,
                }
                for c, predicted, seconds in rows
            ],
            "regret": self.regret,
        }


def contests(selection: Selection, top: int) -> list[Contest]:
    """Every distinct choice at every point, with the `top` candidates of least predicted time, but
    the best of each family before the second of any: tiles differ less than families, and so do
    the errors of their predictions.

    Tasks that cannot say what operands a launch has are left out, and choices of one candidate.
    """
    found: dict[tuple[Any, tuple[int, ...]], Contest] = {}
    for question, prices in zip(selection.questions, selection.prices.seconds, strict=True):
        if len(question.candidates) == 1 or not hasattr(question.task, "operands"):
            continue
        known: dict[tuple[Dim, ...], None] = {}
        for p, env in enumerate(selection.prices.points):
            dims = sizes(question.dims, env)
            if dims in known or (question.task, dims) in found:
                continue
            known[dims] = None
            order = _first(
                [c.family.name for c in question.candidates], [t[p] for t in prices], top
            )
            found[question.task, dims] = Contest(
                question.task,
                dims,
                env,
                tuple(question.candidates[j] for j in order),
                tuple(prices[j][p] for j in order),
            )
    return list(found.values())


def _first(families: Sequence[str], times: Sequence[float], top: int) -> list[int]:
    """Numbers of the first `top` candidates by time, the best of each family before all others."""
    order = sorted(range(len(times)), key=lambda j: times[j])
    best = {families[j]: j for j in reversed(order)}
    return sorted(order, key=lambda j: (best[families[j]] != j, times[j]))[:top]


def check_runs(target: Target) -> None:
    """Raise UserError if this machine cannot run code of `target`."""
    if target.gpu:
        need = why_not_here(target)
        if need:
            hint = "tune on a machine with such a GPU; its cache goes with it"
            what = "this machine cannot run its code, so there is nothing to measure"
            raise UserError(f"--target {target.name}", what, need, hint)
    elif not runs_here(target):
        missing = sorted(set(target.required_flags) - cpu_flags())
        raise UserError(
            f"--target {target.name}",
            "this machine cannot run its code, so there is nothing to measure",
            f"missing: {', '.join(missing)}" if missing else f"it is for {target.triple}",
            "tune on such a machine; its cache goes with `tilewright compile --tuned` there",
        )


@dataclass
class Budget:
    """Seconds that measuring may still take; compiling does not count. None: no end."""

    seconds: float | None = None

    @property
    def over(self) -> bool:
        """No further contest starts."""
        return self.seconds is not None and self.seconds <= 0

    def spend(self, seconds: float) -> None:
        """Take away what a contest took."""
        if self.seconds is not None:
            self.seconds -= seconds


def run(
    selection: Selection,
    target: Target,
    cache: Cache,
    top: int,
    seconds: float,
    again: bool,
    progress: Progress,
    budget: Budget | None = None,
    jobs: int | None = None,
) -> Iterator[Outcome]:
    """Measure what the cache does not hold, each result kept as soon as it is there.

    seconds: for each candidate at each point. again: measure also what the cache holds. budget:
    contests that it does not reach are left out; their code is kept for the next call. jobs:
    processes that compile, before all measuring; None for one a core. Raises UserError where the
    cache cannot be written or AMX is refused.
    """
    budget, codes = budget or Budget(), Codes(cache.folder / "code")
    todo = contests(selection, top)
    by_task: dict[Any, list[Contest]] = {}
    for contest in todo:
        by_task.setdefault(contest.task, []).append(contest)
    known: dict[Any, tuple[float, ...] | None] = {
        (c.task, c.dims): None if again else _known(cache, c, target, selection.cold) for c in todo
    }
    groups = {
        task: group
        for task, group in by_task.items()
        if any(known[task, contest.dims] is None for contest in group)
    }
    every = [_every(group) for group in groups.values()]
    with _kept(cache):
        for number, i in enumerate(codes.make(every, target, jobs or os.cpu_count() or 1), 1):
            progress(f"compiled for {describe_task(list(groups)[i])}", number, len(groups))
    number = 0
    for task, group in by_task.items():
        compiled: Compiled | Loaded | None = None
        for contest in group:
            number += 1
            found = known[task, contest.dims]
            if found is not None:
                yield Outcome(contest, found, measured=False)
                continue
            if budget.over:
                continue
            progress(describe_task(task), number, len(todo))
            compiled = compiled or _load(_every(group), target, codes)
            begin = perf_counter()
            # all of them: times that are compared were taken in turn
            rivals, dims = contest.candidates, contest.dims
            how = (task, dims, selection.cold, seconds)
            if isinstance(compiled, Loaded):
                times = device.measure(compiled, rivals, *how)
            else:
                times = measure(compiled, rivals, *how)
            budget.spend(perf_counter() - begin)
            with _kept(cache):
                for rival, measured in zip(rivals, times, strict=True):
                    cache.write(key_of(rival, dims, target, selection.cold), measured)
            yield Outcome(contest, tuple(times), measured=True)
        if not budget.over:
            codes.drop(_every(group), target)


def times_of(outcomes: Iterable[Outcome], target: Target, cold: bool) -> dict[Row, Shipped]:
    """Of all candidates, as they are recorded."""
    return {
        row_key(candidate, o.contest.dims, cold): Shipped(
            seconds, kernel_version(candidate, target)
        )
        for o in outcomes
        for candidate, seconds in zip(o.contest.candidates, o.seconds, strict=True)
    }


def _known(cache: Cache, contest: Contest, target: Target, cold: bool) -> tuple[float, ...] | None:
    """Times of all candidates, None unless all are known."""
    times = [cache.read(key_of(c, contest.dims, target, cold)) for c in contest.candidates]
    found = tuple(t for t in times if t is not None)
    return found if len(found) == len(times) else None


def _every(group: Sequence[Contest]) -> tuple[Candidate, ...]:
    """All candidates of contests about one task."""
    return tuple(dict.fromkeys(c for contest in group for c in contest.candidates))


def _load(candidates: Sequence[Candidate], target: Target, codes: Codes) -> Compiled | Loaded:
    if target.gpu:
        return device.load(candidates, target, codes.get(candidates, target))
    try:
        return load_candidates(candidates, target, codes)
    except OSError as refusal:
        hint = "choose a target without AMX, for example --target x86-64-v4"
        raise UserError(f"--target {target.name}", str(refusal), hint=hint) from None


@contextmanager
def _kept(cache: Cache) -> Iterator[None]:
    try:
        yield
    except OSError as refusal:
        raise UserError(
            str(cache.folder),
            "measurements cannot be kept there",
            f"the system says: {refusal.strerror}",
            "set XDG_CACHE_HOME to a folder that can be written",
        ) from None


def geomean(values: Sequence[float]) -> float:
    """1.0 for none."""
    return exp(sum(map(log, values)) / len(values)) if values else 1.0
