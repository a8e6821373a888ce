"""Is the cost model right? ``python -m tilewright.tools.bench_cost_model``.

Times every kernel that can do each of a hundred computations, of every element type that a family
has, weights coming from L3 or DRAM as in a model, kernels of one choice in turn, on one thread and
on two. Half of the shapes fit the model's constants; on the others, which the fit has not seen, it
is judged, for each number of threads: rank correlation of predicted and measured times, and regret,
the time of the kernel it would choose by that of the fastest.

Steps, each of which keeps its results in --work and goes on where the last call stopped:

    --compile   kernels to object files
    --measure   times, for at most --seconds
    --fit       constants from the `fit` shapes, written into --profile
    --judge     quality on the `check` shapes; --record FILE keeps it
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from tilewright.backends import profile as profiles
from tilewright.backends import target as targets
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.llvm.jit import Library, load
from tilewright.backends.tuning.sources import family_version
from tilewright.tools.bench.cost_fit import Point, choices, fit, judge
from tilewright.tools.bench.cost_points import Shape, shapes, unreached
from tilewright.tools.bench.launches import compile_family, launch
from tilewright.tools.bench.parallel import Pool
from tilewright.tools.bench.record import record

CHUNK = 48
"""Kernels of one object file: a file is compiled anew when one of its kernels changes."""

CHUNKS = {"split_matmul": 12}
"""Fewer for kernels that share little of their code."""

SHORT_S = 200e-6
"""Shorter launches are timed several at a time."""


def main() -> None:
    """Parse the command line and do the steps asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for step in ("compile", "measure", "fit", "judge"):
        parser.add_argument(f"--{step}", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", default="native")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", default="1,2", help="counts to measure and to judge")
    parser.add_argument("--jobs", type=int, help="processes that compile; one a core")
    parser.add_argument("--match", default="", help="only shapes whose label holds this")
    parser.add_argument("--without", default="", help="families to leave out, separated by commas")
    parser.add_argument("--profile", type=Path, help="instead of the one a compile would take")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--list", action="store_true", help="with --judge: every choice")
    options = parser.parse_args()
    (target,) = targets.parse(options.target)
    counts = tuple(map(int, options.threads.split(",")))
    without = frozenset(filter(None, options.without.split(",")))
    bench = Bench(target, options.work, options.match, counts, without)
    for name in unreached(target):
        print(f"no shape here is computed by {name}", file=sys.stderr)
    if options.compile:
        bench.compile(options.jobs)
    if options.measure:
        bench.measure(options.seconds)
    if options.profile:
        path = str(options.profile)
        profile = profiles.MachineProfile.from_json(options.profile.read_text(), path)
    else:
        profile = profiles.profile_for(target)
    if options.fit:
        profile = replace(profile, fit=fit(bench.points("fit"), profile))
        print(profile.fit)
        if options.profile:
            profiles.store(profile, options.profile)
    if options.judge:
        for use, count, points in bench.sets():
            print(use, f"{count} threads" if count > 1 else "1 thread", judge(points, profile))
        if options.list:
            show(bench.points("check"), profile)
        if options.record:
            save(options.record, bench, profile)


