"""Products of which nothing is used but a reduction of every row."""

from dataclasses import dataclass

from tilewright.compiler.ir.core import Graph, Op, Value, users, walk
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops.binary import Add, Sub, Where
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import Softmax
from tilewright.compiler.ir.ops.reduce import MOST_OF_ROW, ArgReduce, Reduce, ReduceRows, TopK
from tilewright.compiler.ir.ops.shape import GatherElements, Reshape
from tilewright.compiler.ir.ops.unary import Cast, Exp, IsInf, Log
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType
from tilewright.passes.match import made_by, number, sides
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@dataclass(frozen=True)
class _Found:
    """What the last operation of a pattern makes: a reduction of the rows of `x`, and the
    operations of the pattern but the last."""

    x: Value
    inner: tuple[Op, ...]
    kind: str
    ids: Value | None = None
    count: int = 1
    last: bool = False


@graph_pass
def recognize_row_reductions(graph: Graph) -> Graph:
    """Name what is used of the logits of a model, so that a kernel need not store them.

        arg_reduce(contract(x, w))                  ->  reduce_rows(contract(x, w)) {argmax}
        top_k(..), reduce(..) {max}                 ->  reduce_rows(..) {top}, {max}
        log(sum(exp(l - max(l)))) + max(l)          ->  reduce_rows(l) {finite_log_sum_exp}
            with 0 in place of an infinite maximum  ->  reduce_rows(l) {log_sum_exp}
        gather_elements(softmax(l) {log}, ids)      ->  reduce_rows(l, ids) {log_probability}

    l is a product of f32 with a constant matrix, along whose columns is reduced; shapes of its rows
    may change on the way. This is the forward part of Wijmans et al., Cut Your Losses in
    Large-Vocabulary Language Models (arXiv:2411.09009).

    Requires: fuse-epilogues.
    Ensures: no product with a constant matrix is read by one of these patterns alone.
    Leaves alone: products that are graph outputs or have other readers; top_k of the smallest, of
        a computed k or of more than 64; products of two computed matrices; nested regions.
    """
    used = users(graph.ops)
    weights, block = Builder(graph.weights), set(graph.ops)
    yielded = {v for op in walk(graph.ops) for region in op.regions for v in region.results}
    outputs = yielded.union(graph.outputs)
    found: dict[Op, _Found] = {}
    for op in graph.ops:
        match = _match(op, weights)
        if match is None or not _multiplies(match.x.op):
            continue
        inner = {*match.inner, op}
        made = [match.x, *(v for o in match.inner for v in o.results)]
        if all(v not in outputs and inner.issuperset(used[v]) for v in made) and inner <= block:
            found[op] = match
    if not found:
        return graph
    now: dict[Value, Value] = {}

    def rule(op: Op, builder: Builder) -> Replacement:
        original = builder.original or op
        match = found.get(original)
        results = op.results if match is None else _emit(match, original, now, builder)
        now.update(zip(original.results, results, strict=True))
        return None if match is None else results

    return remove_dead_code(rewrite(graph, rule))


def _emit(
    match: _Found, original: Op, now: dict[Value, Value], builder: Builder
) -> tuple[Value, ...]:
    x, ids = now.get(match.x, match.x), match.ids
    if ids is not None:
        ids = now.get(ids, ids)
        shape = (*x.shape[:-1], ids.shape[-1])
        ids = ids if ids.shape == shape else builder.emit(Reshape, x=ids, shape=shape)
        ids = ids if ids.dtype == DType.I64 else builder.emit(Cast, x=ids, dtype=DType.I64)
    made = builder.emit_multi(
        ReduceRows, x=x, ids=ids, kind=match.kind, count=match.count, last=match.last
    )
    return tuple(
        value if value.shape == wanted.shape else builder.emit(Reshape, x=value, shape=wanted.shape)
        for value, wanted in zip(made, original.results, strict=True)
    )


def _multiplies(op: Op | None) -> bool:
    """Whether `op` is a product of f32 with a constant matrix, whose columns are the last axis."""
    if not isinstance(op, Contract) or not isinstance(op.b.op, Constant):
        return False
    (ia, ib, out), sizes = axis_sizes(op.spec, op.a, op.b)
    columns = [c for c in out if c in ib]
    n = sizes[out[-1]] if out else 0
    plain = columns == [out[-1:]] and not set(ia) & set(columns) and isinstance(n, int) and n > 0
    return plain and op.a.dtype == op.b.dtype == op.out.dtype == DType.F32


