"""Builds graphs with a cap on fast memory, kernels kept from one build to the next."""

from pathlib import Path
from unittest.mock import patch

from support import compiled_graph

from tilewright.backends.llvm.backend import Lowered
from tilewright.backends.target import Target
from tilewright.compiler.driver import lower_for
from tilewright.compiler.ir.core import Graph
from tilewright.passes.memory.caps import Caps
from tilewright.passes.memory.plan import Plan


def build_within(graph: Graph, path: Path, fast: int | None) -> tuple[Lowered, Plan]:
    """Write the artifact of `graph` with steps that work in `fast` bytes (None: no cap)."""
    made: list[tuple[Lowered, Plan]] = []

    def capped(graph: Graph, target: Target) -> tuple[Lowered, Plan]:
        made.append(lower_for(graph, target, caps=Caps(fast=fast)))
        return made[-1]

    with patch.object(compiled_graph, "lower_for", capped):
        compiled_graph.build(graph, path)
    return made[0]
