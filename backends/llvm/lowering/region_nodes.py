"""IR operations as region nodes: elementwise bodies, movements folded into loads, reductions.

A value is evaluated *through an access*: for each of its axes the position as an affine function of
the loop indices of the region's domain. Transposes, slices and broadcasts only change the access,
so they cost nothing; a value reached through two accesses is computed for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.backends.llvm.emit.convert import DTYPES
from tilewright.backends.llvm.lowering.elementwise_names import NAMES
from tilewright.backends.llvm.lowering.packed import (
    OUT_OF_RANGE,
    PANEL,
    PackedRows,
    packed_rows,
)
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Place
from tilewright.backends.llvm.region import dims as region_dims
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Gather,
    Iota,
    Load,
    Node,
    Op,
    Piece,
)
from tilewright.compiler.ir import core
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Atom, Dim, Expr, as_int
from tilewright.compiler.ir.ops import leaf, shape, unary
from tilewright.compiler.ir.types import DType


class Unsuitable(Exception):
    """The operation does not fit one region; the caller takes another way."""


@dataclass(frozen=True)
class Index:
    """A position: `offset + sum over domain axes of steps[axis] * loop index`."""

    steps: tuple[int, ...]
    offset: Dim = 0

    @property
    def constant(self) -> bool:
        return not any(self.steps)


Access = tuple[Index, ...]


def identity(rank: int) -> Access:
    """The access of a value whose axes are the domain's."""
    return tuple(Index(tuple(int(a == b) for b in range(rank))) for a in range(rank))


class Parameters:
    """Symbolic dimensions of a region: every atom (symbol or function) becomes one parameter."""

    def __init__(self) -> None:
        self.atoms: dict[Atom, int] = {}

    def __call__(self, dim: Dim) -> region_dims.Dim:
        if isinstance(dim, int):
            return dim
        total: region_dims.Dim = 0
        for atoms, coefficient in dim.terms:
            term: region_dims.Dim = 1
            for atom in atoms:
                index = self.atoms.setdefault(atom, len(self.atoms))
                term = region_dims.mul(term, region_dims.param(index))
            total = region_dims.add(total, region_dims.mul(coefficient, term))
        return total

    @property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(Expr((((atom,), 1),)) for atom in self.atoms)


