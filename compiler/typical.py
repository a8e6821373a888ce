"""Sizes of dimensions that kernels are chosen for."""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.ir.core import Graph


def check_typical(graph: Graph, typical: Mapping[str, int]) -> None:
    """Raise UserError for a typical size of no dimension, or outside of its bounds."""
    known = {name: s for name, s in graph.symbols.items() if s.source[0] == "shape"}
    for name, size in typical.items():
        symbol = known.get(name)
        if symbol is None:
            hint = nearest(name, known) if known else "this model has no symbolic dimensions"
            raise UserError(f"typical {name}={size}", "there is no such dimension", hint=hint)
        if size < symbol.low or (symbol.high is not None and size > symbol.high):
            bounds = f"{symbol.low}..{'' if symbol.high is None else symbol.high}"
            found = f"{name} is {bounds}"
            raise UserError(f"typical {name}={size}", "the dimension does not allow it", found)
