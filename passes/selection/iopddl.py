"""Selection problems as JSON, in the form of the IOPDDL contest (google/iopddl).

    {"problem": {"name": ..., "nodes": {"intervals", "costs", "usages"},
                 "edges": {"nodes", "costs"}, "usage_limit": ...}}

Edge tables are row-major over the nodes of the edge, and a cost of at least 10**18 forbids. Names
of nodes and budgets, which the contest does not have, are further keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import inf
from typing import Any

from tilewright.passes.selection.problem import Budget, Edge, Node, Problem

FORBIDDEN = 10**18


def read(text: str) -> Problem:
    """The problem of a JSON document. Raises ValueError that says what does not fit."""
    try:
        problem = json.loads(text)["problem"]
        nodes, edges = problem["nodes"], problem["edges"]
        count = len(nodes["costs"])
        names = nodes.get("names", [""] * count)
        return Problem(
            tuple(
                Node(_costs(c), tuple(u), (low, high), name)
                for c, u, (low, high), name in zip(
                    nodes["costs"], nodes["usages"], nodes["intervals"], names, strict=True
                )
            ),
            tuple(
                Edge(tuple(ends), _costs(c))
                for ends, c in zip(edges["nodes"], edges["costs"], strict=True)
            ),
            problem.get("usage_limit"),
            tuple(
                Budget(b["name"], tuple((n, tuple(t)) for n, t in b["spent"]), b["limit"])
                for b in problem.get("budgets", ())
            ),
            problem.get("name", "selection"),
        )
    except (KeyError, TypeError, IndexError) as missing:
        raise ValueError(f"not a selection problem: {missing!r}") from None


def write(problem: Problem) -> str:
    """The JSON document of a problem; `read` gives an equal problem back."""
    document: dict[str, Any] = {
        "name": problem.name,
        "nodes": {
            "intervals": [list(n.interval) for n in problem.nodes],
            "costs": [_numbers(n.costs) for n in problem.nodes],
            "usages": [list(n.usages) for n in problem.nodes],
        },
        "edges": {
            "nodes": [list(e.nodes) for e in problem.edges],
            "costs": [_numbers(e.costs) for e in problem.edges],
        },
    }
    if any(n.name for n in problem.nodes):
        document["nodes"]["names"] = [n.name for n in problem.nodes]
    if problem.usage_limit is not None:
        document["usage_limit"] = problem.usage_limit
    if problem.budgets:
        document["budgets"] = [
            {"name": b.name, "spent": [[n, list(t)] for n, t in b.spent], "limit": b.limit}
            for b in problem.budgets
        ]
    return json.dumps({"problem": document})


def _costs(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(inf if v >= FORBIDDEN else v for v in values)


def _numbers(values: Iterable[float]) -> list[float]:
    return [FORBIDDEN if v == inf else v for v in values]
