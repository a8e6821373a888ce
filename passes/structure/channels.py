"""Hidden channels: those of a value that only elementwise operations lead to, from the products
that make it, and that only products read. They can be fewer without anything else knowing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops.contraction import Contract, Conv, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.passes.op_sets import ELEMENTWISE
from tilewright.passes.prices import Times, prices
from tilewright.passes.remove_dead_code import remove_dead_code


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of one value.

    axis: theirs, from the end. size: how many. readers: the products that sum over them. chain: all
    operations that have them, from the products that make them on.
    """

    value: Value
    axis: int
    size: int
    readers: tuple[Contract | Conv, ...]
    chain: frozenset[Op]

    @property
    def source(self) -> str:
        """ONNX nodes of the readers."""
        return ", ".join(dict.fromkeys(op.source for op in self.readers if op.source))

    @property
    def weight(self) -> str:
        """Name of the first reader's weights."""
        return weight_of(self.readers[0])

    @property
    def products(self) -> tuple[Contract | Conv, ...]:
        """Those that read the channels, and those that make them."""
        made = (op for op in self.chain if isinstance(op, Contract | Conv))
        return (*self.readers, *made)

    def times(self, op: Contract | Conv, kept: int) -> Times:
        """What one of the products takes where so many channels are kept."""
        return narrow_times(op, op in self.readers, self.size, kept)

    def times_of(self, op: Contract, w: np.ndarray) -> Times:
        """What one of the products takes with weights [K, N], by kernels that know their zeros."""
        return prices().as_it_is(_rows(op)[0], w, halves=False)


