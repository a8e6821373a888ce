"""Channels of an intermediate value that nothing reads, or that are constant, are not computed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.contraction import Contract, Conv, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite, with_operands
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.passes.evaluation import evaluator
from tilewright.passes.op_sets import ELEMENTWISE
from tilewright.passes.prices import never_slower, prices
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code
from tilewright.passes.rewrites import Rewrite, record


@graph_pass
def remove_dead_channels(graph: Graph) -> Graph:
    """Make the value between products narrower: without channels whose rows of the next weights are
    zero, and without those that zero columns of the weights before make constant.

        h = relu(contract(x, w1) + b1)           h' = relu(contract(x, w1[:, keep]) + b1[keep])
        y = contract(h, w2)                ->    y  = contract(h', w2[keep]) + constants * w2

    Products of several operands (gates) are narrowed together. Zero times infinity counts as zero.

    Requires: nothing.
    Ensures: between products that only elementwise operations connect, no channel is dead.
    Leaves alone: values that are read in another way (normalizations, residuals, outputs), whose
        channels belong to others; constant channels in front of padded convolutions, unless zero;
        what prices say would be slower.
    """
    while (after := _once(graph)) is not graph:  # what is narrower may read fewer channels itself
        graph = after
    return graph


@dataclass(frozen=True, eq=False)
class _Narrowing:
    """Channels that stay of a value, and what the others are, f64, 0 where that does not matter."""

    keep: np.ndarray
    constants: np.ndarray


def _once(graph: Graph) -> Graph:
    used, outputs = users(graph.ops), set(graph.outputs)
    plans: dict[Value, _Narrowing] = {}
    for op in graph.ops:
        if isinstance(op, Contract | Conv):
            value = _operand(op)
            if value is not None and value not in plans:
                plan = _planned(value, graph, used, outputs)
                if plan is not None:
                    plans[value] = plan
    if not plans:
        return graph
    made: dict[Value, Value] = {}

    def rule(op: Op, builder: Builder) -> Replacement:
        original = builder.original
        value = _operand(original) if isinstance(original, Contract | Conv) else None
        plan = plans.get(value) if value is not None else None
        if plan is None or value is None or not isinstance(op, Contract | Conv):
            return None
        if value not in made:
            current = _operand(op)
            assert current is not None
            made[value] = _narrowed(current, _channel(original), plan.keep, builder, {})
        return (_reader(op, made[value], plan, builder),)

    return remove_dead_code(rewrite(graph, rule))


def _operand(op: Contract | Conv) -> Value | None:
    """The computed operand of a product with f32 constants."""
    if op.body is not None or op.out.dtype != DType.F32:
        return None
    if isinstance(op, Conv):
        return op.x if isinstance(op.w.op, Constant) and op.groups == 1 else None
    return op.a if isinstance(op.b.op, Constant) else None


def _channel(op: Any) -> int:
    """Axis of the operand, from the end, that a product sums over; 0 if that is not one axis."""
    if isinstance(op, Conv):
        return -1
    (ia, ib, out), _ = axis_sizes(op.spec, op.a, op.b)
    summed = [letter for letter in ia if letter in ib and letter not in out]
    return ia.index(summed[0]) - len(ia) if len(summed) == 1 else 0


def _planned(
    value: Value, graph: Graph, used: dict[Value, list[Op]], outputs: set[Value]
) -> _Narrowing | None:
    """What to keep of a value, if channels are dead and all that touch it can do without."""
    readers = used[value]
    if value in outputs or not all(_reads(op, value) for op in readers):
        return None
    axes = {_channel(op) for op in readers}
    if len(axes) != 1 or 0 in axes:
        return None
    (axis,) = axes
    size = value.shape[axis]
    chain: set[Op] = set()
    if not isinstance(size, int) or not _follow(value, axis, size, chain, used):
        return None
    inside = {v for op in chain for v in op.results if v is not value}
    if any(v in outputs or not chain.issuperset(used[v]) for v in inside):
        return None
    read = np.zeros(size, bool)
    for op in readers:
        read |= _live_rows(op, graph)
    known, constants = _constant_channels(value, axis, size, graph)
    if any(isinstance(op, Conv) and any((*op.pads_low, *op.pads_high)) for op in readers):
        known &= constants == 0
    keep = np.flatnonzero(read & ~known)
    keep = keep if len(keep) else np.array([0])  # an axis of nothing is no product
    if len(keep) == size:
        return None
    constants = np.where(known, constants, 0.0)
    constants[keep] = 0.0
    source = ", ".join(dict.fromkeys(op.source for op in readers if op.source))
    weight = _weight(readers[0])
    if any(graph.weights[_weight(op)].coded is not None for op in _products((*readers, *chain))):
        return None
    slower = not all(
        _pays(op, op in readers, size, len(keep)) for op in _products((*readers, *chain))
    )
    text = f"{len(keep)} of {size} channels" + (" would be slower" if slower else "")
    dead = f"dead lines: {size - len(keep)} of {size} channels"
    record(Rewrite(source, weight, dead, not slower, text))
    return None if slower else _Narrowing(keep, constants)


def _reads(op: Op, value: Value) -> bool:
    return isinstance(op, Contract | Conv) and _operand(op) is value and value not in op.extras


def _weight(op: Op) -> str:
    constant = op.b.op if isinstance(op, Contract) else op.w.op if isinstance(op, Conv) else None
    assert isinstance(constant, Constant)
    return constant.name


def _products(ops: Iterable[Op]) -> list[Contract | Conv]:
    return [op for op in ops if isinstance(op, Contract | Conv)]


def _pays(op: Contract | Conv, reads: bool, size: int, kept: int) -> bool:
    """Whether a contraction that reads or makes fewer channels is predicted to be no slower."""
    if isinstance(op, Conv):
        return True
    (ia, ib, _), sizes = axis_sizes(op.spec, op.a, op.b)
    rows = product(tuple(sizes[letter] for letter in ia if letter not in ib))
    k = product(tuple(sizes[letter] for letter in ib if letter in ia))
    n = product(tuple(sizes[letter] for letter in ib if letter not in ia))
    if not isinstance(k, int) or not isinstance(n, int):
        return False
    narrow = (k // size * kept, n) if reads else (k, n // size * kept)
    return never_slower(prices().product(rows, *narrow), prices().product(rows, k, n))


def _follow(
    value: Value, axis: int, size: int, chain: set[Op], used: dict[Value, list[Op]]
) -> bool:
    """Collect the operations between products and `value`; False if one is no such operation."""
    op = value.op
    if op is None or value.dtype != DType.F32:
        return False
    if op in chain:
        return True
    chain.add(op)
    if isinstance(op, Contract | Conv):
        constant = op.b if isinstance(op, Contract) else op.w
        return _operand(op) is not None and len(used[constant]) == 1 and _made(op, axis) is not None
    if type(op) not in ELEMENTWISE:
        return False
    for operand in op.operands:
        if _computed(operand, axis, size) and not _follow(operand, axis, size, chain, used):
            return False
    return any(_computed(v, axis, size) for v in op.operands)


def _computed(value: Value, axis: int, size: int) -> bool:
    return _varies(value, axis, size) and not isinstance(value.op, Constant | Fill)


def _varies(value: Value, axis: int, size: int) -> bool:
    """Whether an operand has the channels; one that has none is read as it is."""
    return value.rank >= -axis and value.shape[axis] == size


def _made(op: Contract | Conv, axis: int) -> int | None:
    """Axis of the weights that makes this axis of the result, None if they do not alone."""
    if isinstance(op, Conv):
        return op.w.rank - 1 if axis == -1 else None
    inputs, out = op.spec.split("->")
    ia, ib = inputs.split(",")
    letter = out[axis]
    return ib.index(letter) if letter in ib and letter not in ia else None


def _live_rows(op: Op, graph: Graph) -> np.ndarray:
    """Which channels of its operand a product multiplies with something: bool [size]."""
    weights = graph.weights.array(_weight(op))
    axis = _summed(op)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    return np.asarray((weights != 0).any(axis=others))


def _summed(op: Op) -> int:
    """Axis of the weights that is summed."""
    if isinstance(op, Conv):
        return op.w.rank - 2
    assert isinstance(op, Contract)
    inputs, _ = op.spec.split("->")
    ia, ib = inputs.split(",")
    return ib.index(ia[_channel(op)])


def _constant_channels(
    value: Value, axis: int, size: int, graph: Graph
) -> tuple[np.ndarray, np.ndarray]:
    """Channels with one number everywhere: bool [size], and the numbers, f64 [size]."""
    op = value.op
    none = np.zeros(size, bool), np.zeros(size)
    if isinstance(op, Contract | Conv):
        at = _made(op, axis)
        weights = graph.weights.array(_weight(op))
        others = tuple(i for i in range(weights.ndim) if i != at)
        return np.asarray(~(weights != 0).any(axis=others)), np.zeros(size)
    assert op is not None
    known, numbers = [], []
    for operand in op.operands:
        if isinstance(operand.op, Constant | Fill):
            array = _along(operand, axis, size, graph)
            if array is None:
                return none
            known.append(np.ones(size, bool))
            numbers.append(array)
        elif _varies(operand, axis, size):
            mask, values = _constant_channels(operand, axis, size, graph)
            known.append(mask)
            numbers.append(values.astype(operand.dtype.numpy))
        else:
            return none
    zero = np.zeros(size, bool)
    if isinstance(op, Mul):  # whatever the other factor is
        for mask, values in zip(known, numbers, strict=True):
            zero |= mask & (values == 0)
    mask, evaluate = np.logical_and.reduce(known), evaluator()
    if evaluate is None or not mask.any():
        return zero, np.zeros(size)
    made = np.asarray(evaluate(_on_channels(op, numbers), numbers)[0], np.float64)
    mask &= np.isfinite(made)
    return mask | zero, np.where(zero, 0.0, made)


def _on_channels(op: Op, arrays: list[np.ndarray]) -> Op:
    """The same operation on the channels alone, whose sizes are known."""
    types = (TensorType(v.dtype, a.shape) for v, a in zip(op.operands, arrays, strict=True))
    return with_operands(op, dict(zip(op.operands, map(Value, types), strict=True)), {})


def _along(value: Value, axis: int, size: int, graph: Graph) -> np.ndarray | None:
    """A constant that varies along the channels alone, as [size] or [1]."""
    if isinstance(value.op, Fill):
        return np.full(1, value.op.value, value.dtype.numpy)
    assert isinstance(value.op, Constant)
    array = graph.weights.array(value.op.name)
    if array.size == 1:
        return array.reshape(1)
    own = value.rank >= -axis and array.shape[axis] == size == array.size
    return array.reshape(-1) if own else None


def _narrowed(
    value: Value, axis: int, keep: np.ndarray, builder: Builder, made: dict[Value, Value]
) -> Value:
    """The value with some of its channels; `made`: what is narrow already."""
    if value not in made:
        made[value] = _narrow(value, axis, keep, builder, made)
    return made[value]


def _narrow(
    value: Value, axis: int, keep: np.ndarray, builder: Builder, made: dict[Value, Value]
) -> Value:
    op, size = value.op, value.shape[axis]
    if isinstance(op, Fill):
        shape = list(value.shape)
        shape[axis] = len(keep)
        return builder.emit(Fill, value=op.value, type=TensorType(value.dtype, tuple(shape)))
    if isinstance(op, Constant):
        return _taken(value, value.rank + axis, keep, builder)
    assert op is not None
    fields = _fields(op)
    if isinstance(op, Contract | Conv):
        at = _made(op, axis)
        assert at is not None
        name = "b" if isinstance(op, Contract) else "w"
        fields[name] = _taken(fields[name], at, keep, builder)
    else:
        assert isinstance(size, int)
        for name in op.operand_fields:
            operand = fields[name]
            if _varies(operand, axis, size):
                fields[name] = _narrowed(operand, axis, keep, builder, made)
    return builder.emit(type(op), **fields)


def _fields(op: Op) -> dict[str, Any]:
    names: Iterable[str] = (*op.operand_fields, *op.region_fields, *op.attr_fields)
    return {**{name: getattr(op, name) for name in names}, "source": op.source}


def _taken(value: Value, axis: int, keep: np.ndarray, builder: Builder) -> Value:
    array = builder.array(value)
    assert array is not None
    assert isinstance(value.op, Constant)
    return builder.constant(np.take(array, keep, axis), f"{value.op.name}.live")


def _reader(op: Contract | Conv, x: Value, plan: _Narrowing, builder: Builder) -> Value:
    """The product with what is left, and what the constant channels add to all of its rows."""
    fields, axis = _fields(op), _summed(op)
    names = ("a", "b") if isinstance(op, Contract) else ("x", "w")
    weights = builder.array(fields[names[1]])
    assert weights is not None
    fields[names[0]] = x
    fields[names[1]] = _taken(fields[names[1]], axis, plan.keep, builder)
    y = builder.emit(type(op), **fields)
    if not plan.constants.any():
        return y
    wide = np.moveaxis(weights.astype(np.float64), axis, 0)
    added = np.tensordot(plan.constants, wide, 1)
    if isinstance(op, Conv):
        added = added.sum(axis=tuple(range(added.ndim - 1)))
    else:
        inputs, out = op.spec.split("->")
        left = inputs.split(",")[1].replace(inputs.split(",")[0][_channel(op)], "")
        order = [letter for letter in out if letter in left]
        added = added.transpose([left.index(letter) for letter in order])
        sizes = dict(zip(left, np.moveaxis(weights, axis, 0).shape[1:], strict=True))
        added = added.reshape([sizes.get(letter, 1) for letter in out])
    return builder.emit(Add, a=y, b=builder.constant(added.astype(np.float32), "dead"))
