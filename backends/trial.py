"""How far an artifact is from the model that it was made of, on samples, and how fast it is."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.backends.cached_runs import entering, leaving, stored
from tilewright.backends.target import Target, cpu_flags, runs_here
from tilewright.compiler.errors import UserError
from tilewright.compiler.formats.caches import CacheFormat
from tilewright.runtime.session import Session, load

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]
"""Feeds by input name to outputs by output name."""


@dataclass(frozen=True)
class Deviation:
    """Of one output: the relative L2 error over all samples together, and the sample that is worst
    taken alone with its error."""

    output: str
    error: float
    sample: int
    worst: float


@contextmanager
def running(path: str | os.PathLike[str], variant: str | None = None) -> Iterator[Run]:
    """An artifact as a function, of caches in f32; errors as `Session` says."""
    with load(path, variant=variant) as session:
        yield as_function(session)


def as_function(session: Session) -> Run:
    """A session as a function, of caches in f32."""
    names, caches = [output.name for output in session.get_outputs()], session.caches

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        found = session.run(None, entering(caches, feeds))
        return leaving(caches, dict(zip(names, found, strict=True)))

    return run


def require_here(targets: Iterable[Target]) -> None:
    """Raise UserError for a CPU target whose artifacts cannot be run, and so not measured, here.
    What a GPU's kernels compute can be emulated."""
    for target in targets:
        need = "" if target.gpu else _lacking(target)
        if need:
            raise UserError(
                f"--target {target.name}",
                "this machine cannot run it, so the error of its artifact cannot be measured",
                need,
                "compile without --calibrate, or on a machine that runs it",
            )


def _lacking(target: Target) -> str:
    """Why this machine's CPU cannot run a target; "" if it can."""
    if runs_here(target):
        return ""
    machine = target.triple.split("-")[0]
    if machine != platform.machine():
        return f"it is for {machine}, this is {platform.machine()}"
    return f"it needs {', '.join(sorted(set(target.required_flags) - cpu_flags()))}"


def original(source: str | os.PathLike[str] | bytes, names: Sequence[str]) -> Run | None:
    """The ONNX model in ONNX Runtime, float32; None where that cannot run it."""
    import onnxruntime

    errors = onnxruntime.capi.onnxruntime_pybind11_state
    refusals = (errors.Fail, errors.NotImplemented, errors.InvalidGraph, errors.InvalidArgument)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    made: Any = source
    if hasattr(source, "SerializeToString"):  # an onnx.ModelProto
        made = source.SerializeToString()
    elif not isinstance(source, bytes):
        made = str(Path(source))
    try:
        session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    except refusals:
        return None

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(list(names), dict(feeds)), strict=True))

    return run


def deviations(
    run: Run,
    expected: Run,
    samples: Iterable[Feeds],
    names: Sequence[str],
    caches: Mapping[str, CacheFormat] | None = None,
) -> list[Deviation]:
    """One an output of floats. Where NaNs or infinities stand in different places, or shapes
    differ, the error is inf; where all that is expected is 0 it is the norm of what was found.

    caches: outputs that are stored in codes. The squared error of storing what is expected is taken
    off theirs: what remains is the error of the rows that were stored.
    """
    off, whole = np.zeros(len(names)), np.zeros(len(names))
    worst, where = np.zeros(len(names)), np.zeros(len(names), np.int64)
    for number, feeds in enumerate(samples):
        found, wanted = run(feeds), expected(feeds)
        for i, name in enumerate(names):
            distance, norm = _squares(found[name], wanted[name])
            if caches and name in caches and np.isfinite(distance):
                distance -= _squares(caches[name].rounded(wanted[name]), wanted[name])[0]
            off[i] += distance
            whole[i] += norm
            alone = _relative(max(distance, 0.0), norm)
            if alone > worst[i]:
                worst[i], where[i] = alone, number
    return [
        Deviation(name, _relative(max(off[i], 0.0), whole[i]), int(where[i]), float(worst[i]))
        for i, name in enumerate(names)
    ]


def worst_errors(
    path: str | os.PathLike[str],
    targets: Iterable[Target],
    expected: Run,
    samples: Sequence[Feeds],
    names: Sequence[str],
) -> tuple[float, ...]:
    """The relative L2 errors of an artifact by output, the worst of its variants for `targets`."""
    rows = []
    for target in targets:
        with load(path, variant=target.name) as session:
            found = deviations(
                as_function(session), expected, samples, names, stored(session.caches)
            )
            rows.append([d.error for d in found])
    return tuple(max(errors) for errors in zip(*rows, strict=True))


def worst_value(
    path: str | os.PathLike[str], targets: Iterable[Target], metric: Callable[[Run], float]
) -> float:
    """The greatest value of a metric over an artifact's variants for `targets`."""
    values = []
    for target in targets:
        with running(path, target.name) as run:
            values.append(metric(run))
    return max(values)


def _squares(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    if found.shape != wanted.shape:
        return np.inf, 0.0
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not (finite | (a == b) | (np.isnan(a) & np.isnan(b))).all():
        return np.inf, 0.0
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    return float(np.sum((a - b) ** 2)), float(np.sum(b**2))


def _relative(distance: float, norm: float) -> float:
    return float(np.sqrt(distance / norm if norm else distance))


@dataclass(frozen=True)
class Times:
    """Of one artifact: the median of its runs in seconds, and milliseconds by the ONNX nodes of its
    launches."""

    seconds: float
    by_source: Mapping[str, float]


def interleaved(
    paths: Sequence[str | os.PathLike[str]],
    variant: str,
    samples: Sequence[Feeds],
    threads: int,
    seconds: float = 1.0,
) -> list[Times]:
    """The times of artifacts, run in turns on `samples` for about `seconds`, after one run each."""
    sessions = [load(path, threads, variant=variant) for path in paths]
    try:
        runs: list[list[float]] = [[] for _ in sessions]
        given = [[entering(s.caches, feeds) for feeds in samples] for s in sessions]
        for session, feeds in zip(sessions, given, strict=True):
            session.run(None, feeds[0])
        end = time.perf_counter() + seconds
        for number in range(1_000_000):
            for session, feeds, found in zip(sessions, given, runs, strict=True):
                start = time.perf_counter()
                session.run(None, feeds[number % len(samples)])
                found.append(time.perf_counter() - start)
            if time.perf_counter() > end and number >= len(samples):
                break
        return [
            Times(statistics.median(found), _by_source(session, feeds[0]))
            for session, feeds, found in zip(sessions, given, runs, strict=True)
        ]
    finally:
        for session in sessions:
            session.close()


def _by_source(session: Session, feeds: Feeds) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in session.profile(feeds, 5):
        found[row.source] = found.get(row.source, 0.0) + row.ms
    return found