class Nodes:
    """Builds the body of one region over `domain`, reducing over the axes `reduced`."""

    def __init__(
        self,
        low: Lowering,
        bound: Mapping[Value, Value],
        domain: Sequence[Dim],
        reduced: tuple[int, ...],
    ) -> None:
        self.low, self.bound = low, dict(bound)
        self.domain, self.reduced = tuple(domain), reduced
        self.params = Parameters()
        self.body: list[Node] = []
        self.inputs: list[str] = []
        self.places: list[Place] = []
        self.sources: dict[tuple[Place, str], int] = {}
        self.loads: dict[int, list[tuple[Load, View]]] = {}
        self.known: dict[tuple[object, ...], int] = {}
        self.error = "a kernel failed"
        self.size = 0

    # Nodes ---------------------------------------------------------------------------------

    def add(self, node: Node) -> int:
        """The position of `node`, equal nodes once."""
        key = ("node", node)
        if key not in self.known:
            self.known[key] = len(self.body)
            self.body.append(node)
        return self.known[key]

    def op(self, name: str, args: Sequence[int], dtype: str) -> int:
        return self.add(Op(name, tuple(args), dtype))

    def number(self, value: float | int, dtype: str) -> int:
        return self.add(Const(value, dtype))

    def load(self, view: View, access: Access, gathers: tuple[Gather, ...] = ()) -> int:
        """A load of `view` at `access`."""
        dtype = str(view.dtype)
        if dtype not in DTYPES:
            raise Unsuitable(f"regions have no {dtype}")
        steps: list[Dim] = [0] * len(self.domain)
        offset = view.offset
        for index, stride, size in zip(access, view.strides, view.shape, strict=True):
            if size == 1:
                continue  # the only position is 0, whatever the index says outside its piece
            offset = offset + index.offset * stride
            for axis, step in enumerate(index.steps):
                if step:
                    steps[axis] = steps[axis] + step * stride
        key = (view.place, dtype)
        if key not in self.sources:
            self.sources[key] = len(self.inputs)
            self.inputs.append(dtype)
            self.places.append(view.place)
        node = Load(
            self.sources[key],
            tuple(self.params(s) for s in steps),
            self.params(offset),
            gathers,
        )
        self.loads.setdefault(self.sources[key], []).append((node, view))
        return self.add(node)

    def position(self, index: Index) -> int:
        """The i64 node that holds an index."""
        total: int | None = None
        for axis, step in enumerate(index.steps):
            if step:
                term = self.add(Iota(axis))
                if step != 1:
                    term = self.op("mul", (term, self.number(step, "i64")), "i64")
                total = term if total is None else self.op("add", (total, term), "i64")
        if total is None:
            return self.add(DimValue(self.params(index.offset)))
        if index.offset == 0:
            return total
        shift = self.add(DimValue(self.params(index.offset)))
        return self.op("add", (total, shift), "i64")

    # Values --------------------------------------------------------------------------------

    def value(self, value: Value, access: Access) -> int:
        """The node of `value` at `access`; raises `Unsuitable`."""
        while value in self.bound:
            value = self.bound[value]
        key = (value, access)
        if key in self.known:
            return self.known[key]
        self.size += 1
        if self.size > 4000:
            raise Unsuitable("too many accesses")
        op = value.op
        if op is None or value in self.low.views or isinstance(op, leaf.Constant):
            found = self._leaf(value, access)
        elif type(op) in NAMES:
            args = [self.value(v, self.broadcast(v, value, access)) for v in op.operands]
            found = self.elementwise(op, args, value)
        else:
            method = getattr(self, f"_{type(op).__name__.lower()}", None)
            if method is None:
                raise Unsuitable(f"{op.opname} does not fit a region")
            found = method(op, access)
        self.known[key] = found
        return found

    def broadcast(self, operand: Value, result: Value, access: Access) -> Access:
        """The access of an operand of an elementwise operation."""
        lead = result.rank - operand.rank
        zero = Index((0,) * len(self.domain))
        return tuple(
            zero if size == 1 and result.shape[lead + i] != 1 else access[lead + i]
            for i, size in enumerate(operand.shape)
        )

    def elementwise(self, op: core.Op, args: list[int], result: Value) -> int:
        if isinstance(op, unary.IsInf | unary.Cast):
            return self._special(op, args[0])
        return self.op(NAMES[type(op)], args, str(result.dtype))

    def _special(self, op: unary.IsInf | unary.Cast, x: int) -> int:
        if isinstance(op, unary.Cast):
            if op.dtype.bits == 8 and op.dtype.is_float:
                raise Unsuitable(f"a cast to {op.dtype}, which saturates")
            return self.op("cast", (x,), str(op.dtype))
        assert isinstance(op, unary.IsInf)
        if op.positive and op.negative:
            return self.op("isinf", (x,), "bool")
        if not op.positive and not op.negative:
            return self.number(0, "bool")
        return self.op("isposinf" if op.positive else "isneginf", (x,), "bool")

    def _leaf(self, value: Value, access: Access) -> int:
        array = self.low.array(value)
        if array is not None and array.size == 1 and value.dtype in SCALARS:
            item = np.asarray(array).astype(SCALARS[value.dtype]).reshape(-1)[0].item()
            return self.number(int(item) if value.dtype == DType.BOOL else item, str(value.dtype))
        view = self.low.seen(value)
        node = self.load(view, access)
        return node if view.dtype == value.dtype else self.op("cast", (node,), str(value.dtype))

    def _fill(self, op: leaf.Fill, access: Access) -> int:
        dtype = op.type.dtype
        number = float(op.value) if dtype.is_float else int(op.value)
        return self.number(number, str(dtype))

    def _dimvalue(self, op: leaf.DimValue, access: Access) -> int:
        return self.add(DimValue(self.params(op.size)))

    def _iota(self, op: leaf.Iota, access: Access) -> int:
        place = self.position(access[0])
        return place if op.dtype == DType.I64 else self.op("cast", (place,), str(op.dtype))

    def _transpose(self, op: shape.Transpose, access: Access) -> int:
        inner: list[Index] = [access[0]] * op.x.rank
        for axis, p in enumerate(op.perm):
            inner[p] = access[axis]
        return self.value(op.x, tuple(inner))

    def _broadcast(self, op: shape.Broadcast, access: Access) -> int:
        return self.value(op.x, self.broadcast(op.x, op.out, access))

    def _slice(self, op: shape.Slice, access: Access) -> int:
        inner = tuple(
            Index(tuple(s * step for s in index.steps), start + index.offset * step)
            for index, start, step in zip(access, op.starts, op.steps, strict=True)
        )
        return self.value(op.x, inner)

    def _reshape(self, op: shape.Reshape, access: Access) -> int:
        zero = Index((0,) * len(self.domain))
        before = [d for d in op.x.shape if d != 1]
        after = [(d, i) for d, i in zip(op.shape, access, strict=True) if d != 1]
        if before == [d for d, _ in after]:
            rest = iter([i for _, i in after])
            return self.value(op.x, tuple(zero if d == 1 else next(rest) for d in op.x.shape))
        source = op.x
        while source in self.bound:
            source = self.bound[source]
        if source.op is None or source in self.low.views or isinstance(source.op, leaf.Constant):
            view = self.low.view(source).reshape(op.shape)
            if view is not None:
                return self.load(view, access)
        raise Unsuitable("a reshape inside the region mixes axes")

    def _concat(self, op: shape.Concat, access: Access) -> int:
        along = access[op.axis]
        axis = [a for a, s in enumerate(along.steps) if s]
        if len(axis) != 1 or along.steps[axis[0]] != 1:
            raise Unsuitable("a concat along a mixed axis")
        starts: list[Dim] = []
        args: list[int] = []
        at: Dim = 0
        for part in op.parts:
            if args:
                starts.append(at - along.offset)
            moved = Index(along.steps, along.offset - at)
            args.append(self.value(part, (*access[: op.axis], moved, *access[op.axis + 1 :])))
            at = at + part.shape[op.axis]
        return self.add(Piece(axis[0], tuple(self.params(s) for s in starts), tuple(args)))

    def _gather(self, op: shape.Gather, access: Access) -> int:
        count = op.indices.rank
        index = self.value(op.indices, access[op.axis : op.axis + count])
        source = op.x
        while source in self.bound:
            source = self.bound[source]
        if not (
            source.op is None or source in self.low.views or isinstance(source.op, leaf.Constant)
        ):
            raise Unsuitable("a gather of a computed value")
        zero = Index((0,) * len(self.domain))
        rows = packed_rows(self.low, source) if op.axis == 0 else None
        if rows is not None:
            self.error = OUT_OF_RANGE
            last = access[count]
            gathers = self._row(rows, index, str(op.indices.dtype))
            return self.load(rows.view, (zero, zero, last), gathers)
        view = self.low.view(source)
        rest = (*access[: op.axis], zero, *access[op.axis + count :])
        self.error = OUT_OF_RANGE
        extent, stride = self.params(view.shape[op.axis]), self.params(view.strides[op.axis])
        return self.load(view, rest, (Gather(index, stride, extent, 1),))

    def _row(self, rows: PackedRows, index: int, dtype: str) -> tuple[Gather, ...]:
        """The panel and lane of a row; a row that does not exist gives a panel that does not."""
        zero, size = self.number(0, dtype), self.number(rows.rows, dtype)
        wrapped = self.op("add", (index, size), dtype)
        negative = self.op("lt", (index, zero), "bool")
        row = self.op("where", (negative, wrapped, index), dtype)
        below = self.op("lt", (row, zero), "bool")
        outside = self.op("or", (below, self.op("ge", (row, size), "bool")), "bool")
        panels, stride = as_int(rows.view.shape[0]), rows.view.strides[0]
        panel = self.op("shr", (row, self.number(5, dtype)), dtype)
        panel = self.op("where", (outside, self.number(panels, dtype), panel), dtype)
        lane = self.op("and", (row, self.number(PANEL - 1, dtype)), dtype)
        return (Gather(panel, self.params(stride), panels, 1), Gather(lane, 1, PANEL))


SCALARS = {
    DType.F64: np.float64, DType.F32: np.float32, DType.F16: np.float32, DType.BF16: np.float32,
    DType.I64: np.int64, DType.I32: np.int64, DType.I16: np.int64, DType.I8: np.int64,
    DType.U64: np.uint64, DType.U32: np.uint64, DType.U16: np.uint64, DType.U8: np.uint64,
    DType.BOOL: np.int64,
}  # fmt: skip
"""Types whose scalars go into a region as numbers, and the numpy type that holds them exactly."""