def narrow_times(op: Contract | Conv, reads: bool, size: int, kept: int) -> Times:
    """What a product takes that reads, or makes, `kept` of `size` channels; a convolution is
    counted as the product of what its output pixels see."""
    rows: Dim
    if isinstance(op, Conv):
        rows, k, n = product(op.out.shape[:-1]), product(op.w.shape[:-1]), op.w.shape[-1]
    else:
        rows, k, n = _rows(op)
    assert isinstance(k, int)
    assert isinstance(n, int)
    narrow = (k // size * kept, n) if reads else (k, n // size * kept)
    return prices().product(rows, *narrow)


def _rows(op: Contract) -> tuple[Dim, Dim, Dim]:
    """Rows, summed elements and columns of a product."""
    (ia, ib, _), sizes = axis_sizes(op.spec, op.a, op.b)
    rows = product(tuple(sizes[letter] for letter in ia if letter not in ib))
    k = product(tuple(sizes[letter] for letter in ib if letter in ia))
    return rows, k, product(tuple(sizes[letter] for letter in ib if letter not in ia))


def hidden_channels(graph: Graph) -> list[Channels]:
    """Those of every value that has some, in order of execution."""
    used, outputs = users(graph.ops), set(graph.outputs)
    found: dict[Value, Channels | None] = {}
    for op in graph.ops:
        value = operand(op) if isinstance(op, Contract | Conv) else None
        if value is not None and value not in found:
            found[value] = _channels(value, graph, used, outputs)
    return [made for made in found.values() if made is not None]


def _channels(
    value: Value, graph: Graph, used: dict[Value, list[Op]], outputs: set[Value]
) -> Channels | None:
    readers = [op for op in used[value] if isinstance(op, Contract | Conv)]
    if value in outputs or len(readers) != len(used[value]):
        return None
    if any(operand(op) is not value or value in op.extras for op in readers):
        return None
    axes = {channel_axis(op) for op in readers}
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
    made = Channels(value, axis, size, tuple(readers), frozenset(chain))
    if any(graph.weights[weight_of(op)].coded is not None for op in made.products):
        return None
    return made if all(_sized(op) for op in made.products) else None


def operand(op: Contract | Conv) -> Value | None:
    """The computed operand of a product with f32 constants."""
    if op.body is not None or op.out.dtype != DType.F32:
        return None
    if isinstance(op, Conv):
        return op.x if isinstance(op.w.op, Constant) and op.groups == 1 else None
    return op.a if isinstance(op.b.op, Constant) else None


def weight_of(op: Op) -> str:
    """Name of a product's weights."""
    constant = op.b.op if isinstance(op, Contract) else op.w.op if isinstance(op, Conv) else None
    assert isinstance(constant, Constant)
    return constant.name


def _sized(op: Contract | Conv) -> bool:
    constant = op.b if isinstance(op, Contract) else op.w
    return all(isinstance(size, int) for size in constant.shape)


def channel_axis(op: Contract | Conv) -> int:
    """Axis of the operand, from the end, that a product sums over; 0 if that is not one axis."""
    if isinstance(op, Conv):
        return -1
    (ia, ib, out), _ = axis_sizes(op.spec, op.a, op.b)
    summed = [letter for letter in ia if letter in ib and letter not in out]
    return ia.index(summed[0]) - len(ia) if len(summed) == 1 else 0


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
        return (
            operand(op) is not None and len(used[constant]) == 1 and made_by(op, axis) is not None
        )
    if type(op) not in ELEMENTWISE:
        return False
    for x in op.operands:
        if _computed(x, axis, size) and not _follow(x, axis, size, chain, used):
            return False
    return any(_computed(v, axis, size) for v in op.operands)


def _computed(value: Value, axis: int, size: int) -> bool:
    return varies(value, axis, size) and not isinstance(value.op, Constant | Fill)


def varies(value: Value, axis: int, size: int) -> bool:
    """Whether an operand has the channels; one that has none is read as it is."""
    return value.rank >= -axis and value.shape[axis] == size


def made_by(op: Contract | Conv, axis: int) -> int | None:
    """Axis of the weights that makes this axis of the result, None if they do not alone."""
    if isinstance(op, Conv):
        return op.w.rank - 1 if axis == -1 else None
    inputs, out = op.spec.split("->")
    ia, ib = inputs.split(",")
    letter = out[axis]
    return ib.index(letter) if letter in ib and letter not in ia else None


def summed(op: Op) -> int:
    """Axis of the weights that is summed."""
    if isinstance(op, Conv):
        return op.w.rank - 2
    assert isinstance(op, Contract)
    inputs, _ = op.spec.split("->")
    ia, ib = inputs.split(",")
    return ib.index(ia[channel_axis(op)])


def in_result(op: Contract, added: np.ndarray, axis: int) -> np.ndarray:
    """What is added to all rows, axes of the weights but the summed one, as the result has them."""
    inputs, out = op.spec.split("->")
    ib = inputs.split(",")[1]
    left = ib[:axis] + ib[axis + 1 :]
    order = [letter for letter in out if letter in left]
    sizes = dict(zip(left, added.shape, strict=True))
    added = added.transpose([left.index(letter) for letter in order])
    return added.reshape([sizes.get(letter, 1) for letter in out])


Read = Callable[[Contract | Conv, Value, Builder], Value]
"""Emits a reader, whose operands are of the new graph, with fewer channels of its operand."""


def narrowed(graph: Graph, plans: Mapping[Channels, tuple[np.ndarray, Read]]) -> Graph:
    """`graph` with some of the channels alone, by number, and readers of these."""
    made: dict[Value, Value] = {}
    by_reader = {op: channels for channels in plans for op in channels.readers}

    def rule(op: Op, builder: Builder) -> Replacement:
        original = builder.original
        channels = by_reader.get(original) if isinstance(original, Contract | Conv) else None
        if channels is None or not isinstance(op, Contract | Conv):
            return None
        keep, read = plans[channels]
        if channels.value not in made:
            current = operand(op)
            assert current is not None
            made[channels.value] = _narrowed(current, channels.axis, keep, builder, {})
        return (read(op, made[channels.value], builder),)

    return remove_dead_code(rewrite(graph, rule))


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
        return taken(value, value.rank + axis, keep, builder)
    assert op is not None
    fields = fields_of(op)
    if isinstance(op, Contract | Conv):
        at = made_by(op, axis)
        assert at is not None
        name = "b" if isinstance(op, Contract) else "w"
        fields[name] = taken(fields[name], at, keep, builder)
    else:
        assert isinstance(size, int)
        for name in op.operand_fields:
            x = fields[name]
            if varies(x, axis, size):
                fields[name] = _narrowed(x, axis, keep, builder, made)
    return builder.emit(type(op), **fields)


def fields_of(op: Op) -> dict[str, Any]:
    """What makes the same operation."""
    names: Iterable[str] = (*op.operand_fields, *op.region_fields, *op.attr_fields)
    return {**{name: getattr(op, name) for name in names}, "source": op.source}


def taken(value: Value, axis: int, keep: np.ndarray, builder: Builder) -> Value:
    """A constant with some of its elements along an axis."""
    array = builder.array(value)
    assert array is not None
    assert isinstance(value.op, Constant)
    return builder.constant(np.take(array, keep, axis), f"{value.op.name}.live")
