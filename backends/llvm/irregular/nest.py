"""The loop-nest language of the irregular kernels: loops as context managers, typed arrays, cells.

with k.units() as u, k.loop(inner) as i:
    out.copy(k.add(k.mul(u, inner), i), x, ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import I1, I8, I32, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.emit.llvm_arith import LlvmArith
from tilewright.backends.llvm.irregular.numeric import (
    STORAGE,
    compute_type,
    decode,
    encode,
    storage_bytes,
)
from tilewright.backends.target import Target
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class P:
    """The run-time value at `index` of the kernel's dims array."""

    index: int


Extent = int | P

DATA_ERROR = 3
"""The status that a kernel returns for an index out of range or a failed guard."""


class Cell:
    """A mutable local: an entry-block alloca that LLVM turns into registers."""

    def __init__(self, k: Nest, typ: ir.Type) -> None:
        self.k, self.typ = k, typ
        with k.b.goto_block(k.entry):
            self.ptr = k.b.alloca(typ)

    def get(self) -> ir.Value:
        return self.k.b.load(self.ptr, typ=self.typ)

    def set(self, value: ir.Value) -> None:
        self.k.b.store(value, self.ptr)


class Array:
    """A dense array of `dtype` at `ptr`. Indices count elements."""

    def __init__(self, k: Nest, ptr: ir.Value, dtype: DType) -> None:
        self.k, self.ptr, self.dtype = k, ptr, dtype
        self.storage = STORAGE[dtype]
        self.bytes = storage_bytes(dtype)

    def at(self, index: Int) -> ir.Value:
        """The address of an element."""
        return self.k.c.at(self.ptr, index, self.storage)

    def raw(self, index: Int) -> ir.Value:
        """The stored bits of an element."""
        return self.k.c.load(self.at(index), self.storage)

    def put(self, index: Int, raw: ir.Value) -> None:
        self.k.c.store(raw, self.at(index))

    def get(self, index: Int) -> ir.Value:
        """An element in the type that it is computed in (see `numeric.compute_type`)."""
        return decode(self.k.m, self.dtype, self.raw(index), self.k.half)

    def set(self, index: Int, value: ir.Value) -> None:
        """Store a computed value, rounded to the element type."""
        self.put(index, encode(self.k.m, self.dtype, value, half=self.k.half))

    def copy(self, index: Int, source: Array, start: Int, count: Int) -> None:
        """Copy `count` elements of `source` from `start` on; the ranges do not overlap."""
        if isinstance(count, int) and count == 1:
            self.put(index, source.raw(start))
            return
        self.k.memcpy(self.at(index), source.at(start), self.k.mul(count, self.bytes))


