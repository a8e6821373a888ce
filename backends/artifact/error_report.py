"""Which numerics were chosen and what errors they are predicted to make, for plan.json."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from tilewright.backends.llvm.lowering.error_budgets import added
from tilewright.backends.llvm.lowering.select import Selection
from tilewright.backends.llvm.lowering.state import Lowering


def numerics_report(selection: Selection) -> dict[str, dict[str, int]]:
    """By numerics, the number of operations that run in them and the bytes of their packed
    constants, each counted once."""
    found: dict[str, dict[str, int]] = {}
    counted: set[Any] = set()
    for question in selection.launched:
        chosen = question.candidate(selection.answers)
        row = found.setdefault(chosen.numerics, {"operations": 0, "weight_bytes": 0})
        row["operations"] += len(question.parts)
        key = (question.stored, chosen.layout)
        if chosen.layout is not None and key not in counted:
            counted.add(key)
            row["weight_bytes"] += chosen.layout.bytes
    return dict(sorted(found.items()))


def operations(selection: Selection | None) -> list[tuple[str, str, str]]:
    """Nodes, constant and chosen numerics of everything that had a choice."""
    if selection is None:
        return []
    return [
        (*part, q.candidate(selection.answers).numerics)
        for q in selection.launched
        for part in q.parts
    ]


def formats_report(selection: Selection) -> dict[str, str]:
    """The numerics of every operation by `format_key`: what `--plan` reads."""
    rows = operations(selection)
    keys = format_keys([(source, constant) for source, constant, _ in rows])
    return {key: numerics for key, (_, _, numerics) in zip(keys, rows, strict=True)}


def format_keys(operations: Sequence[tuple[str, str]]) -> list[str]:
    """Names of operations (ONNX nodes, constant): the nodes alone where these say which it is."""
    constants: dict[str, set[str]] = {}
    for source, constant in operations:
        constants.setdefault(source, set()).add(constant)
    return [s if len(constants[s]) == 1 else f"{s}@{constant}" for s, constant in operations]


def errors_report(
    low: Lowering, alike: Sequence[int], numerics: Sequence[str]
) -> dict[str, list[list[float]]]:
    """By numerics, of every question in `alike` the relative L2 error of every output."""
    selection = low.selection
    assert selection is not None
    found: dict[str, list[list[float]]] = {}
    for name in sorted(set(numerics) - set(passed_over(low, alike, numerics))):
        rows = [_squares(low, selection, i, name) for i in alike]
        if all(row is not None for row in rows):
            found[name] = [[three_digits(sqrt(s)) for s in row or ()] for row in rows]
    return found


def estimated(low: Lowering, alike: Sequence[int], numerics: Sequence[str]) -> list[str]:
    """Those whose error is judged by some columns of the weights for any question in `alike`."""
    return [n for n in numerics if "columns" in _basis(low, alike, n)]


def passed_over(low: Lowering, alike: Sequence[int], numerics: Sequence[str]) -> list[str]:
    """Those whose error nothing needed to know for any question in `alike`."""
    return [n for n in numerics if "" in _basis(low, alike, n)]


def _basis(low: Lowering, alike: Sequence[int], numerics: str) -> set[str]:
    assert low.selection is not None
    assert low.offers is not None
    asked = [low.selection.questions[i] for i in alike]
    return {low.offers.basis(*part, numerics) for q in asked for part in q.parts}


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


def _squares(
    low: Lowering, selection: Selection, i: int, numerics: str
) -> tuple[float, ...] | None:
    """Of question i; None for what was not asked about and not calibrated."""
    question = selection.questions[i]
    for candidate, squares in zip(question.candidates, selection.squares[i], strict=True):
        if candidate.numerics == numerics:
            return squares
    assert low.offers is not None
    parts = [low.offers.squares(*part, numerics) for part in question.parts]
    known = [part for part in parts if part is not None]
    return added(known) if len(known) == len(parts) else None
