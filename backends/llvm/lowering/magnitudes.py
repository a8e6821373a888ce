"""How large the elements of values can become, whatever a model is fed: which of them f16 can hold.

A normalization bounds its result by its own vectors, a product what it makes of that by the norms
of its weights, and so on from operation to operation: interval arithmetic with Euclidean norms of
rows beside magnitudes. What is fed, or depends on it otherwise, is not bounded. As f16 also loses
what is small, each value has a size that is to be expected of it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import hypot, inf, isfinite, sqrt

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, walk
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import binary, control, leaf, nn, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes

LARGEST, LEAST = 2.0**15, 2.0**-10
"""What f16 holds with room for errors of sums (its greatest number is 65504), and a size of which
the numbers below the least normal one, 6e-5, have steps of no more than its own precision."""


@dataclass(frozen=True)
class Size:
    """Of a value: no element is larger than ``most`` and no row along the last axis longer than
    ``length``; ``usual``: root mean square that elements may have."""

    most: float = inf
    length: float = inf
    usual: float = 0.0


UNKNOWN = Size()


class Magnitudes:
    """Of the values of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[Value, Size] = {}

    def in_f16(self, value: Value) -> bool:
        """Whether f16 holds every element that `value` may ever have, and those to be expected as
        precisely as it can."""
        size = self.size(value)
        return size.most <= LARGEST and size.usual >= LEAST

    def size(self, value: Value) -> Size:
        """What is known of a value that is no constant."""
        if self._bounded and value not in self._known:
            wanted, left = set(), [value]
            while left:
                one = left.pop()
                if one.op is not None and one.op not in wanted and one not in self._known:
                    wanted.add(one.op)
                    left += one.op.operands
            for op in self._graph.ops:
                if op in wanted:
                    self._visit(op)
        return self._known.get(value, UNKNOWN)

    @cached_property
    def _bounded(self) -> bool:
        """Whether anything bounds values."""
        norms = (nn.LayerNorm, nn.RmsNorm)
        return any(isinstance(op, norms) for op in walk(self._graph.ops))

    def _visit(self, op: Op) -> None:
        if isinstance(op, control.Fused):
            for param, value in zip(op.body.params, op.inputs, strict=True):
                self._known[param] = self._size(value)
            for inner in op.body.ops:
                self._visit(inner)
            for made, value in zip(op.body.results, op.results, strict=True):
                self._known[value] = self._size(made)
        elif isinstance(op, Contract):
            self._known[op.out] = self._contract(op)
        elif not isinstance(op, leaf.Constant) and len(op.results) == 1:
            rule = _RULES.get(type(op))
            if rule is not None:
                made = op.results[0]
                sizes = [_along(self._size(v), v, made) for v in op.operands]
                self._known[made] = _within(made, rule(op, sizes))

    def _size(self, value: Value) -> Size:
        if value not in self._known and isinstance(value.op, leaf.Constant):
            self._known[value] = self._constant(value.op)
        return self._known.get(value, UNKNOWN)

    def _array(self, value: Value) -> np.ndarray | None:
        if not isinstance(value.op, leaf.Constant) or not value.dtype.is_float:
            return None
        return np.asarray(self._graph.weights.array(value.op.name))

    def _constant(self, op: leaf.Constant) -> Size:
        array = self._array(op.out)
        if array is None or not array.size:
            return UNKNOWN
        most = float(np.abs(array).max())
        usual = float(np.linalg.norm(array.astype(np.float32))) / sqrt(array.size)
        return _within(op.out, Size(most, inf, usual))

    def _contract(self, op: Contract) -> Size:
        found = self._product(op)
        if op.body is None:
            return found
        self._known[op.body.params[0]] = found
        for param, value in zip(op.body.params[1:], op.extras, strict=True):
            self._known[param] = self._size(value)
        for inner in op.body.ops:
            self._visit(inner)
        return self._size(op.body.results[0])

    def _product(self, op: Contract) -> Size:
        (ia, ib, out), _ = axis_sizes(op.spec, op.a, op.b)
        for (x, ix), (w, iw) in (((op.a, ia), (op.b, ib)), ((op.b, ib), (op.a, ia))):
            size = self._size(x)
            if not isfinite(size.most) or (array := self._array(w)) is None:
                continue
            summed = [c for c in ix if c not in out]
            columns = [c for c in iw if c in out]
            if set(columns) & set(ix) or not array.size:
                return UNKNOWN
            matrix = array.transpose([iw.index(c) for c in (*summed, *columns)])
            matrix = matrix.reshape(-1, int(np.prod(matrix.shape[len(summed) :])))
            whole = float(np.linalg.norm(matrix))
            along = summed == [ix[-1]]
            if along and size.length < 0.999 * sqrt(len(matrix)) * size.most:
                most = size.length * float(np.sqrt(np.einsum("kn,kn->n", matrix, matrix).max()))
            else:
                most = size.most * float(np.abs(matrix).sum(0).max())
            length = size.length * whole if along and columns == [out[-1]] else inf
            usual = size.usual * whole / sqrt(matrix.shape[1])
            return _within(op.out, Size(most, length, usual))
        return UNKNOWN


