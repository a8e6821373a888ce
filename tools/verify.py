"""Is an artifact right? Its error beside that of ONNX Runtime, and where a wrong one goes wrong.

The yardstick is the reference interpreter in float64 on the imported graph. An output passes when
its relative L2 error is at most twice that of ONNX Runtime in float32, or a fixed tolerance: both
compute in float32, and rounding in another order is not a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.backends import reference
from tilewright.compiler.driver import compile_graph, run_passes
from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.passes.pipelines import PIPELINES, Step
from tilewright.runtime.session import load

Array = np.ndarray[Any, Any]
Say = Callable[[str], None]

PEER_FACTOR = 2.0
"""An output may have this many times the error of ONNX Runtime."""
TOLERANCE = 1e-6
"""Relative L2 error that passes in any case, beside ONNX Runtime."""
TOLERANCE_ALONE = 1e-5
"""The same where there is nothing to compare with but float64."""
DIVERGED = 1e-4
"""Relative L2 error at which an operation counts as wrong; float32 rounding stays far below."""
ROUNDING = 2.0**-24
"""Relative error of rounding once to float32."""
CHUNK = 64
"""Intermediate values that one artifact returns when operations are checked."""


@dataclass(frozen=True)
class OutputError:
    """Relative L2 errors of one output against float64; `peer` is None without ONNX Runtime."""

    name: str
    shape: tuple[int, ...]
    ours: float
    peer: float | None
    limit: float

    @property
    def passed(self) -> bool:
        return self.ours <= self.limit


@dataclass(frozen=True)
class Divergence:
    """Where the artifact leaves the reference.

    kind: `pass` (the rewritten graph means something else), `operation` (its code computes
    something else), `rounding` (no step is wrong, `name` loses the most). source: the ONNX nodes.
    error: relative L2 after it; before: the largest such error of its operands.
    """

    kind: str
    name: str
    source: str
    error: float
    before: float


def relative_error(found: Array, exact: Array) -> float:
    """`||found - exact|| / ||exact||` over all elements in float64; inf where NaNs or infinities
    stand in different places or shapes differ, the absolute norm where `exact` is all zeros."""
    if found.shape != exact.shape:
        return float("inf")
    a, b = found.astype(np.float64), exact.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.all(same | finite):
        return float("inf")
    kept = np.isfinite(b)
    difference = float(np.linalg.norm(np.where(finite, a, 0) - np.where(finite, b, 0)))
    norm = float(np.linalg.norm(np.where(kept, b, 0)))
    return difference / norm if norm else difference


def judge(
    names: Sequence[str],
    ours: Sequence[Array],
    peer: Sequence[Array] | None,
    exact: Sequence[Array],
    tolerance: float,
) -> list[OutputError]:
    """One row an output: both errors and what ours may be."""
    rows = []
    for i, name in enumerate(names):
        beside = None if peer is None else relative_error(peer[i], exact[i])
        limit = max(tolerance, PEER_FACTOR * beside) if beside is not None else tolerance
        error = relative_error(ours[i], exact[i])
        rows.append(OutputError(name, exact[i].shape, error, beside, limit))
    return rows


def exact_outputs(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of `graph` in float64. Raises UserError or DataError for bad feeds."""
    return reference.run(graph, feeds, precision="f64")


def locate(
    graph: Graph, feeds: Mapping[str, Array], folder: Path, target: str, say: Say
) -> Divergence | None:
    """The first step at which what we compute leaves float64; None when there are no steps.

    Checks the passes first, by running the graph after each one, then the code of the final graph,
    by compiling it with its intermediate values as outputs into `folder`.
    """
    exact = exact_outputs(graph, feeds)
    steps: list[Step] = []
    final = run_passes(graph, PIPELINES["default"], steps.append)
    for step in steps:
        if not step.changed:
            continue
        say(f"checking pass {step.name}")
        found = exact_outputs(step.after, feeds)
        error = max(map(relative_error, found, exact), default=0.0)
        if error > DIVERGED:
            return Divergence("pass", step.name, "", error, 0.0)
    return first_operation(final, feeds, folder, target, say)


def first_operation(
    graph: Graph, feeds: Mapping[str, Array], folder: Path, target: str, say: Say
) -> Divergence | None:
    """The first operation of `graph` whose compiled results are off by more than `DIVERGED`.

    If there is none, the one that multiplies the error of its operands the most.
    """
    values = [v for op in graph.ops if not isinstance(op, Constant) for v in op.results]
    errors: dict[Value, float] = {}
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        say(f"checking operations {start + 1} to {start + len(chunk)} of {len(values)}")
        errors.update(_chunk_errors(graph, chunk, feeds, folder, target))
        for value in chunk:
            if errors[value] > DIVERGED and value.op is not None:
                return _divergence("operation", value.op, errors)
    grown = [v for v in values if errors[v] > 0]
    if not grown:
        return None
    worst = max(grown, key=lambda v: errors[v] / max(_before(v.op, errors), ROUNDING))
    assert worst.op is not None, "graph inputs are not among the values"
    return _divergence("rounding", worst.op, errors)


def _chunk_errors(
    graph: Graph,
    chunk: Sequence[Value],
    feeds: Mapping[str, Array],
    folder: Path,
    target: str,
) -> dict[Value, float]:
    wanted = set(chunk)
    exact: dict[Value, Array] = {}

    def observe(op: Op, arrays: list[Array]) -> None:
        exact.update((v, a) for v, a in zip(op.results, arrays, strict=True) if v in wanted)

    reference.run(graph, feeds, precision="f64", observe=observe)
    names = tuple(f"value{i}" for i in range(len(chunk)))
    path = folder / "values.tw"
    compile_graph(graph.replace(outputs=tuple(chunk), output_names=names), path, (target,))
    with load(path) as session:
        found = session.run(None, dict(feeds))
    return {v: relative_error(a, exact[v]) for v, a in zip(chunk, found, strict=True)}


def _before(op: Op | None, errors: Mapping[Value, float]) -> float:
    return max((errors.get(v, 0.0) for v in op.operands), default=0.0) if op is not None else 0.0


def _divergence(kind: str, op: Op, errors: Mapping[Value, float]) -> Divergence:
    error = max(errors[v] for v in op.results if v in errors)
    return Divergence(kind, op.opname, op.source, error, _before(op, errors))