class Bench:
    """The shapes of one target, their kernels and what was measured so far."""

    def __init__(
        self,
        target: targets.Target,
        work: Path,
        match: str,
        counts: tuple[int, ...],
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.target, self.work, self.counts, self.without = target, work, counts, without
        self.shapes = {use: shapes(use) for use in ("fit", "check")}
        self.match = match
        self.file = work / f"times.{target.name}.json"
        self.times: dict[str, float] = (
            json.loads(self.file.read_text()) if self.file.exists() else {}
        )
        # By the kernels of an object file: its name, and the version of their family's sources.
        self.codes: dict[str, list[str]] = {}
        if self._index.exists():
            self.codes = json.loads(self._index.read_text())
        self.specs: dict[str, dict[Any, int]] = defaultdict(dict)
        for shape in (s for use in self.shapes.values() for s in use):
            for candidate in self.candidates(shape):
                known = self.specs[candidate.family.name]
                known.setdefault(candidate.spec, len(known))

    def candidates(self, shape: Shape) -> list[Candidate]:
        """Those of a shape that are not left out."""
        found = shape.candidates(self.target)
        return [c for c in found if c.family.name not in self.without]

    @property
    def _index(self) -> Path:
        return self.work / f"objects.{self.target.name}.json"

    def compile(self, jobs: int | None) -> None:
        """Make object files of CHUNK kernels of a family, where the sources of the family changed;
        times of those whose code did are forgotten."""
        todo = [
            (name, list(specs)[i : i + _chunk(name)])
            for name, specs in self.specs.items()
            for i in range(0, len(specs), _chunk(name))
        ]
        todo = [
            (name, specs)
            for name, specs in todo
            if self.codes.get(_label(name, specs), ["", ""])[1] != family_version(name)
        ]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=context) as pool:
            made = {
                pool.submit(compile_family, name, specs, self.target, self.work / "objects"): (
                    name,
                    specs,
                )
                for name, specs in todo
            }
            for number, future in enumerate(as_completed(made), 1):
                name, specs = made[future]
                self.codes[_label(name, specs)] = [future.result().name, family_version(name)]
                self._index.write_text(json.dumps(self.codes, indent=1))
                print(f"{number} of {len(todo)}: {name}", file=sys.stderr)

    def place(self, candidate: Candidate) -> tuple[str, int]:
        """Object file of a kernel and its number there."""
        name = candidate.family.name
        at, size = self.specs[name][candidate.spec], _chunk(name)
        start = at // size * size
        specs = list(self.specs[name])[start : start + size]
        return self.codes.get(_label(name, specs), [""])[0], at - start

    def key(self, shape: Shape, candidate: Candidate, count: int) -> str:
        """Of a time: shape, kernel and its code, threads."""
        threads = f" | {count} threads" if count > 1 else ""
        return f"{shape.label} | {candidate.spec!r} | {self.place(candidate)[0]}{threads}"

    def measure(self, seconds: float) -> None:
        """Time the shapes that are not complete yet until the time is over."""
        end = perf_counter() + seconds
        left = 0
        loaded: dict[str, Library] = {}
        pools = {n: Pool(n, self.target) for n in self.counts if n > 1}
        for shape in (s for use in self.shapes.values() for s in use):
            kernels = self.candidates(shape)
            if self.match not in shape.label or all(
                self.key(shape, c, n) in self.times for c in kernels for n in self.counts
            ):
                continue
            if not all(self.place(c)[0] for c in kernels):
                print(f"not compiled: {shape.label}", file=sys.stderr)
                continue
            if perf_counter() > end:
                left += 1
                continue
            launches = {}
            for c in kernels:
                code, number = self.place(c)
                if code not in loaded:
                    loaded[code] = load((self.work / "objects" / code).read_bytes(), self.target)
                kernel = loaded[code].kernel(f"kernel{number}")
                at = launch(c, shape.task, shape.dims, kernel, threads=max(self.counts))
                for n in self.counts:
                    launches[self.key(shape, c, n)] = partial(at.run, pool=pools.get(n))
            self.times.update(_in_turn(launches))
            self.file.write_text(json.dumps(self.times, indent=0))
        for pool in pools.values():
            pool.close()
        print(f"{len(self.times)} times; {left} shapes left", file=sys.stderr)

    def sets(self) -> list[tuple[str, int, list[Point]]]:
        """The measured launches of each use on each number of threads, where there are choices."""
        found = [
            (use, n, [p for p in self.points(use) if p.threads == n])
            for use in self.shapes
            for n in self.counts
        ]
        return [row for row in found if choices(row[2])]

    def points(self, use: str) -> list[Point]:
        """All measured launches of the shapes of ``use``."""
        found = []
        for shape in self.shapes[use]:
            for candidate in self.candidates(shape):
                owner, spec = candidate.family, candidate.spec
                for n in self.counts:
                    key = self.key(shape, candidate, n)
                    if key in self.times:
                        point = Point(
                            shape=shape.label,
                            kernel=repr(spec),
                            family=owner.name,
                            # What a format of weights costs in accuracy depends on the model.
                            accuracy=1.0 if candidate.format else candidate.accuracy,
                            cost=owner.cost(spec, shape.dims, self.target),
                            units=evaluate(owner.units(spec), shape.dims),
                            seconds=self.times[key],
                            threads=n,
                        )
                        found.append(point)
        return found


def _in_turn(launches: Mapping[str, Callable[[int], float]]) -> dict[str, float]:
    """Seconds of each launch: the lower quartile, since neighbours on a shared machine only ever
    add time."""
    counts = {}
    for key, run in launches.items():
        run(1)
        counts[key] = max(1, min(64, int(SHORT_S / run(1))))
    order = random.Random(0)
    taken: dict[str, list[float]] = defaultdict(list)
    stop = perf_counter() + 0.3
    while len(next(iter(taken.values()), [])) < (7 if perf_counter() > stop else 25):
        # The clock comes down after tiles: none shall always follow the same one.
        for key in order.sample(list(launches), len(launches)):
            taken[key].append(launches[key](counts[key]))
    return {key: sorted(times)[len(times) // 4] for key, times in taken.items()}


def _chunk(name: str) -> int:
    return CHUNKS.get(name, CHUNK)


def _label(name: str, specs: Sequence[Any]) -> str:
    """Of an object file: its kernels, so that a family that changed finds none."""
    return f"{name}/{hashlib.sha256(repr(specs).encode()).hexdigest()[:16]}"


def show(points: list[Point], profile: profiles.MachineProfile) -> None:
    """Print predicted and measured times."""
    for p in points:
        guess = p.predicted(profile)
        print(
            f"{p.shape:44s} {p.threads} {p.family:18s} {p.accuracy:g} {p.seconds * 1e6:10.1f} us, "
            f"predicted {guess * 1e6:10.1f} ({guess / p.seconds:.2f})"
        )


def save(path: Path, bench: Bench, profile: profiles.MachineProfile) -> None:
    """Record quality and every point."""
    rows: list[object] = [
        {"use": use, "threads": count, **asdict(judge(points, profile))}
        for use, count, points in bench.sets()
    ]
    rows += [
        {
            "shape": point.shape,
            "threads": point.threads,
            "family": point.family,
            "kernel": point.kernel,
            "accuracy": point.accuracy,
            "measured_us": round(point.seconds * 1e6, 2),
            "predicted_us": round(point.predicted(profile) * 1e6, 2),
        }
        for point in bench.points("check")
    ]
    record(
        path,
        rows,
        command="python -m tilewright.tools.bench_cost_model --compile --measure --fit --judge"
        + (f" --without {','.join(sorted(bench.without))}" if bench.without else ""),
        notes=f"target {bench.target.name}; constants {asdict(profile.fit)}",
    )


if __name__ == "__main__":
    main()
