"""Orders and certificates of whole programs, lowered from random graphs."""

import itertools

import pytest
from support.random_graphs import random_graph

from tilewright.backends.llvm.inplace import share
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.schedule import arrange
from tilewright.backends.target import parse
from tilewright.compiler.driver import lower_for
from tilewright.passes.memory.dag import peak
from tilewright.passes.memory.plan import judged
from tilewright.passes.memory.planner import step_dag
from tilewright.passes.memory.problem import max_live

(TARGET,) = parse("x86-64-v3")


@pytest.mark.parametrize("seed", range(40))
def test_the_order_problem_of_a_program_has_its_peak(seed: int) -> None:
    graph = random_graph(seed)
    lowered, plan = lower_for(graph, TARGET)
    _, rows, _ = judged(lowered.rows, graph.symbols)
    dag = step_dag(lowered.accesses, rows)
    assert peak(dag, range(len(dag.ops))) == max_live(rows) == plan.bound
    assert all(a.end == b.first for a, b in itertools.pairwise(lowered.accesses))
    proven = plan.certificate
    assert proven is not None
    assert proven.working_set <= proven.best_bound <= proven.best_peak
    assert proven.best_peak <= proven.max_live == plan.bound <= proven.arena == plan.nominal

    program = lower(graph, TARGET).program
    before = arrange(program, share(program))
    assert plan.bound <= max_live(judged(before.rows, graph.symbols)[1])
