"""What is proven about the memory of a lowered model."""

from __future__ import annotations

from tilewright.backends.llvm.backend import ALIGN, Lowered
from tilewright.compiler.ir.dims import evaluate
from tilewright.passes.memory.certificate import Certificate, certify
from tilewright.passes.memory.dag import from_accesses
from tilewright.passes.memory.plan import Plan


def certificate(lowered: Lowered, plan: Plan) -> Certificate:
    """Judge the plan of `lowered` at the symbol values that the plan was made for."""
    sizes = [-(-evaluate(row.bytes, plan.env) // ALIGN) * ALIGN for row in lowered.memory]
    dag = from_accesses(lowered.accesses, sizes)
    return certify(dag, plan.nominal, packing_proven=plan.method == "exact")
