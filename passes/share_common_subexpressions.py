"""Common subexpression elimination."""

from collections import ChainMap
from collections.abc import Hashable, MutableMapping
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.control import Custom, Guard
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.registry import graph_pass

HASHED_BYTES = 1 << 14
"""Constants of at most this size are compared by content; larger ones by name."""


@graph_pass
def share_common_subexpressions(graph: Graph) -> Graph:
    """Compute what is written twice once.

        %1 = exp %x
        %2 = exp %x                 (gone)
        %3 = add %1, %2       ->    %3 = add %1, %1

    Requires: nothing.
    Ensures: no two operations without regions have the same operands and attributes, in one scope.
    Leaves alone: operations with regions, guards and custom operations (a random one differs every
        time); equal constants larger than 16 KiB.
    """
    # Regions see the expressions of the enclosing block, not the other way round.
    scope_of: dict[Op, int] = {}
    parents: dict[int, int] = {0: 0}

    def number(ops: tuple[Op, ...], scope: int) -> None:
        for op in ops:
            scope_of[op] = scope
            for region in op.regions:
                parents[len(parents)] = scope
                number(region.ops, len(parents) - 1)

    number(graph.ops, 0)
    tables: dict[int, MutableMapping[Hashable, tuple[Value, ...]]] = {0: {}}

    def table(scope: int) -> MutableMapping[Hashable, tuple[Value, ...]]:
        if scope not in tables:
            tables[scope] = ChainMap({}, table(parents[scope]))
        return tables[scope]

    def rule(op: Op, builder: Builder) -> Replacement:
        if op.regions or isinstance(op, Guard | Custom):
            return None
        found = table(scope_of[builder.original or op])
        key = _key(op, graph)
        if key in found:
            return found[key]
        found[key] = op.results
        return None

    return rewrite(graph, rule)


def _key(op: Op, graph: Graph) -> Hashable:
    if isinstance(op, Constant):
        weight = graph.weights[op.name]
        size = op.type.bytes
        if isinstance(size, int) and size <= HASHED_BYTES:
            return ("constant", weight.hash())
    operands = tuple(_operand(getattr(op, name)) for name in op.operand_fields)
    return (op.opname, operands, tuple(_attribute(getattr(op, n)) for n in op.attr_fields))


def _operand(value: Value | tuple[Value, ...] | None) -> Hashable:
    return tuple(map(id, value)) if isinstance(value, tuple) else id(value)


def _attribute(value: Any) -> Hashable:
    # 1, 1.0 and true are equal in Python and different in IR; so are 0.0 and -0.0.
    if isinstance(value, bool | float):
        return (type(value).__name__, repr(value))
    return tuple(map(_attribute, value)) if isinstance(value, tuple) else value
