"""What a launch's operations run on: for rooflines of measured profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.emitters import label
from tilewright.backends.llvm.program import Launch
from tilewright.backends.target import Target
from tilewright.compiler.ir.dims import evaluate, symbols


def launch_work(launch: Launch, target: Target, env: Mapping[str, int]) -> dict[str, Any]:
    """``unit`` of Cost.unit and ``issue``, operations issued on it for each operation of the
    mathematical product, at the sizes ``env``; empty for kernels without a family, and where
    ``env`` does not tell the sizes."""
    family = families().get(label(launch.spec))
    known = all(symbols(d) <= env.keys() for d in (*launch.dims, launch.flops))
    if family is None or not known:
        return {}
    cost = family.cost(launch.spec, tuple(evaluate(d, env) for d in launch.dims), target)
    flops = evaluate(launch.flops, env)
    issued = cost.issued or cost.flops
    return {"unit": cost.unit, "issue": round(issued / flops, 4) if flops else 1.0}
