"""In which formats values are handed on and why, for plan.json."""

from __future__ import annotations

from math import inf
from typing import Any

from tilewright.backends.llvm.formats import BF16_FORMAT, F16_FORMAT
from tilewright.backends.llvm.lowering.format_prices import FormatNode
from tilewright.backends.llvm.lowering.handing import ALONE
from tilewright.backends.llvm.lowering.select import Selection
from tilewright.backends.llvm.lowering.unmade import UNMADE


def values_report(selection: Selection) -> list[dict[str, Any]]:
    """The values that could be stored in 16 bits: who makes and who reads them, the formats chosen,
    and what each strategy costs beside the chosen kernels in thousandths of the graph's least
    time (null: not possible)."""
    found = []
    for node, strategy in selection.values:
        costs = [_cost(selection, node, j) for j in range(len(node.costs))]
        handed = node.handed
        found.append(
            {
                "name": node.name,
                "shape": [str(d) for d in handed.shape],
                "maker": handed.source,
                "readers": [
                    selection.questions[n].source
                    for n in dict.fromkeys(r.question for r in handed.readers)
                    if selection.questions[n].key in selection.answers
                ],
                "formats": list(node.strategies[strategy]),
                "costs": {
                    "+".join(node.strategies[j]): None if c == inf else round(1e3 * c, 4)
                    for j, c in enumerate(costs)
                },
                "reason": _reason(node, strategy, costs),
            }
        )
    return found


def _cost(selection: Selection, node: FormatNode, strategy: int) -> float:
    total = node.costs[strategy]
    for number, rows in node.edges:
        question = selection.questions[number]
        if question.key not in selection.answers:
            continue
        chosen = question.candidate(selection.answers)
        total += rows[question.candidates.index(chosen)][strategy]
    return total


def _reason(node: FormatNode, strategy: int, costs: list[float]) -> str:
    formats = node.strategies[strategy]
    if formats == (F16_FORMAT,):
        return "f16 holds all that it can be"
    if formats == (BF16_FORMAT,):
        return "all that read it round it to bf16 anyway"
    if formats == UNMADE:
        return "all that read it normalize its rows on their way, for less than a kernel of its own"
    if formats != ALONE:
        return f"some that read it round it to {node.narrow}, others need f32"
    if costs[1] == inf:
        return "something needs f32, and to store both costs more than it saves"
    return "to round it costs more than it saves"
