"""Dead-code elimination."""

from tilewright.compiler.ir.core import Graph, Op, Value, walk
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.rewrite import rewrite
from tilewright.passes.registry import graph_pass


@graph_pass
def remove_dead_code(graph: Graph) -> Graph:
    """Drop operations whose results nobody uses, and weights that no operation names.

        %1 = add %x, %x            (gone when %1 has no use)
        %2 = mul %x, %x
        return %2

    Requires: nothing.
    Ensures: every operation has a used result; every weight has a constant.
    Leaves alone: guards, whose check is an effect; operations of which one result is used.
    """
    dead: set[Op] = set()
    _mark(graph.ops, set(graph.outputs), dead)
    if dead:
        graph = rewrite(graph, lambda op, builder: None, dead)
    names = {op.name for op in walk(graph.ops) if isinstance(op, Constant)}
    if len(names) != len(graph.weights):
        graph = graph.replace(weights=graph.weights.kept(names))
    return graph


def _mark(ops: tuple[Op, ...], live: set[Value], dead: set[Op]) -> None:
    """Put the dead operations of a block into `dead`; adds what the live ones use to `live`."""
    for op in reversed(ops):
        if not any(v in live for v in op.results) and not _has_effect(op):
            dead.add(op)
            continue
        live.update(op.operands)
        for region in op.regions:
            live.update(region.results)
            _mark(region.ops, live, dead)


def _has_effect(op: Op) -> bool:
    inner = (o for region in op.regions for o in walk(region.ops))
    return isinstance(op, Guard) or any(isinstance(o, Guard) for o in inner)
