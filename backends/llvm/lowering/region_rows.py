"""Reductions and row operations as region nodes: softmax, normalizations, rotary embedding."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.backends.llvm.lowering.region_nodes import (
    Access,
    Index,
    Nodes,
    Unsuitable,
    identity,
)
from tilewright.backends.llvm.region.spec import DimValue, Piece, Reduce
from tilewright.compiler.ir import core
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops import nn, reduce


class RowNodes(Nodes):
    """Region nodes of operations that reduce over the region's reduced axes."""

    def reduction(self, kind: str, node: int) -> int:
        return self.add(Reduce(kind, node))

    def full(self, axes: Sequence[int], rank: int, access: Access, keepdims: bool) -> Access:
        """The access of a reduction's operand: the domain itself; raises when it is not."""
        if rank != len(self.domain) or tuple(sorted(axes)) != self.reduced:
            raise Unsuitable("a reduction over other axes than the region's")
        same = identity(rank)
        kept = [a for a in range(rank) if a not in self.reduced]
        found = [access[a] for a in kept] if keepdims else list(access)
        if found != [same[a] for a in kept] and not self._only(found, kept):
            raise Unsuitable("a reduction seen through another access")
        return same

    def _only(self, found: list[Index], kept: list[int]) -> bool:
        same = identity(len(self.domain))
        return all(
            index == same[axis] or (self.domain[axis] == 1 and index.offset == 0)
            for index, axis in zip(found, kept, strict=True)
        )

    def count(self, dtype: str) -> int:
        """The number of elements of a row, in `dtype`."""
        total: Dim = 1
        for axis in self.reduced:
            total = total * self.domain[axis]
        if isinstance(total, int):
            return self.number(float(total), dtype)
        return self.op("cast", (self.add(DimValue(self.params(total))),), dtype)

    def _reduce(self, op: reduce.Reduce, access: Access) -> int:
        full = self.full(op.axes, op.x.rank, access, op.keepdims)
        if tuple(op.x.shape) != self.domain:
            raise Unsuitable("a reduction over another domain")
        x = self.value(op.x, full)
        if not op.axes:
            return x  # each element is the whole of its reduction
        if op.kind != "mean":
            return self.reduction(op.kind, x)
        dtype = str(op.x.dtype)
        if not op.x.dtype.is_float:
            raise Unsuitable("an integer mean")
        return self.op("div", (self.reduction("sum", x), self.count(dtype)), dtype)

    def _row_operand(self, op: core.Op, axes: Sequence[int], access: Access) -> tuple[int, str]:
        x = op.operands[0]
        if tuple(x.shape) != self.domain:
            raise Unsuitable("a row operation over another domain")
        if tuple(axes) != self.reduced or access != identity(x.rank):
            raise Unsuitable("a row operation seen through another access")
        return self.value(x, access), str(x.dtype)

    def _softmax(self, op: nn.Softmax, access: Access) -> int:
        x, t = self._row_operand(op, (op.axis,), access)
        shifted = self.op("sub", (x, self.reduction("max", x)), t)
        power = self.op("exp", (shifted,), t)
        total = self.reduction("sum", power)
        if op.log:
            return self.op("sub", (shifted, self.op("log", (total,), t)), t)
        return self.op("mul", (power, self.op("recip", (total,), t)), t)

    def _layernorm(self, op: nn.LayerNorm, access: Access) -> int:
        x, t = self._row_operand(op, tuple(range(op.axis, op.x.rank)), access)
        n = self.count(t)
        centred = self.op("sub", (x, self.op("div", (self.reduction("sum", x), n), t)), t)
        square = self.reduction("sum", self.op("mul", (centred, centred), t))
        variance = self.op("add", (self.op("div", (square, n), t), self.number(op.eps, t)), t)
        out = self.op("mul", (centred, self.op("rsqrt", (variance,), t)), t)
        return self._affine(op, (op.scale, "mul"), (op.bias, "add"), out, access, t)

    def _rmsnorm(self, op: nn.RmsNorm, access: Access) -> int:
        x, t = self._row_operand(op, tuple(range(op.axis, op.x.rank)), access)
        square = self.reduction("sum", self.op("mul", (x, x), t))
        mean = self.op("div", (square, self.count(t)), t)
        variance = self.op("add", (mean, self.number(op.eps, t)), t)
        out = self.op("mul", (x, self.op("rsqrt", (variance,), t)), t)
        return self._affine(op, (op.scale, "mul"), (None, ""), out, access, t)

    def _affine(
        self,
        op: nn.LayerNorm | nn.RmsNorm,
        first: tuple[Value | None, str],
        second: tuple[Value | None, str],
        out: int,
        access: Access,
        dtype: str,
    ) -> int:
        for value, name in (first, second):
            if value is not None:
                other = self.value(value, self.broadcast(value, op.out, access))
                out = self.op(name, (out, other), dtype)
        return out

    def _rope(self, op: nn.Rope, access: Access) -> int:
        half = op.x.shape[-1] // 2
        last = access[-1]
        axis = [a for a, s in enumerate(last.steps) if s]
        if len(axis) != 1 or last.steps[axis[0]] != 1:
            raise Unsuitable("a rotation seen through another access")
        t = str(op.x.dtype)
        low, high = last, Index(last.steps, last.offset - half)
        args = []
        for here, there, sign in (
            (low, Index(last.steps, last.offset + half), "sub"),
            (high, high, "add"),
        ):
            angle = (*access[:-1], here)
            x = self.value(op.x, (*access[:-1], last))
            partner = self.value(op.x, (*access[:-1], there))
            cos, sin = (self.value(v, self._angles(v, op.x, angle, half)) for v in (op.cos, op.sin))
            parts = (self.op("mul", (x, cos), t), self.op("mul", (partner, sin), t))
            args.append(self.op(sign, parts, t))
        starts = (self.params(half - last.offset),)
        return self.add(Piece(axis[0], starts, tuple(args)))

    def _angles(self, angle: Value, x: Value, access: Access, half: Dim) -> Access:
        lead = x.rank - angle.rank
        zero = Index((0,) * len(self.domain))
        sizes = (*x.shape[:-1], half)
        return tuple(
            zero if size == 1 and sizes[lead + i] != 1 else access[lead + i]
            for i, size in enumerate(angle.shape)
        )
