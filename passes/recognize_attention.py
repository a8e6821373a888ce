"""Scaled-dot-product attention from its parts (Vaswani 2017; grouped heads: Ainslie 2023)."""

import dataclasses
import math
from dataclasses import dataclass

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import Dim, bounds
from tilewright.compiler.ir.ops.binary import Add, Div, Mul, Where
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Fill
from tilewright.compiler.ir.ops.nn import Attention, Softmax
from tilewright.compiler.ir.ops.shape import Broadcast, Reshape
from tilewright.compiler.ir.ops.unary import IsNan, Not
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import TensorType
from tilewright.passes.axis_groups import axis_groups
from tilewright.passes.causal_masks import HIDDEN, array_offset, causal_offset
from tilewright.passes.match import (
    below_transposes,
    constant_array,
    made_by,
    number,
    sides,
)
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def recognize_attention(graph: Graph) -> Graph:
    """Find `softmax(scale * q k + mask) v` around two contractions, in any axis order.

        contract(q * s, k * s)               ->  attention(q, k, v) {scale = s * s}
        scores + mask                        ->  mask, or causal when its elements prove it
        where(visible, scores, -inf)         ->  mask, or causal when counters prove it
        where(is_nan(p), 0, p)               ->  masked_zero
        reshape(broadcast(k [b, g, 1, ..]))  ->  grouped heads: k itself

    Requires: recognize-softmax, cancel-transposes.
    Ensures: no softmax stands between two contractions, except as below.
    Leaves alone: probabilities with another use; a number instead of -inf above -1e30; masks that
        do not broadcast to [batch, heads, queries, keys].
    """
    used = users(graph.ops)
    outputs = set(graph.outputs)

    def rule(op: Op, builder: Builder) -> Replacement:
        if not isinstance(op, Contract) or op.body is not None:
            return None
        original = builder.original
        assert isinstance(original, Contract)
        inputs, out = op.spec.split("->")
        ia, ib = inputs.split(",")
        tries = (
            (original.a, op.a, op.b, ia, ib),
            (original.b, op.b, op.a, ib, ia),
        )
        for before, p, v, p_letters, v_letters in tries:
            if len(used[before]) == 1 and before not in outputs:
                found = _attention(p, v, (p_letters, v_letters, out), builder, graph)
                if found is not None:
                    return (found,)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


@dataclass(frozen=True)
class _Scores:
    """What is known of the scores: the contraction, its factor, and what hides keys."""

    contract: Contract
    scale: float = 1.0
    added: tuple[Value, ...] = ()
    hidden: tuple[tuple[Value, bool, float], ...] = ()  # (condition, its value where visible, else)


def _scores(value: Value, builder: Builder) -> _Scores | None:
    op = value.op
    if isinstance(op, Contract):
        return _Scores(op) if op.body is None else None
    if isinstance(op, Mul | Div):
        for x, other in sides(op):
            c = number(builder, other)
            if c is None or x.type != value.type or (isinstance(op, Div) and x is op.b):
                continue
            inner = _scores(x, builder)
            if inner is None or inner.added or inner.hidden:
                return None
            factor = 1.0 / c if isinstance(op, Div) and c else c
            return dataclasses.replace(inner, scale=inner.scale * factor)
    if isinstance(op, Add):
        for x, mask in sides(op):
            inner = _scores(x, builder) if x.type == value.type else None
            if inner is not None:
                return dataclasses.replace(inner, added=(*inner.added, mask))
    if isinstance(op, Where):
        for x, other, visible in ((op.a, op.b, True), (op.b, op.a, False)):
            c = number(builder, other)
            inner = _scores(x, builder) if c is not None and c <= HIDDEN else None
            if inner is not None and c is not None and x.type == value.type:
                hidden = (*inner.hidden, (op.condition, visible, c))
                return dataclasses.replace(inner, hidden=hidden)
    return None


def _probabilities(value: Value, builder: Builder) -> tuple[Softmax, bool] | None:
    """The softmax and whether rows of NaN become zero."""
    op = value.op
    if isinstance(op, Where):
        nan = made_by(op.condition, IsNan)
        if nan is None or nan.x is not op.b or number(builder, op.a) != 0.0:
            return None
        softmax = made_by(op.b, Softmax)
        guarded = True
    else:
        softmax, guarded = made_by(value, Softmax), False
    if softmax is None or softmax.log or softmax.axis != value.rank - 1:
        return None
    return softmax, guarded


