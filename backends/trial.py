"""How far an artifact is from the model that it was made of, on samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.runtime.session import load

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], dict[str, np.ndarray]]
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
    """An artifact as a function; errors as `Session` says."""
    with load(path, variant=variant) as session:
        names = [output.name for output in session.get_outputs()]

        def run(feeds: Feeds) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(None, feeds), strict=True))

        yield run


def original(source: str | os.PathLike[str] | bytes, names: Sequence[str]) -> Run | None:
    """The ONNX model in ONNX Runtime, float32; None where that cannot run it."""
    import onnxruntime

    errors = onnxruntime.capi.onnxruntime_pybind11_state
    refusals = (errors.Fail, errors.NotImplemented, errors.InvalidGraph, errors.InvalidArgument)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    made: Any = source if isinstance(source, bytes) else str(Path(source))
    try:
        session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    except refusals:
        return None

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(list(names), dict(feeds)), strict=True))

    return run


def deviations(
    run: Run, expected: Run, samples: Iterable[Feeds], names: Sequence[str]
) -> list[Deviation]:
    """One an output of floats. Where NaNs or infinities stand in different places, or shapes
    differ, the error is inf; where all that is expected is 0 it is the norm of what was found."""
    off, whole = np.zeros(len(names)), np.zeros(len(names))
    worst, where = np.zeros(len(names)), np.zeros(len(names), np.int64)
    for number, feeds in enumerate(samples):
        found, wanted = run(feeds), expected(feeds)
        for i, name in enumerate(names):
            distance, norm = _squares(found[name], wanted[name])
            off[i] += distance
            whole[i] += norm
            alone = _relative(distance, norm)
            if alone > worst[i]:
                worst[i], where[i] = alone, number
    return [
        Deviation(name, _relative(off[i], whole[i]), int(where[i]), float(worst[i]))
        for i, name in enumerate(names)
    ]


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
