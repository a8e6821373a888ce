"""Products with constant weights are checked against checksums of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import ascii_letters

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, walk
from tilewright.compiler.ir.dims import Shape
from tilewright.compiler.ir.ops.binary import Add, Eq, Le, Lt, Mul, Where
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.reduce import Reduce
from tilewright.compiler.ir.ops.shape import Reshape, Transpose
from tilewright.compiler.ir.ops.unary import Abs, Cast
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType
from tilewright.passes.checksums import Rounded, digits, exact, rounded, width
from tilewright.passes.registry import graph_pass

CORRUPTED = "its product is not what its checksum says: a weight or a result is corrupted in memory"
MESSAGE = (
    "node {!r}: " + CORRUPTED + "; try: load the artifact again;"
    " if this comes back, test this machine's memory and processor"
)
"""What a run fails with; what follows `; try: ` is the advice."""


FEW = 16
"""Columns of checksums that are multiplied row by row: half of a panel of f32_matmul."""


@graph_pass
def check_products(graph: Graph) -> Graph:
    """Compare sums of the columns of every product with what sums of the weights' columns give.

        %1 = contract %x, %w  ->   %1 = contract %x, %w
                                   %2 = contract %x, %sums          sums[k] = -sum_n w[k, n]
                                   guard all(|sum_n %1 + %2| <= bound)

    (The sign tells the checksum of one column from the column, so that these are never shared.)

    Huang and Abraham, Algorithm-based fault tolerance for matrix operations (1984). Integers must
    be equal: their sums wrap alike, so that there are no false alarms, and whatever changes a sum
    is seen. Floats may differ by what rounding can do at worst (`checksums`), by blocks of columns;
    rows of x that are not finite, or so large that sums may overflow, cannot be checked and pass.

    Measured on one core of a Sapphire Rapids virtual machine, interleaved, MiniLM of 128 tokens:
    f32 11.95 -> 13.83 ms (1.16), of which sums and products with sums are 1.0, activations out of
    epilogues 0.6; 8-bit products 3.87 -> 4.83 ms (1.25). A step of codelm 1.45 -> 1.57 ms (1.09).

    Requires: nothing.
    Ensures: products that are checked have no epilogue, so that what is checked lies in memory;
        codes do not let kernels round what they are multiplied by.
    Leaves alone: products without weights; grouped convolutions; f16 and bf16; those checked
        already; weights without elements.
    """
    done = _checked(graph)
    coarse = {v.dtype for v in graph.outputs if v.dtype.is_float} == {DType.F16}

    def rule(op: Op, builder: Builder) -> Replacement:
        found = None
        if (builder.original or op) in done:
            return None
        if isinstance(op, Contract):
            found = _contract(op, builder, coarse)
        elif isinstance(op, Conv):
            found = _conv(op, builder, coarse)
        return None if found is None else (found,)

    return rewrite(graph, rule)


def _checked(graph: Graph) -> set[Op]:
    """The products that checks are computed from."""
    found: set[Op] = set()
    guards = (op for op in walk(graph.ops) if isinstance(op, Guard))
    pending = [op.condition for op in guards if CORRUPTED in op.message]
    while pending:
        op = pending.pop().op
        if op is None or op in found:
            continue
        found.add(op)
        if not isinstance(op, Contract | Conv):
            pending.extend(op.operands)
    return found


@dataclass(frozen=True, eq=False)
class _Product:
    """A contraction of x with weights: letters of the axes of both and of the result."""

    op: Contract
    builder: Builder
    x: Value
    weights: Value
    ix: str
    iw: str
    out: str
    swapped: bool

    @property
    def free(self) -> str:
        """Axes of the result that come from the weights alone: the columns."""
        return "".join(c for c in self.out if c in self.iw and c not in self.ix)

    def emit(self, weights: Value, iw: str, out: str) -> Value:
        """The product with other weights."""
        a, b = (weights, self.x) if self.swapped else (self.x, weights)
        inputs = f"{iw},{self.ix}" if self.swapped else f"{self.ix},{iw}"
        return self.builder.emit(Contract, a=a, b=b, spec=f"{inputs}->{out}")

    def with_sums(self, sums: np.ndarray, iw: str, out: str) -> Value:
        """The product with sums of the weights: row by row where there are few columns, which
        kernels of products would pad to their panels."""
        rows = self.ix[:-1]
        last = out.removeprefix(rows)
        plain = out == rows + last and set(iw) == {self.ix[-1], *last} and len(last) <= 1
        if not plain or sums.size > FEW * sums.shape[iw.index(self.ix[-1])]:
            return self.emit(self.builder.constant(sums, "checksums"), iw, out)
        lines = sums if iw[-1] == self.ix[-1] else sums.T
        shape = (*self.x.shape[:-1], *(1 for _ in last), self.x.shape[-1])
        x = self.builder.emit(Reshape, x=self.x, shape=shape)
        if x.dtype.numpy != sums.dtype:
            x = self.builder.emit(Cast, x=x, dtype=DType.I32)
        terms = self.builder.emit(Mul, a=x, b=self.builder.constant(lines, "checksums"))
        return _sum(terms, (terms.rank - 1,), self.builder)

    def magnitudes(self, result: str) -> Value:
        """Sums of |x| over what the product sums over, with axes for ``result``."""
        lost = tuple(i for i, c in enumerate(self.ix) if c not in self.out)
        wide = self.builder.emit(Abs, x=self.x)
        size = self.builder.emit(Reduce, x=wide, kind="sum", axes=lost, keepdims=False)
        rows = [c for c in self.ix if c in self.out]
        order = [c for c in result if c in rows]
        if order != rows:
            size = self.builder.emit(Transpose, x=size, perm=tuple(map(rows.index, order)))
        sizes = dict(zip(order, size.shape, strict=True))
        shape = tuple(sizes.get(c, 1) for c in result)
        return self.builder.emit(Reshape, x=size, shape=shape)


def _contract(op: Contract, builder: Builder, coarse: bool) -> Value | None:
    inputs, out = op.spec.split("->")
    ia, ib = inputs.split(",")
    if isinstance(op.b.op, Constant):
        product = _Product(op, builder, op.a, op.b, ia, ib, out, False)
    else:
        product = _Product(op, builder, op.b, op.a, ib, ia, out, True)
    array = builder.array(product.weights)
    if array is None or op.body is not None or not product.free or not array.size:
        return None
    if product.weights.dtype.is_float:
        return _floats(product, array, coarse)
    kept, result = (_without(s, product.free) for s in (product.iw, out))
    axes = tuple(out.index(c) for c in product.free)
    sums = -exact(array, tuple(product.iw.index(c) for c in product.free))
    made = product.emit(product.weights, product.iw, out)
    if made.dtype == product.weights.dtype:
        other = product.with_sums(sums.astype(array.dtype), kept, result)
    elif result == product.ix[:-1] and kept == product.ix[-1]:
        other = product.with_sums(sums.astype(np.int32), kept, result)
    else:
        parts = np.stack(digits(sums), -1)
        spare = next(c for c in ascii_letters if c not in op.spec)
        constant = builder.constant(parts, "checksums")
        other = _joined(product.emit(constant, kept + spare, result + spare), builder)
    _require_zero(_sum(made, axes, builder), other, builder)
    return made


def _floats(product: _Product, array: np.ndarray, coarse: bool) -> Value | None:
    builder, iw, out, free = product.builder, product.iw, product.out, product.free
    if array.dtype not in (np.float32, np.float64):
        return None
    made = product.emit(_as_written(product.weights, builder), iw, out)
    columns = tuple(iw.index(c) for c in free)
    axes = tuple(out.index(c) for c in free)
    summed = tuple(i for i, c in enumerate(iw) if c in product.ix and c not in out)
    if free == out[-1]:  # blocks of columns show smaller errors
        block = width(array.shape[columns[0]])
        array = _split(array, columns[0], block)
        summed = tuple(i + (i > columns[0]) for i in summed)
        columns, kept, result = (columns[0] + 1,), iw, out
        sums = _sum(_parted(made, block, builder), (made.rank,), builder)
    else:
        kept, result = _without(iw, free), _without(out, free)
        sums = _sum(made, axes, builder)
    found = rounded(array, columns, summed, coarse)
    left = [c for c in kept if c in out]

    def placed(by_column: np.ndarray) -> np.ndarray:
        order = [c for c in result if c in left]
        sizes = dict(zip(left, by_column.shape, strict=True))
        moved = by_column.transpose([left.index(c) for c in order])
        return moved.reshape([sizes.get(c, 1) for c in result])

    other = product.with_sums(-found.sums, kept, result)
    size = product.magnitudes(result)
    bound, limit = placed(found.bound), placed(found.limit)
    _require_close(sums, other, size, replace(found, bound=bound, limit=limit), builder)
    return made


def _conv(op: Conv, builder: Builder, coarse: bool) -> Value | None:
    array = builder.array(op.w)
    if array is None or op.body is not None or op.groups != 1 or not array.size:
        return None
    fixed = {name: getattr(op, name) for name in op.attr_fields}
    last = (array.ndim - 1,)

    def times(weights: Value) -> Value:
        return builder.emit(Conv, x=op.x, w=weights, fill=op.fill, **fixed)

    if not op.w.dtype.is_float:
        made = times(op.w)
        parts = np.stack(digits(-exact(array, last)), -1)
        other = _joined(times(builder.constant(parts, "checksums")), builder)
        _require_zero(_sum(made, (made.rank - 1,), builder), other, builder)
        return made
    if array.dtype not in (np.float32, np.float64):
        return None
    made = times(_as_written(op.w, builder))
    block = width(array.shape[-1])
    parted = _split(array, last[0], block)
    found = rounded(parted, (array.ndim,), tuple(range(array.ndim - 1)), coarse, taps=True)
    sums = _sum(_parted(made, block, builder), (made.rank,), builder)
    wide = builder.emit(Abs, x=op.x)
    size = builder.emit(Reduce, x=wide, kind="max", axes=tuple(range(1, op.x.rank)))
    other = times(builder.constant(-found.sums, "checksums"))
    _require_close(sums, other, size, found, builder)
    return made


def _require_zero(sums: Value, other: Value, builder: Builder) -> None:
    zero = builder.constant(np.array(0, sums.dtype.numpy), "zero")
    total = builder.emit(Add, a=other, b=sums)
    _require(builder.emit(Eq, a=total, b=zero), builder)


def _require_close(
    sums: Value, other: Value, size: Value, found: Rounded, builder: Builder
) -> None:
    """Check |sums + other| <= size bound + floor where size is below the limit. A NaN of size is
    not, a NaN of the product alone fails. What reads `other` becomes its epilogue."""
    kind = found.sums.dtype.type
    floor, zero, infinity = (
        builder.constant(np.array(number, kind), name)
        for number, name in ((found.floor, "floor"), (0, "zero"), (np.inf, "infinity"))
    )
    scaled = builder.emit(Mul, a=size, b=builder.constant(found.bound, "bounds"))
    small = builder.emit(Lt, a=size, b=builder.constant(found.limit, "limits"))
    some = builder.emit(Add, a=scaled, b=floor)
    bound = builder.emit(Where, condition=small, a=some, b=infinity)
    difference = builder.emit(Abs, x=builder.emit(Add, a=other, b=sums))
    ignored = builder.emit(Eq, a=bound, b=infinity)
    difference = builder.emit(Where, condition=ignored, a=zero, b=difference)
    _require(builder.emit(Le, a=difference, b=bound), builder)


def _require(condition: Value, builder: Builder) -> None:
    message = MESSAGE.format(builder.source)
    builder.emit(Guard, x=condition, condition=condition, message=message)


def _sum(x: Value, axes: tuple[int, ...], builder: Builder) -> Value:
    return builder.emit(Reduce, x=x, kind="sum", axes=axes, keepdims=False)


def _joined(parts: Value, builder: Builder) -> Value:
    """Numbers whose digits are along the last axis, wrapping."""
    count = parts.shape[-1]
    assert isinstance(count, int)
    powers = np.array([256**i for i in range(count)]).astype(np.int32)
    scaled = builder.emit(Mul, a=parts, b=builder.constant(powers, "powers"))
    return _sum(scaled, (parts.rank - 1,), builder)


def _parted(product: Value, block: int, builder: Builder) -> Value:
    """The last axis in blocks."""
    columns = product.shape[-1]
    assert isinstance(columns, int)
    shape: Shape = (*product.shape[:-1], columns // block, block)
    return builder.emit(Reshape, x=product, shape=shape)


def _split(array: np.ndarray, axis: int, block: int) -> np.ndarray:
    shape = array.shape
    return array.reshape(*shape[:axis], shape[axis] // block, block, *shape[axis + 1 :])


def _without(letters: str, lost: str) -> str:
    return "".join(c for c in letters if c not in lost)


def _as_written(value: Value, builder: Builder) -> Value:
    """The constant; its codes, if it has some, not with activations that kernels round."""
    assert isinstance(value.op, Constant)
    name = value.op.name
    weight = builder.added.get(name) or builder.weights[name]
    if weight.coded is None or weight.coded.level < 2:
        return value
    fresh = builder.weights.fresh(name, builder.added)
    builder.added[fresh] = replace(weight, coded=replace(weight.coded, level=0))
    return builder.emit(Constant, name=fresh, type=weight.type)
