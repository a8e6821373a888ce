"""A mixed integer linear program for HiGHS, built row by row."""

from collections.abc import Iterable
from dataclasses import dataclass

import highspy
import numpy as np

Terms = Iterable[tuple[int, float]]
"""Pairs of a column and its coefficient; a column that comes twice counts twice."""


@dataclass(frozen=True)
class Answer:
    """What the solver found: values by column (None without a solution) and proven facts.

    status: `optimal`, `infeasible` or `undecided`;  bound: no solution has a smaller objective
    """

    status: str
    values: list[float] | None
    objective: float
    bound: float


class Milp:
    """Minimize a linear objective over columns that may be integers."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self.whole: list[bool] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []

    def column(
        self, low: float = 0.0, high: float = 1.0, cost: float = 0.0, *, whole: bool = True
    ) -> int:
        """A new column with its bounds and its coefficient in the objective."""
        self.cost.append(cost)
        self.low.append(low)
        self.high.append(high)
        self.whole.append(whole)
        return len(self.cost) - 1

    def row(self, terms: Terms, low: float = -np.inf, high: float = np.inf) -> None:
        """low <= sum of coefficient x column <= high."""
        merged: dict[int, float] = {}
        for column, coefficient in terms:
            merged[column] = merged.get(column, 0.0) + coefficient
        self.rows.append((merged, low, high))

    def solve(self, seconds: float, nodes: int | None = None, gap: float = 0.0) -> Answer:
        """Solve with one thread and a fixed seed, so that equal programs get equal answers.

        gap: share of the objective by which what counts as optimal may be above the best. Undecided
        after `nodes` of branch and bound, the same in every run, or after `seconds`.
        """
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.cost), len(self.rows)
        model.col_cost_ = np.array(self.cost)
        model.col_lower_, model.col_upper_ = np.array(self.low), np.array(self.high)
        model.row_lower_ = np.array([r[1] for r in self.rows])
        model.row_upper_ = np.array([r[2] for r in self.rows])
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[whole] for whole in self.whole]
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        counts = [len(terms) for terms, _, _ in self.rows]
        model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        model.a_matrix_.index_ = np.array([c for terms, _, _ in self.rows for c in terms], np.int32)
        model.a_matrix_.value_ = np.array([v for terms, _, _ in self.rows for v in terms.values()])
        solver = highspy.Highs()
        solver.silent()
        for option, value in (
            ("threads", 1),
            ("random_seed", 0),
            ("time_limit", max(seconds, 0.0)),
            ("mip_rel_gap", gap),
            ("mip_abs_gap", 1e-6),
            *([] if nodes is None else [("mip_max_nodes", nodes)]),
        ):
            solver.setOptionValue(option, value)
        solver.passModel(model)
        solver.run()
        status, info = solver.getModelStatus(), solver.getInfo()
        if status == highspy.HighsModelStatus.kInfeasible:
            return Answer("infeasible", None, np.inf, np.inf)
        found = info.primal_solution_status == 2  # kSolutionStatusFeasible
        values = list(solver.getSolution().col_value) if found else None
        done = "optimal" if status == highspy.HighsModelStatus.kOptimal else "undecided"
        objective = info.objective_function_value if found else np.inf
        bound = info.mip_dual_bound if any(self.whole) else objective
        return Answer(done, values, float(objective), float(bound))
