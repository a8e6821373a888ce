"""What is proven about the memory of a lowered model, searched longer than a compile does."""

from __future__ import annotations

from tilewright.backends.llvm.backend import Lowered
from tilewright.passes.memory.certificate import Certificate, certify
from tilewright.passes.memory.order import order_steps
from tilewright.passes.memory.plan import Plan, judged
from tilewright.passes.memory.planner import step_dag


def certificate(lowered: Lowered, plan: Plan) -> Certificate:
    """Judge the plan of `lowered` at the symbol values that the plan was made for."""
    _, rows, _ = judged(lowered.rows, lowered.graph.symbols)
    dag = step_dag(lowered.accesses, rows)
    return certify(dag, plan.nominal, order_steps(dag), packing_proven=plan.method == "exact")
