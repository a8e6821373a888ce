"""Every choice tried: what the solver is tested against."""

from __future__ import annotations

from math import prod

import numpy as np

from tilewright.passes.selection.problem import Choice, Problem

MOST = 1 << 24
"""Choices that are tried at most."""


def solve_exhaustively(problem: Problem) -> tuple[Choice, float] | None:
    """The first of the cheapest choices and its cost; None when no choice keeps the limits.

    Raises ValueError for more than MOST choices.
    """
    sizes = tuple(len(node.costs) for node in problem.nodes)
    if prod(sizes) > MOST:
        raise ValueError(f"{prod(sizes)} choices are too many to try")
    cost = np.zeros(sizes)
    for n, node in enumerate(problem.nodes):
        cost += _spread((n,), node.costs, sizes)
    for edge in problem.edges:
        order = sorted(range(len(edge.nodes)), key=lambda i: edge.nodes[i])
        table = np.reshape(edge.costs, [sizes[n] for n in edge.nodes]).transpose(order)
        cost += _spread(tuple(sorted(edge.nodes)), table, sizes)
    for limit in problem.limits():
        total = np.zeros(sizes)
        for n, spent in limit.spent:
            total += _spread((n,), spent, sizes)
        cost[total > limit.limit] = np.inf
    best = int(np.argmin(cost))
    if not np.isfinite(cost.flat[best]):
        return None
    return tuple(int(i) for i in np.unravel_index(best, sizes)), float(cost.flat[best])


def _spread(axes: tuple[int, ...], table: object, sizes: tuple[int, ...]) -> np.ndarray:
    """A table over some axes, shaped so that it broadcasts over all."""
    return np.asarray(table, float).reshape([s if i in axes else 1 for i, s in enumerate(sizes)])
