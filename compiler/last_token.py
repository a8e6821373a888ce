"""Only the last position of an output: what sampling the next token needs of the logits."""

from collections.abc import Iterable

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import bounds
from tilewright.compiler.ir.ops.shape import Slice
from tilewright.compiler.ir.rewrite import Builder


def keep_last_token(graph: Graph, names: Iterable[str]) -> Graph:
    """`graph` whose outputs `names` are [.., 1, v], the last of their positions [.., s, v].

    The pass `narrow-slices` then leaves away what computes the other positions. Raises UserError
    for a name that no output has, and for an output without positions or perhaps without any.
    """
    for name in names:
        graph = _keep(graph, name)
    return graph


def _keep(graph: Graph, name: str) -> Graph:
    where = f"output {name!r}"
    if name not in graph.output_names:
        hint = nearest(name, graph.output_names)
        raise UserError(where, "the model has no such output", hint=hint)
    at = graph.output_names.index(name)
    value = graph.outputs[at]
    if value.rank < 2:
        found = f"expected at least two axes, found {value.type}"
        raise UserError(where, "has no axis of positions", found)
    axis = value.rank - 2
    low, _ = bounds(value.shape[axis], graph.bounds)
    if low is None or low < 1:
        found = f"the size of its axis of positions, {value.shape[axis]}, may be 0"
        raise UserError(where, "may have no last position", found, "bound the dimension by 1..")
    builder = Builder(graph.weights)
    starts = tuple(d - 1 if i == axis else 0 for i, d in enumerate(value.shape))
    shape = tuple(1 if i == axis else d for i, d in enumerate(value.shape))
    last = builder.emit(Slice, x=value, starts=starts, steps=(1,) * value.rank, shape=shape)
    outputs = tuple(last if i == at else v for i, v in enumerate(graph.outputs))
    return graph.replace(ops=(*graph.ops, *builder.ops), outputs=outputs)
