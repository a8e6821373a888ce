"""Which kernels were chosen and why, for plan.json."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tilewright.backends.artifact.error_report import (
    errors_report,
    estimated,
    numerics_report,
    passed_over,
    shares,
    three_digits,
)
from tilewright.backends.artifact.forks_report import forks_report
from tilewright.backends.artifact.formats_report import values_report
from tilewright.backends.kernels.candidates import CLASSES, Candidate, candidates
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.pricing import price
from tilewright.backends.llvm.lowering.select import Selection
from tilewright.backends.llvm.lowering.state import Lowering


def selection_report(low: Lowering) -> dict[str, Any] | None:
    """Every choice among kernels with its candidates; None where there was none to make.

    Operations with equal questions and answers are one entry. Times are in microseconds at each
    point, on the number of threads that was asked for. Under an error contract `errors` are the
    relative L2 errors that numerics are predicted to make: of every operation of an entry, at every
    output; `estimated` those that were judged by some columns of the weights, `passed_over` those
    that were not judged at all: by their bits they make more error than one that costs less.
    """
    selection = low.selection
    if selection is None:
        return None
    costs = selection.prices.costs()
    choices: dict[Any, dict[str, Any]] = {}
    members: dict[Any, list[int]] = {}
    for i, question in enumerate(selection.questions):
        if question.key not in selection.answers:
            continue  # of a way that was not taken
        chosen = question.candidate(selection.answers)
        key = (question.task, question.dims, chosen.spec)
        if key not in choices:
            choices[key] = {
                "sources": [],
                "task": describe_task(question.task),
                "dims": [str(d) for d in question.dims],
                "candidates": [],
            }
            members[key] = []
        choices[key]["sources"].append(question.source)
        members[key].append(i)
    for key, choice in choices.items():
        i = members[key][0]
        chosen = selection.questions[i].candidate(selection.answers)
        choice["candidates"] = _rows(low, selection, members[key], chosen, costs[i])
        if selection.limits:
            named = dict.fromkeys(row["numerics"] for row in choice["candidates"])
            choice["errors"] = errors_report(low, members[key], list(named))
            choice["estimated"] = estimated(low, members[key], list(choice["errors"]))
            choice["passed_over"] = passed_over(low, members[key], list(named))
    return {
        "profile": selection.profile.describe(),
        "points": [dict(env) for env in selection.prices.points],
        "accuracy": low.error,
        "threads": selection.threads,
        "weights_from": "memory" if selection.cold else "caches",
        "weight_limit": selection.limit,
        "numerics": numerics_report(selection),
        "predicted": [three_digits(e) for e in selection.predicted()],
        "choices": list(choices.values()),
        "forks": forks_report(selection),
        "values": values_report(selection),
    }


def _rows(
    low: Lowering,
    selection: Selection,
    alike: Sequence[int],
    chosen: Candidate,
    costs: Sequence[float],
) -> list[dict[str, Any]]:
    """The candidates of questions that are alike: the chosen one, others by cost, then what is too
    inexact."""
    i = alike[0]
    question, prices = selection.questions[i], selection.prices
    spent = shares(selection, alike)
    at = question.candidates.index(chosen)
    order = sorted(range(len(costs)), key=lambda j: (j != at, costs[j]))
    rows = [
        _row(
            question,
            question.candidates[j],
            prices.seconds[i][j],
            prices.measured[i][j],
            "chosen" if j == at else _reason(selection, i, (j, at), costs[j] / costs[at], spent),
        )
        for j in order
    ]
    loose = tuple(_barred(low, question))
    other = dataclasses.replace(question, candidates=loose)
    profile, cold = selection.profile, selection.cold
    threads = selection.threads
    times = price([other], prices.points, low.target, profile, cold, None, threads).seconds[0]
    for candidate, seconds in zip(loose, times, strict=True):
        reason = f"errors of class {candidate.accuracy:g}, allowed are {low.error:g}"
        if low.offers is not None:
            reason = "other numerics were asked for"
        rows.append(_row(question, candidate, seconds, [False] * len(seconds), reason))
    return rows


def _barred(low: Lowering, question: Question) -> Iterator[Candidate]:
    """What could run a question if its error were no matter."""
    offers = low.offers
    offered = frozenset[str]()
    if offers is not None:
        offered = frozenset.intersection(*(offers.formats(*part) for part in question.parts))
    for candidate in candidates(question.task, low.target, CLASSES[-1], offered):
        if offers is None:
            if candidate.accuracy > low.error:
                yield candidate
        elif not all(offers.permits(*part, candidate.numerics) for part in question.parts):
            yield candidate


def _row(
    question: Question,
    candidate: Candidate,
    seconds: Sequence[float],
    measured: Sequence[bool],
    reason: str,
) -> dict[str, Any]:
    layout = candidate.layout
    return {
        "family": candidate.family.name,
        "numerics": candidate.numerics,
        "spec": describe_spec(candidate.spec, question.task),
        "microseconds": [float(f"{s * 1e6:.4g}") for s in seconds],
        "measured": list(measured),
        "weight_bytes": 0 if layout is None else layout.bytes,
        "accuracy": candidate.accuracy,
        "reason": reason,
    }


def _reason(
    selection: Selection, i: int, pair: tuple[int, int], ratio: float, spent: Sequence[float]
) -> str:
    """Why candidate pair[0] of question i was not taken, but pair[1]; ratio: of their costs."""
    j, at = pair
    row = selection.questions[i].candidates
    slower = f"{ratio:.2f} times the time"
    layout, own = row[j].layout, row[at].layout
    more = layout.bytes - own.bytes if layout is not None and own is not None else 0
    dearer = spent[j] - spent[at] if spent else 0.0
    if dearer > 0 and (ratio < 1 or more < 0):
        return f"{slower}, but takes {spent[j]:.2g} of the error budget, not {spent[at]:.2g}"
    if ratio >= 1:
        return slower
    if more > 0 and selection.limit is not None:
        assert layout is not None
        return f"{slower}, but its {layout.bytes:,} bytes of weights do not fit"
    if more > 0 and spent:
        return f"{slower}, but {more:,} bytes larger"
    return f"{slower}, but conversions beside it cost more"


def describe_task(task: Any) -> str:
    """`matmul k=384 n=1536, epilogue: add, gelu_erf`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(task).__name__).lower().removesuffix("_task")
    steps: list[str] = []
    parts = [name]
    for field in dataclasses.fields(task):
        value = getattr(task, field.name)
        if isinstance(value, Epilogue):
            steps = [step.op for step in value.steps]
        elif value != field.default:
            parts.append(f"{field.name}={_text(value)}")
    return " ".join(parts) + (f", epilogue: {', '.join(steps)}" if steps else "")


def describe_spec(spec: Any, task: Any) -> str:
    """What a spec says beyond its task: `products=6 rows=256`."""
    given = {field.name for field in dataclasses.fields(task)}
    return " ".join(
        f"{field.name}={_text(getattr(spec, field.name))}"
        for field in dataclasses.fields(spec)
        if field.name not in given
    )


def _text(value: Any) -> str:
    """`3x3` of a tuple; of a nested spec what is not as by default, `default` if nothing is."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if not dataclasses.is_dataclass(value):
        return str(value)
    parts = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
    return ",".join(f"{f.name}:{own}" for f, own in parts if own != f.default) or "default"
