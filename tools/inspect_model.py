"""What `tilewright inspect` finds in an ONNX model: its signature, operations and IR by stage."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilewright.compiler.driver import run_passes
from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.frontend.parse import parse
from tilewright.compiler.ir.core import Graph, walk
from tilewright.compiler.ir.print import print_graph
from tilewright.passes.pipelines import PIPELINES, Step

IMPORT = "import"
Stages = list[tuple[str, Graph]]
"""(`import` or a pass, the graph after it), in order; a pass that runs twice is there twice."""


def describe_model(path: Path, graph: Graph) -> dict[str, Any]:
    """Signature, sizes and operation counts of the model at `path`, imported as `graph`."""
    proto = parse(path).proto
    names = zip(graph.output_names, graph.outputs, strict=True)
    return {
        "model": str(path),
        "name": graph.name,
        "bytes": path.stat().st_size,
        "metadata": dict(graph.metadata),
        "inputs": [_tensor(v.name, v.type) for v in graph.inputs],
        "outputs": [_tensor(name, v.type) for name, v in names],
        "dims": {name: [s.low, s.high] for name, s in graph.symbols.items()},
        "weights": {"count": len(graph.weights), "bytes": _weight_bytes(graph)},
        "onnx_operators": _counts(
            f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type
            for n in proto.graph.node
        ),
        "operations": _counts(op.opname for op in walk(graph.ops)),
    }


def _tensor(name: str, type_: Any) -> dict[str, Any]:
    shape = [d if isinstance(d, int) else str(d) for d in type_.shape]
    return {"name": name, "dtype": str(type_.dtype), "shape": shape}


def _weight_bytes(graph: Graph) -> int:
    sizes = (weight.type.bytes for weight in graph.weights.values())
    return sum(size for size in sizes if isinstance(size, int))


def _counts(names: Any) -> dict[str, int]:
    return dict(Counter(names).most_common())


def all_stages(graph: Graph) -> Stages:
    """The graph after import and after every pass of the default pipeline."""
    found: Stages = [(IMPORT, graph)]

    def watch(step: Step) -> None:
        found.append((step.name, step.after))

    run_passes(graph, PIPELINES["default"], watch)
    return found


def stage(stages: Stages, wanted: str) -> Graph:
    """The graph after the stage `wanted`: `import`, a pass, or `pass:2` for its second run.

    A bare name stands for the last run. Raises UserError for names that are not there.
    """
    name, _, number = wanted.partition(":")
    runs = [graph for known, graph in stages if known.partition("{")[0] == name]
    if not runs:
        known = {known.partition("{")[0] for known, _ in stages}
        raise UserError(f"stage {name!r}", "there is no such stage", hint=nearest(name, known))
    if not number:
        return runs[-1]
    if not number.isdigit() or not 1 <= int(number) <= len(runs):
        raise UserError(
            f"stage {wanted!r}", f"{name} runs {len(runs)} times", hint=f"{name}:{len(runs)}"
        )
    return runs[int(number) - 1]


def difference(stages: Stages, first: str, second: str) -> str:
    """A unified diff of the IR after two stages; empty when they are the same."""
    texts: Sequence[list[str]] = [
        print_graph(stage(stages, name), weights=False).splitlines() for name in (first, second)
    ]
    lines = difflib.unified_diff(texts[0], texts[1], first, second, lineterm="", n=2)
    return "\n".join(lines)