class Nest:
    """Emits one kernel function."""

    def __init__(self, function: ir.Function, target: Target) -> None:
        self.function = function
        self.entry = function.append_basic_block("entry")
        start = function.append_basic_block("start")
        self.start = start
        self.b = ir.IRBuilder(start)
        self.c = Code(self.b, target)
        self.m = LlvmArith(self.b, target.fma)
        self.half = "f16c" in target.all_features
        self.args, self.dims, self.begin, self.end, self.scratch = function.args
        self.extents: dict[int, ir.Value] = {}
        self.add, self.sub, self.mul = self.c.add, self.c.sub, self.c.mul
        self.div, self.rem = self.c.div, self.c.rem
        self.min, self.max, self.cmp = self.c.min, self.c.max, self.c.cmp
        self.when = self.c.when

    def finish(self) -> None:
        """Close the function."""
        self.b.ret(ir.Constant(I32, 0))
        with self.b.goto_block(self.entry):
            self.b.branch(self.start)

    # Operands ------------------------------------------------------------------------------

    def arrays(self, *dtypes: DType) -> list[Array]:
        """The kernel's arguments as arrays, in order."""
        return [Array(self, self.pointer(i), d) for i, d in enumerate(dtypes)]

    def pointer(self, index: int) -> ir.Value:
        with self.b.goto_block(self.entry):
            return self.c.load(self.c.at(self.args, index, PTR), PTR)

    def scratch_array(self, dtype: DType, offset: Int = 0) -> Array:
        """Scratch memory as an array, from byte `offset` on."""
        return Array(self, self.c.at(self.scratch, offset, I8), dtype)

    def size(self, extent: Extent) -> Int:
        """The value of an extent: an int, or an i64 loaded at entry."""
        if isinstance(extent, int):
            return extent
        found = self.extents.get(extent.index)
        if found is None:
            with self.b.goto_block(self.entry):
                found = self.c.load(self.c.at(self.dims, extent.index, I64), I64)
            self.extents[extent.index] = found
        return found

    def sizes(self, extents: Sequence[Extent]) -> list[Int]:
        return [self.size(e) for e in extents]

    def product(self, sizes: Sequence[Int]) -> Int:
        out: Int = 1
        for size in sizes:
            out = self.mul(out, size)
        return out

    # Loops ---------------------------------------------------------------------------------

    @contextmanager
    def units(self) -> Iterator[ir.Value]:
        """Every work unit of this call."""
        with self.c.loop(self.begin, self.end) as loop:
            yield loop.index

    @contextmanager
    def loop(self, end: Int, begin: Int = 0, step: Int = 1) -> Iterator[ir.Value]:
        """`begin, begin + step, ...` below `end`."""
        with self.c.loop(begin, end, step) as loop:
            yield loop.index

    @contextmanager
    def chunk(self, total: Int, size: int) -> Iterator[ir.Value]:
        """Every index below `total`, where a unit is `size` indices."""
        with self.units() as u:
            low = self.mul(u, size)
            with self.loop(self.min(total, self.add(low, size)), low) as i:
                yield i

    @contextmanager
    def repeat(self) -> Iterator[ir.Block]:
        """An endless loop; branch to the yielded block to leave it (see `leave_if`)."""
        body = self.b.append_basic_block("repeat")
        after = self.b.append_basic_block("done")
        self.b.branch(body)
        self.b.position_at_end(body)
        yield after
        self.b.branch(body)
        self.b.position_at_end(after)

    def leave_if(self, condition: ir.Value, after: ir.Block) -> None:
        """Leave the `repeat` loop whose end is `after`."""
        go_on = self.b.append_basic_block("on")
        self.b.cbranch(condition, after, go_on)
        self.b.position_at_end(go_on)

    @contextmanager
    def nest(self, sizes: Sequence[Int]) -> Iterator[list[Int]]:
        """Nested loops, the last index fastest."""
        if not sizes:
            yield []
            return
        with self.loop(sizes[0]) as i, self.nest(sizes[1:]) as rest:
            yield [i, *rest]

    def cell(self, value: ir.Value) -> Cell:
        """A mutable local that starts as `value`."""
        made = Cell(self, value.type)
        made.set(value)
        return made

    # Indices -------------------------------------------------------------------------------

    def split(self, index: Int, sizes: Sequence[Int]) -> list[Int]:
        """The coordinates of a row-major position in a shape."""
        out: list[Int] = []
        for size in reversed(sizes[1:]):
            out.append(self.rem(index, size))
            index = self.div(index, size)
        return [*([index] if sizes else []), *reversed(out)]

    def flat(self, coordinates: Sequence[Int], sizes: Sequence[Int]) -> Int:
        """The row-major position of coordinates in a shape."""
        out: Int = 0
        for place, size in zip(coordinates, sizes, strict=True):
            out = self.add(self.mul(out, size), place)
        return out

    def position(self, index: ir.Value, size: Int) -> ir.Value:
        """An i64 or i32 index, counted from the end if negative; the kernel fails if outside."""
        wide = index if index.type == I64 else self.b.sext(index, I64)
        found = self.c.select(self.cmp("<", wide, 0), self.b.add(wide, i64(size)), wide)
        self.fail_if(self.b.icmp_unsigned(">=", found, i64(size)))
        return found

    def fail_if(self, condition: ir.Value) -> None:
        """Return the data error's status if `condition` holds."""
        with self.b.if_then(condition, likely=False):
            self.b.ret(ir.Constant(I32, DATA_ERROR))

    # Memory --------------------------------------------------------------------------------

    def memcpy(self, target: ir.Value, source: ir.Value, size: Int) -> None:
        fn_type = ir.FunctionType(VOID, [PTR, PTR, I64, I1])
        fn = self.c.declare("llvm.memcpy.p0.p0.i64", fn_type)
        self.b.call(fn, [target, source, i64(size), ir.Constant(I1, 0)])

    def copy_unless_same(self, target: Array, source: Array, count: Int) -> None:
        """Copy a whole array unless both are the same memory (an in-place call)."""
        with self.when(self.b.icmp_unsigned("!=", target.ptr, source.ptr)):
            target.copy(0, source, 0, count)

    def zero(self, dtype: DType) -> ir.Value:
        """0 in the compute type of `dtype`."""
        return ir.Constant(compute_type(dtype), 0)
