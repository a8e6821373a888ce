"""Key-value caches under an error contract: what a format alone costs, and which one to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, sqrt
from typing import TypeVar

import numpy as np

from tilewright.compiler.contract import CacheRecord
from tilewright.compiler.errors import UserError
from tilewright.compiler.formats.caches import CACHES
from tilewright.passes.quantization.agreement import Agreement, Workshop
from tilewright.passes.quantization.calibration import GAIN_SAMPLES
from tilewright.passes.quantization.errors import Squares, squared_distance

AUTO = "auto"
"""Asks for the format with the fewest bytes that leaves enough of the bound."""

SHARE = 0.5
"""Part of the squared bound, or of a metric's growth, that a format chosen so may use."""

Built = TypeVar("Built")


def choose_caches(
    made: Agreement, wanted: str, take: Callable[[str], Sequence[str]], workshop: Workshop[Built]
) -> Agreement:
    """`made` with what the caches cost, their format being `wanted` or, for AUTO, the one with the
    fewest bytes that is good enough; none if no format is.

    take: has the workshop build with caches in a format, "" for f32, and gives the names of those
    outputs that are caches. Raises UserError where the
    format that was asked for breaks the bound alone, or the model has no caches.
    """
    for name in CACHES if wanted == AUTO else (wanted,):
        try:
            outputs = take(name)
        except UserError as refusal:
            if wanted != AUTO or "Hadamard" not in refusal.what:
                raise
            continue
        squares, used = alone(made, workshop)
        if used > 1 and wanted != AUTO:
            raise _refusal(made, name, squares)
        if used <= SHARE or wanted != AUTO:
            stored = _stored(made, name, outputs)
            record = CacheRecord(name, tuple(map(sqrt, squares)), stored)
            return replace(made, terms=replace(made.terms, caches=squares), caches=record)
    take("")
    return made


def alone(made: Agreement, workshop: Workshop[Built]) -> tuple[Squares, float]:
    """The squared errors of outputs that an artifact makes which is exact but for key-value caches
    in codes and channels that were left out, and how much of the squared bound, or of the metric's
    growth, they take."""
    tried = made.samples.calibration[:GAIN_SAMPLES]
    count = len(made.terms.limits)
    probe = replace(
        made.terms,
        bound=inf,
        keep=(),
        rest=dict.fromkeys(("f16", "bf16"), (0.0,) * count),
        sites="f32",
        others_as="f32",
    )
    built, _ = workshop.build(probe)
    squares = tuple(e**2 for e in workshop.deviations(built, made.expected, tried))
    metric = made.metric
    if metric is None:
        return squares, max(squares) / made.bound**2 if made.bound else inf
    samples = made.samples.calibration
    base = metric(made.expected, samples)
    growth = workshop.worst(built, lambda run: metric(run, samples)) - base
    return squares, max(growth, 0.0) / made.bound if made.bound else inf


def _stored(made: Agreement, name: str, outputs: Sequence[str]) -> dict[str, float]:
    """The relative L2 error of storing what the reference gives for each of `outputs`."""
    off, whole = dict.fromkeys(outputs, 0.0), dict.fromkeys(outputs, 0.0)
    for feeds in made.samples.calibration[:GAIN_SAMPLES]:
        found = made.expected(feeds)
        for output in outputs:
            rows = found[output]
            off[output] += squared_distance(CACHES[name].rounded(rows), rows)
            whole[output] += squared_distance(rows, np.zeros(1))
    return {n: sqrt(off[n] / whole[n]) if whole[n] else 0.0 for n in outputs}


def _refusal(made: Agreement, name: str, squares: Sequence[float]) -> UserError:
    where = f"max-error {made.bound:g}"
    if made.metric is not None:
        found = f"{name} key-value caches alone make the metric grow by more on the samples"
    else:
        error = sqrt(max(squares))
        found = f"{name} key-value caches alone make an error of {error:.3g} on the samples"
    other = "int8 or auto" if name == "int4" else "auto"
    return UserError(where, "cannot be kept", found, f"take --kv-cache {other}, or leave it away")
