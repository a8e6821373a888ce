"""Strategies that no best choice needs: another one of the same node is nowhere worse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilewright.passes.selection.problem import Budget, Choice, Edge, Node, Problem

HEAD = 8
"""Columns that are compared first."""


@dataclass(frozen=True)
class Reduced:
    """A problem without dominated strategies; kept: by node, the numbers of those that are left."""

    problem: Problem
    kept: tuple[tuple[int, ...], ...]

    def choice(self, found: Choice) -> Choice:
        """A choice of the reduced problem in the numbers of the whole one."""
        return tuple(kept[j] for kept, j in zip(self.kept, found, strict=True))


def reduced(problem: Problem) -> Reduced:
    """`problem` without strategies that cost and spend no less than another one of their node, by
    itself and beside every strategy of other nodes. Of equal ones the first is left, so that ties
    are decided as if the node were alone."""
    rows = [[np.asarray(node.costs)[:, None]] for node in problem.nodes]
    for n, node in enumerate(problem.nodes):
        if problem.usage_limit is not None:
            rows[n].append(np.asarray(node.usages, float)[:, None])
    # What is spent comes before edges: cheap strategies spend more, which decides most comparisons.
    for budget in problem.budgets:
        for n, spent in budget.spent:
            rows[n].append(np.asarray(spent)[:, None])
    for edge in problem.edges:
        table = _table(problem, edge)
        for axis, n in enumerate(edge.nodes):
            rows[n].append(np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1))
    kept = tuple(_undominated(np.concatenate(parts, axis=1)) for parts in rows)
    nodes = tuple(
        Node(_taken(node.costs, at), _taken(node.usages, at), node.interval, node.name)
        for node, at in zip(problem.nodes, kept, strict=True)
    )
    edges = tuple(
        Edge(
            edge.nodes,
            tuple(_table(problem, edge)[np.ix_(*(kept[n] for n in edge.nodes))].ravel().tolist()),
        )
        for edge in problem.edges
    )
    budgets = tuple(
        Budget(b.name, tuple((n, _taken(spent, kept[n])) for n, spent in b.spent), b.limit)
        for b in problem.budgets
    )
    return Reduced(replace(problem, nodes=nodes, edges=edges, budgets=budgets), kept)


def _table(problem: Problem, edge: Edge) -> np.ndarray:
    return np.reshape(edge.costs, [len(problem.nodes[n].costs) for n in edge.nodes])


def _taken(values: tuple[float, ...], at: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(values[j] for j in at)


def _undominated(rows: np.ndarray) -> tuple[int, ...]:
    """Numbers of rows of which no other one is nowhere greater; of equal ones the first."""
    # Strategies that differ in formats alone are alike to most of their neighbours'.
    columns = {column.tobytes(): column for column in np.ascontiguousarray(rows.T)}
    rows = np.stack(list(columns.values()), axis=1)
    held = np.empty_like(rows)
    left: list[int] = []
    for j in np.lexsort((np.arange(len(rows)), *rows.T[::-1])):
        row, before = rows[j], held[: len(left)]
        some = before[(before[:, :HEAD] <= row[:HEAD]).all(axis=1), HEAD:]
        if not (some <= row[HEAD:]).all(axis=1).any():
            held[len(left)] = row
            left.append(int(j))
    return tuple(sorted(left))
