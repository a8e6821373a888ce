"""If, Loop and Scan."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import GraphProto

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dim_logic import larger
from tilewright.compiler.frontend.inputs import hint_of
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, concat, size_of
from tilewright.compiler.ir.core import Region, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.control import If, Loop
from tilewright.compiler.ir.types import DType, TensorType

_TRUE = np.array(True)
_UNROLL_LIMIT = 64
"""Iterations of a constant loop whose carried shapes change that are written out at most."""


def _block(
    ctx: Import, types: Sequence[TensorType], build: Callable[..., tuple[Value, ...]]
) -> Region:
    """A region with parameters of `types` whose results are those of `build(*parameters)`."""
    params = tuple(Value(t) for t in types)
    outer, ctx.builder.ops = ctx.builder.ops, []
    results = build(*params)
    ops, ctx.builder.ops = tuple(ctx.builder.ops), outer
    return Region(params, ops, results)


@onnx_op("If")
def if_(ctx: Import, node: Node) -> tuple[Value, ...]:
    """A condition known at compile time selects its branch now."""
    condition = node.input(0)
    then, other = node.attr("then_branch"), node.attr("else_branch")
    known = ctx.number(condition)
    if known is not None:
        return ctx.inline(then if known else other)
    bodies = [ctx.region(then), ctx.region(other)]
    types = [[v.type for v in b.results] for b in bodies]
    if any(x.rank != y.rank and x.elements == y.elements == 1 for x, y in zip(*types, strict=True)):
        bodies = [_scalars(ctx, body, types) for body in bodies]
        types = [[v.type for v in b.results] for b in bodies]
    if [(t.dtype, t.rank) for t in types[0]] != [(t.dtype, t.rank) for t in types[1]]:
        found = " and ".join(", ".join(map(str, t)) for t in types)
        hint = "make the branches agree, or the condition a constant"
        ctx.fail(node, "the branches yield different types", found, hint)
    shapes = [
        tuple(ctx.unify(a, b, "the branches") for a, b in zip(x.shape, y.shape, strict=True))
        for x, y in zip(*types, strict=True)
    ]
    bodies = [_relabelled(ctx, body, shapes) for body in bodies]
    return ctx.emit_multi(If, condition=condition, then_body=bodies[0], else_body=bodies[1])


def _scalars(ctx: Import, body: Region, types: list[list[TensorType]]) -> Region:
    """The body with one-element results in the higher rank of both branches."""
    outer, ctx.builder.ops = ctx.builder.ops, list(body.ops)
    results = tuple(
        ctx.reshape(v, (1,) * max(x.rank, y.rank)) if x.elements == y.elements == 1 else v
        for v, x, y in zip(body.results, *types, strict=True)
    )
    ops, ctx.builder.ops = tuple(ctx.builder.ops), outer
    return Region(body.params, ops, results)


def _relabelled(ctx: Import, body: Region, shapes: Sequence[tuple[Dim, ...]]) -> Region:
    outer, ctx.builder.ops = ctx.builder.ops, list(body.ops)
    results = tuple(
        ctx.relabel(v, s, "the branches") for v, s in zip(body.results, shapes, strict=True)
    )
    ops, ctx.builder.ops = tuple(ctx.builder.ops), outer
    return Region(body.params, ops, results)


class _ShapeChanges(Exception):
    """A carried value leaves the body with another shape than it entered."""


def _same_types(
    ctx: Import, node: Node, before: Sequence[Value], after: Sequence[Value]
) -> tuple[Value, ...]:
    """The new carried values with the types of the old ones."""
    out = []
    for old, new in zip(before, after, strict=True):
        if old.dtype != new.dtype or old.rank != new.rank:
            ctx.fail(node, "a carried value changes its type", f"{old.type} becomes {new.type}")
        if any(
            isinstance(a, int) != isinstance(b, int) or (isinstance(a, int) and a != b)
            for a, b in zip(old.shape, new.shape, strict=True)
        ):
            raise _ShapeChanges(f"{old.type} becomes {new.type}")
        out.append(ctx.relabel(new, old.shape, "the carried values"))
    return tuple(out)


def _counter(ctx: Import, graph: GraphProto, i: Value) -> Value:
    """The iteration number in the shape that the body declares (some exporters use [1])."""
    hint = hint_of(graph.input[0].type, {})
    one = hint is not None and hint.dims is not None and len(hint.dims) == 1
    return ctx.reshape(i, (1,)) if one else i


@onnx_op("Loop")
def _repeat(ctx: Import, node: Node) -> tuple[Value, ...]:
    graph: GraphProto = node.attr("body")
    limit, condition = node.maybe(0), node.maybe(1)
    carried = tuple(node.input(i) for i in range(2, len(node.inputs)))
    if len(graph.input) != 2 + len(carried):
        ctx.fail(node, "the body takes the wrong number of inputs", f"{len(graph.input)}")
    if condition is not None and ctx.number(condition) is True:
        condition = None
    counts = ctx.dims_of(limit)
    trips: Dim | None = None if counts is None else larger(counts[0], 0, ctx.bounds_of)
    try:
        return _loop(ctx, node, graph, limit, condition, carried, trips)
    except _ShapeChanges as error:
        if condition is None and isinstance(trips, int) and trips <= _UNROLL_LIMIT:
            return _unrolled(ctx, node, graph, carried, trips)
        hint = "give the loop a constant number of iterations, or values of one shape"
        ctx.fail(node, "a carried value changes its shape", str(error), hint)


def _loop(
    ctx: Import,
    node: Node,
    graph: GraphProto,
    limit: Value | None,
    condition: Value | None,
    carried: tuple[Value, ...],
    trips: Dim | None,
) -> tuple[Value, ...]:
    always = True
    outer = ctx.builder.ops

    def body(i: Value, *state: Value) -> tuple[Value, ...]:
        nonlocal always
        true = ctx.constant(_TRUE)
        results = ctx.inline(graph, (_counter(ctx, graph, i), true, *state))
        go = results[0]
        always = go is true or ctx.number(go) is True
        if always:
            go = true
        go = ctx.reshape(go, ())
        if limit is not None and trips is None:
            always = False
            next_fits = Term(ctx, i) + 1 < ctx.reshape(limit, ())
            go = (Term(ctx, go) & next_fits).value
        return (
            go,
            *_same_types(ctx, node, state, results[1 : 1 + len(state)]),
            *results[1 + len(state) :],
        )

    types = [TensorType(DType.I64, ()), *(v.type for v in carried)]
    try:
        region = _block(ctx, types, body)
    finally:
        ctx.builder.ops = outer
    if limit is not None and trips is None:
        some = size_of(ctx, 0) < ctx.reshape(limit, ())
        given = None if condition is None else Term(ctx, ctx.reshape(condition, ()))
        condition = some.value if given is None else (some & given).value
    elif trips is None and always:
        ctx.fail(node, "the loop never ends: it has neither a trip count nor a condition")
    pieces = len(region.results) - 1 - len(carried)
    length: Dim | None = None
    if pieces:
        fixed = always and condition is None
        length = trips if fixed else ctx.data_symbol(f"iterations_{len(ctx.symbols)}", trips)
    return ctx.emit_multi(
        Loop,
        condition=None if condition is None else ctx.reshape(condition, ()),
        carried=carried,
        trips=trips,
        length=length,
        stack_axes=(0,) * pieces,
        stack_reverse=(False,) * pieces,
        body=region,
    )


def _unrolled(
    ctx: Import, node: Node, graph: GraphProto, carried: tuple[Value, ...], trips: int
) -> tuple[Value, ...]:
    pieces: list[list[Value]] = []
    for i in range(trips):
        number = ctx.scalar(i, DType.I64)
        true = ctx.constant(_TRUE)
        results = ctx.inline(graph, (_counter(ctx, graph, number), true, *carried))
        if results[0] is not true and ctx.number(results[0]) is not True:
            ctx.fail(node, "a carried value changes its shape and the loop has a condition")
        carried = results[1 : 1 + len(carried)]
        pieces.append(list(results[1 + len(carried) :]))
    stacked = []
    for column in zip(*pieces, strict=True):
        parts = [Term(ctx, v).unsqueeze(0) for v in column]
        stacked.append(concat(parts, 0).value)
    if trips == 0 and len(graph.output) > 1 + len(carried):
        ctx.fail(node, "a loop without iterations cannot stack results of unknown shape")
    return (*carried, *stacked)


@onnx_op("Scan", since=9)
def _scan(ctx: Import, node: Node) -> tuple[Value, ...]:
    graph: GraphProto = node.attr("body")
    count = node.attr("num_scan_inputs")
    values = node.all_inputs()
    carried, scanned = values[: len(values) - count], values[len(values) - count :]
    pieces = len(graph.output) - len(carried)
    in_axes = node.attr("scan_input_axes", (0,) * count)
    in_axes = tuple(node.axis(a, v.rank) for a, v in zip(in_axes, scanned, strict=True))
    in_back = tuple(map(bool, node.attr("scan_input_directions", (0,) * count)))
    out_back = tuple(map(bool, node.attr("scan_output_directions", (0,) * pieces)))
    trips = scanned[0].shape[in_axes[0]]
    for value, axis in zip(scanned, in_axes, strict=True):
        trips = ctx.unify(trips, value.shape[axis], "the scanned axes")
    scanned = tuple(
        ctx.relabel(v, (*v.shape[:a], trips, *v.shape[a + 1 :]), "the scanned axes")
        for v, a in zip(scanned, in_axes, strict=True)
    )

    def body(i: Value, *params: Value) -> tuple[Value, ...]:
        results = ctx.inline(graph, params)
        state = _same_types(ctx, node, params[: len(carried)], results[: len(carried)])
        return (ctx.constant(_TRUE), *state, *results[len(carried) :])

    slices = [
        TensorType(v.dtype, (*v.shape[:a], *v.shape[a + 1 :]))
        for v, a in zip(scanned, in_axes, strict=True)
    ]
    types = [TensorType(DType.I64, ()), *(v.type for v in carried), *slices]
    try:
        region = _block(ctx, types, body)
    except _ShapeChanges as error:
        ctx.fail(node, "a state variable changes its shape", str(error))
    out_axes = node.attr("scan_output_axes", (0,) * pieces)
    stack = tuple(
        node.axis(a, v.rank + 1)
        for a, v in zip(out_axes, region.results[1 + len(carried) :], strict=True)
    )
    return ctx.emit_multi(
        Loop,
        carried=carried,
        scanned=scanned,
        trips=trips,
        length=trips if pieces else None,
        scan_axes=in_axes,
        scan_reverse=in_back,
        stack_axes=stack,
        stack_reverse=out_back,
        body=region,
    )
