"""Which numerics were chosen and what errors they are predicted to make, for plan.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.select import Selection


def numerics_report(selection: Selection) -> dict[str, dict[str, int]]:
    """By numerics, the number of operations that run in them and the bytes of their packed
    constants, each counted once."""
    found: dict[str, dict[str, int]] = {}
    counted: set[Any] = set()
    for question in selection.questions:
        chosen = question.candidate(selection.answers)
        row = found.setdefault(chosen.numerics, {"operations": 0, "weight_bytes": 0})
        row["operations"] += 1
        key = (question.stored, chosen.layout)
        if chosen.layout is not None and key not in counted:
            counted.add(key)
            row["weight_bytes"] += chosen.layout.bytes
    return dict(sorted(found.items()))


def formats_report(selection: Selection) -> dict[str, str]:
    """The numerics of every operation by `format_key`: what `--plan` reads."""
    keys = format_keys([(q.source, q.constant) for q in selection.questions])
    chosen = (q.candidate(selection.answers).numerics for q in selection.questions)
    return dict(zip(keys, chosen, strict=True))


def format_keys(operations: Sequence[tuple[str, str]]) -> list[str]:
    """Names of operations (ONNX nodes, constant): the nodes alone where these say which it is."""
    constants: dict[str, set[str]] = {}
    for source, constant in operations:
        constants.setdefault(source, set()).add(constant)
    return [s if len(constants[s]) == 1 else f"{s}@{constant}" for s, constant in operations]


def errors_report(selection: Selection, alike: Sequence[int]) -> dict[str, list[list[float]]]:
    """By numerics, of every question in `alike` the relative L2 error of every output."""
    found: dict[str, list[list[float]]] = {}
    for i in alike:
        own = _by_numerics(selection.questions[i], selection.squares[i])
        for numerics, squares in own.items():
            errors = [three_digits(sqrt(s)) for s in squares]
            found.setdefault(numerics, []).append(errors)
    return dict(sorted(found.items()))


def shares(selection: Selection, alike: Sequence[int]) -> list[float]:
    """Of every candidate, the part of an output's budget that it takes, for the question in `alike`
    and the output where this is greatest; empty without budgets."""
    known = [i for i, limit in enumerate(selection.limits) if limit > 0]
    if not known:
        return []
    rows = [selection.squares[i] for i in alike]
    return [
        max(row[j][o] / selection.limits[o] for row in rows for o in known)
        for j in range(len(rows[0]))
    ]


def three_digits(error: float) -> float:
    """Rounded for reports."""
    return float(f"{error:.3g}")


def _by_numerics(
    question: Question, squares: Sequence[tuple[float, ...]]
) -> Mapping[str, tuple[float, ...]]:
    return {c.numerics: s for c, s in zip(question.candidates, squares, strict=True)}
