"""Which structure of weights is used where, and where none is, why, for plan.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.backends.artifact.error_report import shares, three_digits
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.lowering.select import Selection
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.compiler.formats import named
from tilewright.compiler.unused_structure import REASONS

CHANCE = 0.5
"""Part of what Gaussian noise would lose from which on there is no structure to speak of: as
detectors count it."""


def structure_report(low: Lowering) -> list[dict[str, Any]]:
    """A row for every launch that could have weights of some structure under an error contract.

    source, weight: its ONNX nodes and constants. format: what was chosen, used: the structure of
    that, empty for none. offered: formats by structure, as all ranks of a ladder. not_used: of
    every other structure the format that comes nearest, `why` (a key of REASONS) and the numbers
    behind it as `text`.
    """
    selection = low.selection
    if selection is None or not selection.limits:
        return []
    costs = selection.prices.costs()
    rows = []
    for i, question in enumerate(selection.questions):
        if question not in selection.launched:
            continue
        groups: dict[str, list[int]] = {}
        for j, candidate in enumerate(question.candidates):
            groups.setdefault(structure_of(candidate), []).append(j)
        chosen = question.candidate(selection.answers)
        used = structure_of(chosen)
        groups.pop("", None)
        if not groups:
            continue
        offered = {
            name: list(dict.fromkeys(question.candidates[j].format for j in groups[name]))
            for name in sorted(groups)
        }
        groups.pop(used, None)
        rows.append(
            {
                "source": question.source,
                "weight": question.constant,
                "format": chosen.numerics,
                "used": used,
                "offered": offered,
                "not_used": {
                    name: _why(low, selection, i, members, costs[i])
                    for name, members in sorted(groups.items())
                },
            }
        )
    return rows


def structure_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By structure, how many launches use it, and for how many it is not used for which reason."""
    found: dict[str, dict[str, int]] = {}
    empty = dict.fromkeys(("used", *REASONS), 0)
    for row in rows:
        for name, other in row["not_used"].items():
            found.setdefault(name, dict(empty))[other["why"]] += 1
        if row["used"]:
            found.setdefault(row["used"], dict(empty))["used"] += 1
    return dict(sorted(found.items()))


def structure_of(candidate: Candidate) -> str:
    """Of the weights that a kernel reads; empty for none."""
    return named(candidate.format).structure if candidate.format else ""


def _why(
    low: Lowering, selection: Selection, i: int, members: Sequence[int], costs: Sequence[float]
) -> dict[str, str]:
    """Of one structure of question i, whose candidates are ``members``."""
    question = selection.questions[i]
    candidates = question.candidates
    assert low.offers is not None
    at = candidates.index(question.candidate(selection.answers))
    spent = shares(selection, [i])
    size = [0 if c.layout is None else c.layout.bytes for c in candidates]
    ratio = [cost / costs[at] if costs[at] else 1.0 for cost in costs]
    beside = [pair for j in members if (pair := _beside_chance(low, selection, i, j)) is not None]
    nearest = min(beside, key=lambda pair: pair[1] / pair[2], default=None)
    least = min(members, key=lambda j: spent[j])
    if nearest is not None and nearest[1] > CHANCE * nearest[2]:
        text = f"loses {nearest[1]:.1%} of the energy of its outputs, noise would {nearest[2]:.1%}"
        return {"format": nearest[0], "why": "chance", "text": text}
    if spent[least] > 1:
        text = f"takes {three_digits(spent[least]):g} times the error budget"
        return {"format": candidates[least].numerics, "why": "bound", "text": text}
    fits = [j for j in members if spent[j] <= 1]
    better = [j for j in fits if ratio[j] < 1 or size[j] < size[at]]
    best = min(better or fits, key=lambda j: (ratio[j], size[j]))
    text = f"{ratio[best]:.2f} times the time, {size[best]:,} bytes instead of {size[at]:,}"
    if not better:
        return {"format": candidates[best].numerics, "why": "slower", "text": text}
    judged = all(low.offers.basis(*part, candidates[best].numerics) for part in question.parts)
    least_of = "" if judged else "at least "  # known by bits alone
    more = f", {least_of}{spent[best]:.2g} of the error budget instead of {spent[at]:.2g}"
    return {"format": candidates[best].numerics, "why": "budget", "text": text + more}


def _beside_chance(
    low: Lowering, selection: Selection, i: int, j: int
) -> tuple[str, float, float] | None:
    """The format of candidate j, what it loses, and what noise of that size would lose; None where
    either is not known."""
    question, name = selection.questions[i], selection.questions[i].candidates[j].format
    assert low.offers is not None
    lost = [low.offers.lost(*part, name) for part in question.parts]
    known = [share for share in lost if share is not None]
    chance = named(name).chance(question.task.k, question.task.n)
    if len(known) < len(lost) or chance is None or not chance:
        return None
    return name, sum(known) / len(known), chance