def _attention(
    p: Value, v: Value, spec: tuple[str, str, str], builder: Builder, graph: Graph
) -> Value | None:
    probabilities = _probabilities(p, builder)
    if probabilities is None:
        return None
    softmax, masked_zero = probabilities
    scores = _scores(softmax.x, builder)
    if scores is None:
        return None
    first = scores.contract
    inputs, order = first.spec.split("->")
    letters_a, letters_b = inputs.split(",")
    names = _roles(order, letters_a, letters_b)
    if names is None:
        return None
    swapped = order[-1] in letters_a
    q, iq = (first.b, letters_b) if swapped else (first.a, letters_a)
    k, ik = (first.a, letters_a) if swapped else (first.b, letters_b)
    # The second contraction calls the axes of the probabilities by letters of its own.
    ip, iv, out = spec
    second = {letter: names[order[i]] for i, letter in enumerate(ip)}
    own = [c for c in iv if c not in second]
    summed = [c for c in ip if c not in out]
    if len(own) != 1 or own[0] not in out or summed != [ip[-1]] or ip[-1] not in iv:
        return None
    if any(second[c] == "q" for c in iv if c in second):
        return None
    second[own[0]] = "e"
    batch = [c for c in second.values() if c in "bh"]
    if any(c not in iv for c, role in second.items() if role in "bh"):
        return None
    if scores.added or scores.hidden:
        expected = list("bh"[: len(batch)] + "qk")
        if [names[c] for c in order] != expected:
            return None
    reader = _Reader(builder, scores.scale)
    q, q_axes = reader.read(q, "".join(names[c] for c in iq), grouped=False, scaled=True)
    k, k_axes = reader.read(k, "".join(names[c] for c in ik), grouped=True, scaled=True)
    v, v_axes = reader.read(v, "".join(second[c] for c in iv), grouped=True, scaled=False)
    heads = {"k": k.shape[k_axes.index("g")], "v": v.shape[v_axes.index("g")]}
    if heads["k"] != heads["v"]:
        return None
    masking = _masking(scores, p.shape[-2], p.shape[-1], builder, graph)
    if masking is None:
        return None
    mask, causal, causal_end = masking
    if mask is not None and mask.rank == 3 and len(batch) == 1:
        mask = builder.emit(Reshape, x=mask, shape=(mask.shape[0], 1, *mask.shape[1:]))
    made = builder.emit(
        Attention,
        q=q,
        k=k,
        v=v,
        mask=mask,
        scale=reader.scale,
        causal=causal,
        causal_end=causal_end,
        masked_zero=masked_zero,
        q_axes=q_axes,
        k_axes=k_axes,
        v_axes=v_axes,
        out_axes="".join(c for c in "bh" if c not in batch) + "".join(second[c] for c in out),
    )
    if len(batch) == 2:
        return made
    return builder.emit(Reshape, x=made, shape=made.shape[2 - len(batch) :])


def _roles(order: str, ia: str, ib: str) -> dict[str, str] | None:
    """The roles b, h, q, k, d of the letters of the first contraction."""
    summed = [c for c in ia if c not in order]
    batch = [c for c in order if c in ia and c in ib]
    q = [c for c in order[:-1] if c not in batch]
    if len(summed) != 1 or len(q) != 1 or order[-1] in batch or len(batch) > 2:
        return None
    if (q[0] in ia) == (order[-1] in ia):
        return None
    return dict(
        zip((*batch, q[0], order[-1], summed[0]), ("bh"[: len(batch)] + "qkd"), strict=True)
    )


