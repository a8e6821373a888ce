"""Reductions: what an accumulator holds, how it takes a value, how accumulators are combined.

Sums are kept in several vector accumulators that are added in a fixed tree, so that the result
depends on the vector width only; the error of an f32 sum of n terms grows with n / (lanes * 4).
"""

from __future__ import annotations

import math

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.convert import ITEM_BYTES, UNSIGNED, is_float, register
from tilewright.backends.llvm.emit.elementwise import maximum
from tilewright.backends.llvm.emit.emit import Emit

_FAR = (1 << 63) - 1


class Accumulator:
    """Accumulators of reduction ``kind`` over values of ``dtype``: lists of 1 or 2 vectors."""

    def __init__(self, e: Emit, kind: str, dtype: str) -> None:
        self.e = e
        self.kind = kind
        self.dtype = dtype
        self.arg = kind.startswith("arg")
        self.parts = 2 if self.arg else 1

    def _identity(self) -> float | int:
        kind, dtype = self.kind.removesuffix("_last"), self.dtype
        if kind in ("sum", "any"):
            return 0
        if kind in ("prod", "all"):
            return 1
        largest = kind in ("max", "argmax")
        if is_float(dtype):
            return -math.inf if largest else math.inf
        if dtype == "bool":
            return 0 if largest else 1
        bits = 8 * ITEM_BYTES[dtype]
        if dtype in UNSIGNED:
            return 0 if largest else (1 << bits) - 1
        return -(1 << (bits - 1)) if largest else (1 << (bits - 1)) - 1

    def start(self, lanes: int) -> list[Value]:
        value = self.e.const(register(self.dtype), self._identity(), lanes)
        return [value, self.e.const("i64", _FAR, lanes)] if self.arg else [value]

    def step(self, now: list[Value], value: Value, index: Value, mask: Value | None) -> list[Value]:
        """Take ``value`` (at ``index``); lanes outside ``mask`` count as absent."""
        e = self.e
        if mask is not None:
            empty = self.start(e.lanes(value))
            value = e.select(mask, value, empty[0])
            if self.arg:
                index = e.select(mask, index, empty[1])
        return self.merge(now, [value, index] if self.arg else [value])

    def merge(self, a: list[Value], b: list[Value]) -> list[Value]:
        e, kind = self.e, self.kind
        if self.arg:
            return self._merge_arg(a, b)
        (x,), (y,) = a, b
        if kind in ("max", "min"):
            return [maximum(e, x, y, self.dtype, smallest=kind == "min")]
        if kind in ("any", "all"):
            return [e.or_(x, y) if kind == "any" else e.and_(x, y)]
        if is_float(self.dtype):
            return [e.add(x, y) if kind == "sum" else e.mul(x, y)]
        return [e.iadd(x, y) if kind == "sum" else e.imul(x, y)]

    def _merge_arg(self, a: list[Value], b: list[Value]) -> list[Value]:
        """The better value; equal ones by position, an empty accumulator loses."""
        e = self.e
        (x, i), (y, j) = a, b
        op = ">" if self.kind.startswith("argmax") else "<"

        def compare(name: str) -> Value:
            if is_float(self.dtype):
                return e.fcmp(name, y, x)
            return e.icmp(name, y, x, self.dtype not in UNSIGNED and self.dtype != "bool")

        far = e.const("i64", _FAR, e.lanes(i))
        empty_x, full_y = e.icmp("==", i, far), e.icmp("!=", j, far)
        later = e.icmp(">" if self.kind.endswith("_last") else "<", j, i)
        wins = e.or_(compare(op), e.and_(compare("=="), later))
        if is_float(self.dtype):
            # The first NaN beats every number, as in numpy.
            nan_x, nan_y = e.fcmp("!=", x, x), e.fcmp("!=", y, y)
            same = e.and_(nan_x, e.and_(nan_y, later))
            flip = e.const("i1", 1, e.lanes(i))
            wins = e.and_(wins, e.xor(nan_x, flip))
            wins = e.or_(wins, e.or_(same, e.and_(nan_y, e.xor(nan_x, flip))))
        wins = e.and_(e.or_(wins, empty_x), full_y)
        return [e.select(wins, y, x), e.select(wins, j, i)]

    def combine(self, slots: list[list[Value]]) -> list[Value]:
        """One accumulator from several: ((0+1)+(2+3))."""
        while len(slots) > 1:
            slots = [
                self.merge(slots[k], slots[k + 1]) if k + 1 < len(slots) else slots[k]
                for k in range(0, len(slots), 2)
            ]
        return slots[0]

    def across(self, now: list[Value]) -> list[Value]:
        """Reduce the lanes: halves are folded onto each other until one lane is left."""
        e = self.e
        lanes = e.lanes(now[0])
        if not lanes:
            return now
        while lanes > 1:
            half = lanes // 2
            low = [e.shuffle(v, v, list(range(half))) for v in now]
            high = [e.shuffle(v, v, list(range(half, lanes))) for v in now]
            now, lanes = self.merge(low, high), half
        return [e.extract(v, 0) for v in now]

    def result(self, now: list[Value]) -> Value:
        return now[-1]