def _within(value: Value, size: Size) -> Size:
    """With the length that elements of this size permit."""
    last = value.shape[-1] if value.rank else 1
    length = sqrt(last) * size.most if isinstance(last, int) else inf
    return Size(size.most, min(size.length, length), size.usual)


def _along(size: Size, value: Value, made: Value) -> Size:
    """Without a length where rows are not as long as those of what is made."""
    same = value.rank > 0 and made.rank > 0 and value.shape[-1] == made.shape[-1]
    return size if same else replace(size, length=inf)


Rule = Callable[[Op, Sequence[Size]], Size]


def _norm(op: Op, sizes: Sequence[Size]) -> Size:
    """Before scale and bias, squares of a row of n add up to n at most."""
    assert isinstance(op, nn.LayerNorm | nn.RmsNorm)
    row = product(op.x.shape[op.axis :])
    if not isinstance(row, int) or op.axis != op.x.rank - 1:
        return UNKNOWN
    bias = op.bias if isinstance(op, nn.LayerNorm) else None
    left = list(sizes[1:])
    scale = left.pop(0) if op.scale is not None else Size(1.0, sqrt(row), 1.0)
    shift = left.pop(0) if bias is not None else Size(0.0, 0.0, 0.0)
    length = sqrt(row) * scale.most
    return Size(length + shift.most, length + shift.length, hypot(scale.usual, shift.usual))


def _sum(_op: Op, sizes: Sequence[Size]) -> Size:
    a, b = sizes
    return Size(a.most + b.most, a.length + b.length, hypot(a.usual, b.usual))


def _times(_op: Op, sizes: Sequence[Size]) -> Size:
    a, b = sizes
    if not (isfinite(a.most) and isfinite(b.most)):
        return UNKNOWN
    return Size(a.most * b.most, inf, a.usual * b.usual)


def _as_it_is(_op: Op, sizes: Sequence[Size]) -> Size:
    return sizes[0]


def _damped(_op: Op, sizes: Sequence[Size]) -> Size:
    """No element grows; half of them vanish."""
    return Size(sizes[0].most, sizes[0].length, sizes[0].usual / 2)


def _elements(_op: Op, sizes: Sequence[Size]) -> Size:
    return Size(sizes[0].most, inf, sizes[0].usual)


def _one(_op: Op, _sizes: Sequence[Size]) -> Size:
    return Size(1.0, inf, 0.5)


def _greater(_op: Op, sizes: Sequence[Size]) -> Size:
    a, b = sizes[-2:]
    return Size(max(a.most, b.most), inf, min(a.usual, b.usual))


def _turned(_op: Op, sizes: Sequence[Size]) -> Size:
    x, cos, sin = sizes
    both = cos.most + sin.most
    return Size(x.most * both, inf, x.usual) if isfinite(both) and isfinite(x.most) else UNKNOWN


def _averaged(op: Op, sizes: Sequence[Size]) -> Size:
    """Rows of V, with weights that add up to 1."""
    return Size(sizes[2].most, inf, sizes[2].usual / 4)


_RULES: dict[type[Op], Rule] = {
    nn.LayerNorm: _norm,
    nn.RmsNorm: _norm,
    nn.Attention: _averaged,
    nn.Rope: _turned,
    binary.Add: _sum,
    binary.Sub: _sum,
    binary.Mul: _times,
    binary.Where: _greater,
    binary.Min: _greater,
    binary.Max: _greater,
    **dict.fromkeys((unary.Neg, unary.Abs), _as_it_is),
    **dict.fromkeys((unary.Relu, unary.Gelu, unary.GeluTanh, unary.Silu), _damped),
    **dict.fromkeys((unary.Sigmoid, unary.Tanh, unary.Erf), _one),
    **dict.fromkeys((shape.Reshape, shape.Transpose, shape.Broadcast, shape.Slice), _elements),
    shape.Gather: _elements,
}
