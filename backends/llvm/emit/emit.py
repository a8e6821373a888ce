"""`Emit`: `Arith` plus memory, control flow and the kernel's frame.

Implementations: `llvm_emit.LlvmEmit` and `mlir_emit.MlirEmit`. A schedule written against `Emit`
therefore gives the same operations in the same order in both, and bitwise equal results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tilewright.backends.llvm.emit.arith import Arith, Value

Int = Value | int
"""An index: a Python int or an i64 scalar."""

BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "f16": 2, "f32": 4, "f64": 8}


class Emit(Arith, Protocol):
    """Builds one kernel `i32 NAME(ptr args, ptr dims, i64 begin, i64 end, ptr scratch)`."""

    half: bool
    """Whether the target converts f16 <-> f32 in one instruction."""

    begin: Value
    end: Value
    scratch: Value

    def arg(self, index: int) -> Value:
        """Pointer of operand or result ``index``."""
        ...

    def dim(self, index: int) -> Value:
        """Run-time value of dimension parameter ``index`` (i64)."""
        ...

    def loop(
        self,
        begin: Int,
        end: Int,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """``for i in range(begin, end, step)``; ``body(i, carried)`` gives the next values."""
        ...

    def branch(
        self,
        cond: Value,
        then: Callable[[], Sequence[Value]],
        other: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """Scalar if/else; both sides give values of the same types."""
        ...

    def any(self, mask: Value) -> Value: ...

    def load(
        self, ptr: Value, index: Int, dtype: str, lanes: int = 0, count: Int | None = None
    ) -> Value:
        """Element ``index`` of an array of ``dtype``, or ``lanes`` of them from there on.

        With ``count`` only the first ``count`` lanes are touched, the others are 0. ``count`` may
        be anything, below 0 is none.
        """
        ...

    def store(self, ptr: Value, index: Int, value: Value, count: Int | None = None) -> None: ...
    def offset(self, ptr: Value, index: Int, dtype: str) -> Value:
        """Pointer to element ``index``."""
        ...

    def broadcast(self, x: Value, lanes: int) -> Value: ...
    def extract(self, x: Value, lane: int) -> Value: ...
    def insert(self, x: Value, value: Value, lane: int) -> Value: ...
    def shuffle(self, x: Value, y: Value, picks: Sequence[int]) -> Value: ...
    def iota(self, dtype: str, lanes: int) -> Value:
        """The constant vector 0, 1, 2, ..."""
        ...

    def idiv(self, x: Value, y: Value, signed: bool = True) -> Value:
        """Quotient truncated towards zero; the caller keeps divisors 0 (and -1) away."""
        ...

    def irem(self, x: Value, y: Value, signed: bool = True) -> Value: ...
    def fail_if(self, cond: Value, code: int) -> None:
        """Make the kernel return ``code`` if the scalar ``cond`` is ever set; goes on."""
        ...


class Index:
    """Index arithmetic over an `Emit` that folds Python ints."""

    def __init__(self, e: Emit) -> None:
        self.e = e

    def value(self, x: Int) -> Value:
        """``x`` as an i64 value."""
        return self.e.const("i64", x) if isinstance(x, int) else x

    def add(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if isinstance(x, int) and x == 0:
            return y
        if isinstance(y, int) and y == 0:
            return x
        return self.e.iadd(self.value(x), self.value(y))

    def sub(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x - y
        if isinstance(y, int) and y == 0:
            return x
        return self.e.isub(self.value(x), self.value(y))

    def mul(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        for one, other in ((x, y), (y, x)):
            if isinstance(one, int) and one in (0, 1):
                return other if one else 0
        return self.e.imul(self.value(x), self.value(y))

    def div(self, x: Int, y: Int) -> Int:
        """Quotient of non-negative integers, y > 0."""
        if isinstance(x, int) and isinstance(y, int):
            return x // y
        if isinstance(y, int) and y == 1:
            return x
        return self.e.idiv(self.value(x), self.value(y), signed=False)

    def rem(self, x: Int, y: Int) -> Int:
        """Remainder of non-negative integers, y > 0."""
        if isinstance(x, int) and isinstance(y, int):
            return x % y
        if isinstance(y, int) and y == 1:
            return 0
        return self.e.irem(self.value(x), self.value(y), signed=False)

    def lt(self, x: Int, y: Int) -> Value:
        return self.e.icmp("<", self.value(x), self.value(y))

    def min(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        return self.e.select(self.lt(x, y), self.value(x), self.value(y))

    def max(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return max(x, y)
        return self.e.select(self.lt(x, y), self.value(y), self.value(x))

    def round_down(self, x: Int, unit: int) -> Int:
        return self.sub(x, self.rem(x, unit))