class _Reader:
    """Finds where an operand is stored: below transposes, scalings and repeated heads."""

    def __init__(self, builder: Builder, scale: float) -> None:
        self.builder, self.scale = builder, scale

    def read(self, value: Value, axes: str, grouped: bool, scaled: bool) -> tuple[Value, str]:
        """The tensor and its axis letters (`g` for `h` when grouped), with all batch axes."""
        while True:
            value, axes = below_transposes(value, axes)
            inner = self._scaled(value) if scaled else None
            if inner is None and grouped:
                inner = self._ungrouped(value, axes)
            if inner is None:
                break
            value = inner
        missing = [c for c in "bh" if c not in axes]
        if missing:
            shape = (*(1 for _ in missing), *value.shape)
            value = self.builder.emit(Reshape, x=value, shape=shape)
            axes = "".join(missing) + axes
        return value, axes.replace("h", "g") if grouped else axes

    def _scaled(self, value: Value) -> Value | None:
        op = value.op
        if not isinstance(op, Mul | Div):
            return None
        for x, other in sides(op):
            c = number(self.builder, other)
            if not c or x.type != value.type or (isinstance(op, Div) and x is op.b):
                continue
            self.scale *= 1.0 / c if isinstance(op, Div) else c
            return x
        return None

    def _ungrouped(self, value: Value, axes: str) -> Value | None:
        """x [b, g, ..] when `value` repeats each of its heads: [b, g, 1, ..] -> [b, g*r, ..]."""
        merged = made_by(value, Reshape)
        spread = made_by(merged.x, Broadcast) if merged else None
        if merged is None or spread is None or spread.x.rank != spread.out.rank:
            return None
        grown = [i for i, d in enumerate(spread.x.shape) if d != spread.shape[i]]
        groups = axis_groups(spread.shape, merged.shape)
        if groups is None or len(grown) != 1 or "h" not in axes:
            return None
        at = axes.index("h")
        for fine, coarse in groups:
            pair = len(fine) == 2 and fine[1] == grown[0] and list(coarse) == [at]
            if not pair and (len(fine) != 1 or len(coarse) != 1):
                return None
        shape = tuple(d for i, d in enumerate(spread.x.shape) if i != grown[0])
        below = made_by(spread.x, Reshape)
        if below is not None and below.x.shape == shape:
            return below.x
        return self.builder.emit(Reshape, x=spread.x, shape=shape)


def _masking(
    scores: _Scores, queries: Dim, keys: Dim, builder: Builder, graph: Graph
) -> tuple[Value | None, bool, bool] | None:
    """(mask, causal, causal_end) of all that is added or hidden; None when it takes two masks."""
    masks: list[Value] = []
    causal = causal_end = False
    hidden = list(scores.hidden)
    for added in scores.added:
        chosen = made_by(added, Where)
        array = constant_array(builder, added)
        if chosen is not None and (found := _chosen(chosen, builder)):
            hidden.append(found)
        elif array is not None and bool(((array == 0) | (array <= HIDDEN)).all()):
            flags = _flags(array_offset(array == 0), queries, keys, HIDDEN, graph)
            if flags is None:
                masks.append(added)
            else:
                causal, causal_end = True, flags[1]
        else:
            masks.append(added)
    for condition, visible, value in hidden:
        flags = _flags(causal_offset(condition, visible, builder), queries, keys, value, graph)
        if flags is not None and (not causal or causal_end == flags[1]):
            causal, causal_end = flags
            continue
        if math.isinf(value):
            masks.append(condition if visible else builder.emit(Not, x=condition))
            continue
        scalar = TensorType(scores.contract.out.dtype, ())
        zero, low = (builder.emit(Fill, value=c, type=scalar) for c in (0.0, value))
        a, b = (zero, low) if visible else (low, zero)
        masks.append(builder.emit(Where, condition=condition, a=a, b=b))
    masks = [m.op.x if isinstance(m.op, Broadcast) else m for m in masks]
    if len(masks) > 1:
        return None
    return (masks[0] if masks else None), causal, causal_end


def _chosen(op: Where, builder: Builder) -> tuple[Value, bool, float] | None:
    """A mask `where(visible, 0, low)` or `where(hidden, low, 0)`."""
    a, b = number(builder, op.a), number(builder, op.b)
    if a == 0.0 and b is not None and b <= HIDDEN:
        return op.condition, True, b
    if b == 0.0 and a is not None and a <= HIDDEN:
        return op.condition, False, a
    return None


def _flags(
    offset: Dim | None, queries: Dim, keys: Dim, value: float, graph: Graph
) -> tuple[bool, bool] | None:
    """(causal, causal_end) for an offset, if attention has it."""
    if offset is None:
        return None
    if offset == 0:
        return True, False
    if offset != keys - queries:
        return None
    # A row without keys is uniform with a finite mask and NaN with -inf.
    least = bounds(keys - queries, graph.bounds)[0]
    return (True, True) if math.isinf(value) or (least is not None and least >= 0) else None
