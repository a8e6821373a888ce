"""The import context: what an operator importer may call.

Dimensions of different names that an operator needs equal are unified: for symbols of input shapes
the import starts again with one substituted (`Unified`), everything else is checked at run time.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from onnx import GraphProto

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.dim_logic import simplified
from tilewright.compiler.frontend.node import Hint, Node
from tilewright.compiler.frontend.shape_values import Opaque, Tracker
from tilewright.compiler.frontend.unify import (
    Bounded,
    Unified,
    cancelled,
    fresh,
    identifier,
    limits,
    lone,
    within,
)
from tilewright.compiler.ir.core import Constraint, Op, Region, Symbol, Value
from tilewright.compiler.ir.dims import Dim, Expr, Sym, bounds, substitute, symbols
from tilewright.compiler.ir.ops.binary import Eq, Le
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.ops.leaf import DimValue, Fill
from tilewright.compiler.ir.ops.shape import Concat, Reshape, Slice
from tilewright.compiler.ir.ops.unary import Cast
from tilewright.compiler.ir.rewrite import Builder
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import WeightStore

if TYPE_CHECKING:
    from tilewright.compiler.frontend.dequantized import Dequantized


class Import:
    """One run of the importer over a model.

    `equal` holds the substitutions found so far; `symbols` and `constraints` become the graph's.
    """

    def __init__(
        self,
        weights: WeightStore,
        symbols: dict[str, Symbol],
        inputs: Sequence[Value],
        equal: Mapping[str, Dim],
    ) -> None:
        self.builder = Builder(weights)
        self.symbols = symbols
        self.equal = dict(equal)
        self.constraints: list[Constraint] = []
        self.node: Node | None = None
        self.dequantized: dict[Value, Dequantized] = {}
        self.inputs = tuple(inputs)
        self.tracker = Tracker(self._weight, self._element_symbol, self.bounds_of)
        self.import_graph: Callable[[GraphProto, Sequence[TensorType]], Region] | None = None
        self.import_inline: Callable[[GraphProto, Sequence[Value]], tuple[Value, ...]] | None = None

    # Emission

    def emit(self, op: type[Op], **fields: Any) -> Value:
        """Append `op(**fields)` and return its only result."""
        return self.builder.emit(op, **fields)

    def emit_multi(self, op: type[Op], **fields: Any) -> tuple[Value, ...]:
        """Append `op(**fields)` and return all results."""
        return self.builder.emit_multi(op, **fields)

    def constant(self, array: np.ndarray, stem: str = "c") -> Value:
        """A constant with the elements of `array`."""
        return self.builder.constant(array, stem)

    def scalar(self, number: float | int | bool, dtype: DType) -> Value:
        """A constant of rank 0."""
        return self.constant(np.array(number).astype(dtype.numpy), "k")

    def fill(self, number: float | int | bool, dtype: DType, shape: Sequence[Dim]) -> Value:
        """A tensor with `number` in every element."""
        return self.emit(Fill, value=number, type=TensorType(dtype, tuple(shape)))

    def cast(self, value: Value, dtype: DType) -> Value:
        """`value` converted to `dtype`; itself when it has that type."""
        return value if value.dtype == dtype else self.emit(Cast, x=value, dtype=dtype)

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """`value` with another shape; itself when it has that shape.

        Sizes that are equal only at run time are checked there.
        """
        want = tuple(shape)
        if value.shape == want:
            return value
        total = TensorType(value.dtype, want).elements
        if value.type.elements != total:
            self.unify(*cancelled(value.type.elements, total), "the number of elements")
            flat = self.emit(Reshape, x=value, shape=(value.type.elements,))
            value = self.relabel(flat, (total,), "the number of elements")
        return self.emit(Reshape, x=value, shape=want)

    # Values known at compile time

    def array(self, value: Value | None) -> np.ndarray | None:
        """The elements of `value` when they are known at compile time (read only), else None."""
        return None if value is None else self.tracker.array(value)

    def ints(self, value: Value | None) -> tuple[int, ...] | None:
        """The elements of an integer tensor known at compile time, flattened; else None."""
        found = self.array(value)
        return None if found is None else tuple(int(x) for x in found.reshape(-1))

    def number(self, value: Value | None) -> Any:
        """The only element of a tensor known at compile time, as a python number; else None."""
        found = self.array(value)
        return None if found is None or found.size != 1 else found.reshape(-1)[0].item()

    def dims_of(self, value: Value | None) -> list[Dim] | None:
        """The elements of a small integer tensor as dimensions, flattened; None if unknown.

        Elements of integer graph inputs become symbols that are read when the run starts.
        """
        return None if value is None else self.tracker.dims(value)

    def differences(self, a: Value, b: Value) -> list[Dim] | None:
        """`a - b` element by element as dimensions, also where both are computed from data."""
        opaque = Opaque(self._weight, self._element_symbol, self._opaque_bounds)
        left, right = opaque.dims(a), opaque.dims(b)
        if left is None or right is None or len(left) != len(right):
            return None
        out = [x - y for x, y in zip(left, right, strict=True)]
        known = all(name in self.symbols for dim in out for name in symbols(dim))
        return out if known else None

    def _opaque_bounds(self, dim: Dim) -> tuple[int | None, int | None]:
        known = {name: (s.low, s.high) for name, s in self.symbols.items()}
        wide = dict.fromkeys(symbols(dim), (-(2**63), 2**63 - 1))
        return bounds(dim, {**wide, **known})

    def dim_value(self, dim: Dim) -> Value:
        """An i64 scalar holding `dim`."""
        if isinstance(dim, int):
            return self.scalar(dim, DType.I64)
        return self.emit(DimValue, size=dim)

    def shape_tensor(self, dims: Sequence[Dim]) -> Value:
        """An i64 tensor of shape [len(dims)] holding `dims`."""
        if all(isinstance(d, int) for d in dims):
            return self.constant(np.array(dims, np.int64).reshape(len(dims)), "shape")
        parts = tuple(self.reshape(self.dim_value(d), (1,)) for d in dims)
        return parts[0] if len(parts) == 1 else self.emit(Concat, parts=parts, axis=0)

    def bounds_of(self, dim: Dim) -> tuple[int | None, int | None]:
        """The least and greatest value that `dim` can have."""
        return bounds(dim, {name: (s.low, s.high) for name, s in self.symbols.items()})

    # Dimensions

    def data_symbol(self, stem: str, bound: Dim | None) -> Expr:
        """A new dimension that an operation computes at run time; it never exceeds `bound`."""
        name = fresh(stem, self.symbols)
        high = None if bound is None else self.bounds_of(bound)[1]
        self.symbols[name] = Symbol(0, high, ("data",), bound)
        return Expr((((Sym(name),), 1),))

    def is_data(self, dim: Dim) -> bool:
        """Whether `dim` depends on a dimension that an operation computes."""
        return any(self.symbols[s].source == ("data",) for s in symbols(dim))

    def constrain(self, left: Dim, right: Dim, message: str) -> None:
        """Check `left == right` when the run starts; `message` is the error."""
        if left == right:
            return
        if isinstance(left, int) and isinstance(right, int):
            self.reject(f"{message}: {left} is not {right}")
        if not any({c.left, c.right} == {left, right} for c in self.constraints):
            self.constraints.append(Constraint(left, right, message))

    def unify(self, a: Dim, b: Dim, what: str) -> Dim:
        """The one dimension that `a` and `b` must be; UserError when they cannot be equal."""
        if a == b:
            return a
        message = f"{self.place()}: {what}: {a} and {b} must be equal"
        if isinstance(a, int) and isinstance(b, int):
            self.reject(f"{what}: {a} and {b} differ")
        for symbol, other in ((lone(b), a), (lone(a), b)):
            if symbol is None or symbol in symbols(other) or self.is_data(other):
                continue
            known = self.symbols[symbol]
            if known.source == ("data",):
                continue
            self._bound(a, b)
            if isinstance(other, int) and not within(other, known):
                self.reject(f"{what}: {symbol} is outside its bounds at {other}")
            raise Unified(symbol, other, message)
        self._bound(a, b)
        if not self.is_data(a) and not self.is_data(b):
            self.constrain(a, b, message)
        return a if isinstance(a, int) or not isinstance(b, int) else b

    def _bound(self, a: Dim, b: Dim) -> None:
        """Raise `Bounded` when a and b are equal once a symbol has a smaller bound.

        `min(seq, 512)` (a slice of a table) and `seq` are equal for seq <= 512.
        """
        found = {limit for dim in (a, b) for limit in limits(dim, self.symbols)}
        known = {name: (s.low, s.high) for name, s in self.symbols.items()}
        for high, symbol in sorted(found, reverse=True):
            low, old = known[symbol]
            if high < low or (old is not None and old <= high):
                continue
            narrower = {**known, symbol: (low, high)}
            within_these = partial(bounds, known=narrower)
            left, right = simplified(a, within_these), simplified(b, within_these)
            if left == right:
                raise Bounded(symbol, high)

    def relabel(self, value: Value, shape: Sequence[Dim], what: str) -> Value:
        """`value` with dimensions that are equal at run time written as `shape`; checked there."""
        want = tuple(shape)
        if value.shape == want:
            return value
        if value.rank != len(want):
            found = f"{value.type} and {len(want)} dimensions"
            self.reject(f"{what}: the ranks differ", found)
        for have, new in zip(value.shape, want, strict=True):
            one = self.unify(have, new, what)
            if self.is_data(have) or self.is_data(new):
                same = self.emit(Eq, a=self.dim_value(have), b=self.dim_value(new))
                message = f"{self.place()}: {what}: {have} and {new} differ"
                value = self.emit(Guard, x=value, condition=same, message=message)
            assert one in (have, new)
        rank = len(want)
        return self.emit(Slice, x=value, starts=(0,) * rank, steps=(1,) * rank, shape=want)

    def at_most(self, value: Value, dim: Dim, limit: Dim, what: str) -> Value:
        """`value`, after a run-time check that `dim <= limit`."""
        low = self.bounds_of(limit - dim)[0]
        if low is not None and low >= 0:
            return value
        fits = self.emit(Le, a=self.dim_value(dim), b=self.dim_value(limit))
        return self.emit(Guard, x=value, condition=fits, message=f"{self.place()}: {what}")

    def broadcast(self, *values: Value) -> tuple[Value, ...]:
        """The values with dimensions unified so that binary operations accept them together."""
        rank = max(v.rank for v in values)
        out: list[Dim] = [1] * rank
        for value in values:
            for i, dim in enumerate(value.shape, start=rank - value.rank):
                if dim != 1:
                    out[i] = dim if out[i] == 1 else self.unify(out[i], dim, "broadcasting")
        fixed = []
        for value in values:
            tail = out[rank - value.rank :]
            want = [1 if d == 1 else o for d, o in zip(value.shape, tail, strict=True)]
            fixed.append(self.relabel(value, want, "broadcasting"))
        return tuple(fixed)

    def broadcast_shape(self, *shapes: Sequence[Dim]) -> tuple[Dim, ...]:
        """The numpy broadcast of shapes, unifying symbolic dimensions."""
        rank = max(map(len, shapes))
        out: list[Dim] = [1] * rank
        for shape in shapes:
            for i, dim in enumerate(shape, start=rank - len(shape)):
                if dim != 1:
                    out[i] = dim if out[i] == 1 else self.unify(out[i], dim, "broadcasting")
        return tuple(out)

    def declared(self, shape: Sequence[Dim], hint: Hint | None) -> tuple[Dim, ...]:
        """`shape` with dimensions that depend on run-time values replaced by declared numbers.

        Each replacement is checked when the run starts.
        """
        if hint is None or hint.dims is None or len(hint.dims) != len(tuple(shape)):
            return tuple(shape)
        out: list[Dim] = []
        for dim, want in zip(shape, hint.dims, strict=True):
            given = any(self.symbols[s].source[0] == "value" for s in symbols(dim))
            if isinstance(want, int) and given and not self.is_data(dim):
                self.constrain(dim, want, f"{self.place()}: the declared output size is {want}")
                out.append(want)
            else:
                out.append(dim)
        return tuple(out)

    # Subgraphs

    def region(self, graph: GraphProto, params: Sequence[TensorType] = ()) -> Region:
        """`graph` as a region; it may use the values of the graphs around it."""
        assert self.import_graph is not None
        return self.import_graph(graph, params)

    def inline(self, graph: GraphProto, arguments: Sequence[Value] = ()) -> tuple[Value, ...]:
        """The operations of `graph` emitted here with its inputs bound; returns its outputs."""
        assert self.import_inline is not None
        return self.import_inline(graph, arguments)

    # Errors

    def place(self) -> str:
        """The node being imported, for messages."""
        return self.node.where if self.node is not None else "model"

    def reject(self, message: str, found: str = "", hint: str = "") -> NoReturn:
        """Refuse the node being imported."""
        raise UserError(self.place(), message, found, hint)

    def fail(self, node: Node, message: str, found: str = "", hint: str = "") -> NoReturn:
        """Refuse `node` with a message that names it."""
        raise UserError(node.where, message, found, hint)

    # Callbacks of the tracker

    def _weight(self, name: str) -> np.ndarray:
        builder = self.builder
        return (builder.added[name] if name in builder.added else builder.weights[name]).load()

    def _element_symbol(self, value: Value, element: int) -> Dim | None:
        for index, found in enumerate(self.inputs):
            if found is value:
                source = ("value", index, element)
                name = next((n for n, s in self.symbols.items() if s.source == source), None)
                if name is None:
                    stem = f"{identifier(value.name)}_at_{element}"
                    name = fresh(stem, self.symbols)
                    self.symbols[name] = Symbol(-(2**63), 2**63 - 1, source)
                dim: Dim = Expr((((Sym(name),), 1),))
                return substitute(dim, self.equal)
        return None
