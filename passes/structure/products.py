"""Products with constant weights, and rewriting them where prices say that it is not slower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import Dim, Shape, product
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Gather, Reshape, Transpose
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType
from tilewright.passes.prices import Times, never_slower, prices
from tilewright.passes.remove_dead_code import remove_dead_code
from tilewright.passes.rewrites import Rewrite, record
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Product:
    """Y [rows.., n] = X [rows.., k] W [k, n]: a contraction over one axis of x with a constant that
    has one other axis and no other reader.

    builder: to emit with. matrix: W. halves: whether it has f16 numbers only. order: axes of X, k
    last, in the operand; back: axes of Y in the order of the result; leading: sizes of rows.
    """

    builder: Builder
    op: Contract
    name: str
    matrix: Matrix
    halves: bool
    order: tuple[int, ...]
    back: tuple[int, ...]
    leading: Shape

    @property
    def k(self) -> int:
        """Elements that are summed."""
        return self.matrix.k

    @property
    def n(self) -> int:
        """Columns of the result."""
        return self.matrix.n

    @property
    def rows(self) -> Dim:
        """How many rows X has."""
        return product(self.leading)

    @property
    def x(self) -> Value:
        """X with its summed axis last."""
        return self.transposed(self.op.a, self.order)

    def times(self) -> Times:
        """Of the product as it is."""
        return prices().as_it_is(self.rows, self.matrix.w, self.halves)

    def result(self, y: Value) -> Value:
        """Y [rows.., n] in the order of the contraction's result."""
        return self.transposed(y, self.back)

    def transposed(self, x: Value, perm: tuple[int, ...]) -> Value:
        """x, or a transpose of it."""
        if perm == tuple(range(x.rank)):
            return x
        return self.builder.emit(Transpose, x=x, perm=perm)

    def reshaped(self, x: Value, *last: int) -> Value:
        """x with other axes after the leading ones."""
        shape = (*self.leading, *last)
        return x if x.shape == shape else self.builder.emit(Reshape, x=x, shape=shape)

    def gathered(self, x: Value, indices: np.ndarray) -> Value:
        """Elements of the last axis in another order."""
        if np.array_equal(indices, np.arange(x.shape[-1])):
            return x
        index = self.builder.constant(indices.astype(np.int64), f"{self.name}.order")
        return self.builder.emit(Gather, x=x, indices=index, axis=x.rank - 1)

    def times_constant(self, x: Value, w: np.ndarray, part: str, groups: int = 0) -> Value:
        """x [.., k] times f32 w [k, n]; with `groups`, x [.., g, k] times w [g, k, n]."""
        b = self.builder.constant(w.astype(np.float32), f"{self.name}.{part}")
        letters = "abcdefghij"[: x.rank - 1]
        if groups:
            spec = f"{letters}x,{letters[-1]}xy->{letters}y"
        else:
            spec = f"{letters}x,xy->{letters}y"
        return self.builder.emit(Contract, a=x, b=b, spec=spec)

    def told(self, found: Found, applied: bool, text: str) -> None:
        """Put it on record."""
        words = f"{found.kind}: {found.text}"
        record(Rewrite(self.op.source, self.name, words, applied, text))


@dataclass(frozen=True)
class Plan:
    """A way to compute a product otherwise. made: in a few words. values: numbers it stores."""

    made: str
    times: Times
    values: int
    emit: Callable[[], Value]


Planner = Callable[[Product], tuple[Found, Plan] | None]
"""What a product's weights have, and what could be made of it."""


def rewrite_products(graph: Graph, planner: Planner) -> Graph:
    """Replace products by what `planner` makes of them, where that stores fewer numbers and prices
    say that it is never slower."""
    used = users(graph.ops)

    def rule(op: Op, builder: Builder) -> Replacement:
        made = product_of(op, builder, used)
        planned = None if made is None else planner(made)
        if made is None or planned is None:
            return None
        found, plan = planned
        refused = _refused(made, plan)
        made.told(found, not refused, refused or plan.made)
        return None if refused else (made.result(plan.emit()),)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _refused(made: Product, plan: Plan) -> str:
    """Why a plan is not taken, empty if it is."""
    if plan.values >= made.k * made.n:
        return f"{plan.made} would store {plan.values:,} numbers instead of {made.k * made.n:,}"
    before = made.times()
    if never_slower(plan.times, before):
        return ""
    worst = max(n / o for n, o in zip(plan.times, before, strict=True))
    return f"{plan.made} would take {worst:.2f} times as long"


def product_of(op: Op, builder: Builder, used: dict[Value, list[Op]]) -> Product | None:
    """The product that an operation is; None for other operations, for weights that something else
    reads, and for codes."""
    if not isinstance(op, Contract) or op.body is not None or not isinstance(op.b.op, Constant):
        return None
    original = builder.original
    assert isinstance(original, Contract)
    if op.b.dtype != DType.F32 or len(used[original.b]) != 1:
        return None
    (ia, ib, out), sizes = axis_sizes(op.spec, op.a, op.b)
    summed, columns = set(ia) & set(ib), set(ib) - set(ia)
    if len(ib) != 2 or len(summed) != 1 or len(columns) != 1 or summed & set(out):
        return None
    (s,), (c,) = summed, columns
    k, n = sizes[s], sizes[c]
    if not isinstance(k, int) or not isinstance(n, int) or k < 2 or n < 2:
        return None
    name = op.b.op.name
    weight = builder.added[name] if name in builder.added else builder.weights[name]
    if weight.coded is not None:
        return None
    w = weight.load()
    matrix = Matrix(w if ib == s + c else w.T)
    if not matrix.usable:
        return None
    rows = [letter for letter in ia if letter != s]
    order = tuple(ia.index(letter) for letter in (*rows, s))
    natural = [*rows, c]
    back = tuple(natural.index(letter) for letter in out)
    leading = tuple(sizes[letter] for letter in rows)
    return Product(builder, op, name, matrix, weight.halves, order, back, leading)