def _match(op: Op, weights: Builder) -> _Found | None:
    if isinstance(op, ArgReduce):
        if op.kind != "max" or op.axis != op.x.rank - 1:
            return None
        return _rows(op.x, (), "argmax", last=op.last)
    if isinstance(op, TopK):
        k, size = op.k, op.x.shape[-1]
        if not isinstance(k, int) or not isinstance(size, int) or not op.largest:
            return None
        fits = 0 < k <= min(size, MOST_OF_ROW) and op.axis == op.x.rank - 1
        return _rows(op.x, (), "top", count=k) if fits else None
    if isinstance(op, Reduce):
        last = op.kind == "max" and op.axes == (op.x.rank - 1,)
        return _rows(op.x, (), "max") if last else None
    if isinstance(op, GatherElements):
        return _log_probability(op)
    return _log_sum_exp(op, weights) if isinstance(op, Add) else None


def _rows(
    x: Value,
    inner: tuple[Op, ...],
    kind: str,
    ids: Value | None = None,
    count: int = 1,
    last: bool = False,
) -> _Found | None:
    """A reduction of the rows of `x`, seen below reshapes that leave rows whole."""
    below, passed = _below(x)
    return _Found(below, (*inner, *passed), kind, ids, count, last) if below.rank else None


def _below(x: Value) -> tuple[Value, tuple[Op, ...]]:
    passed: list[Op] = []
    while isinstance(x.op, Reshape) and x.rank and x.op.x.shape[-1:] == x.shape[-1:]:
        passed.append(x.op)
        x = x.op.x
    return x, tuple(passed)


def _log_probability(op: GatherElements) -> _Found | None:
    logs, passed = _below(op.x)
    softmax = made_by(logs, Softmax)
    columns = op.indices.shape[-1] if op.indices.rank else 0
    if softmax is None or not softmax.log or softmax.axis != logs.rank - 1:
        return None
    if op.axis != op.x.rank - 1 or op.indices.dtype not in (DType.I32, DType.I64):
        return None
    same = product(op.indices.shape[:-1]) == product(op.x.shape[:-1])
    if not same or not isinstance(columns, int) or not 0 < columns <= MOST_OF_ROW:
        return None
    return _rows(softmax.x, (softmax, *passed), "log_probability", op.indices, columns)


def _log_sum_exp(op: Add, weights: Builder) -> _Found | None:
    """`log(sum(exp(x - s))) + s`, s the maximum of x, or 0 where that is infinite."""
    for left, right in sides(op):
        log, above_log = _bare(left)
        if not isinstance(log, Log):
            continue
        total, above_sum = _bare(log.x)
        if not isinstance(total, Reduce) or total.kind != "sum":
            continue
        e = made_by(total.x, Exp)
        moved = None if e is None else made_by(e.x, Sub)
        if e is None or moved is None or total.axes != (moved.a.rank - 1,):
            continue
        shift = _shift(moved.b, moved.a, weights)
        again, above_shift = _bare(right)
        if shift is None or again is not moved.b.op:
            continue
        kind, parts = shift
        above = (*above_log, *above_sum, *above_shift)
        return _rows(moved.a, (log, total, e, moved, *parts, *above), kind)
    return None


def _shift(value: Value, x: Value, weights: Builder) -> tuple[str, tuple[Op, ...]] | None:
    """What the sum of exponentials is called if `value` is subtracted from x, and what makes it."""
    where = made_by(value, Where)
    top = value if where is None else where.b
    best = made_by(top, Reduce)
    if best is None or best.x is not x or best.kind != "max" or best.axes != (x.rank - 1,):
        return None
    if not best.keepdims:
        return None
    if where is None:
        return "finite_log_sum_exp", (best,)
    odd = made_by(where.condition, IsInf)
    if odd is None or odd.x is not top or not odd.positive or not odd.negative:
        return None
    return ("log_sum_exp", (where, odd, best)) if number(weights, where.a) == 0 else None


def _bare(value: Value) -> tuple[Op | None, tuple[Op, ...]]:
    """What made `value`, below reshapes, and these."""
    passed: list[Op] = []
    while isinstance(value.op, Reshape):
        passed.append(value.op)
        value = value.op.x
    return value.op, tuple(passed)
