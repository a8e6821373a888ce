"""A thin layer over llvmlite's IRBuilder: integer arithmetic that folds, loops with phis, GEPs,
vector loads and stores with masks.

Nothing here knows about kernels. Integers are i64 throughout, addresses are formed by GEP only
(an integer round trip loses provenance and can end as a GEP on null after unrolling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from llvmlite import ir

from tilewright.backends.target import Target

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32 = ir.FloatType()
PTR = ir.PointerType()
VOID = ir.VoidType()

Int: TypeAlias = ir.Value | int
Arm = AbstractContextManager[object]

KERNEL_TYPE = ir.FunctionType(I32, [PTR, PTR, I64, I64, PTR])


def i64(value: Int) -> ir.Value:
    """``value`` as an i64 constant, unless it is a value already."""
    return ir.Constant(I64, value) if isinstance(value, int) else value


@dataclass
class Loop:
    """The inside of a counted loop: its index, the carried values, and their next values."""

    index: ir.Value
    carried: list[ir.Value]
    next: list[ir.Value]


class Code:
    """An IRBuilder with the target it builds for."""

    def __init__(self, builder: ir.IRBuilder, target: Target) -> None:
        self.b = builder
        self.target = target

    @property
    def module(self) -> ir.Module:
        return self.b.module

    # Integers ------------------------------------------------------------------------------

    def add(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if x == 0 and isinstance(x, int):
            return y
        if y == 0 and isinstance(y, int):
            return x
        return self.b.add(i64(x), i64(y), flags=("nsw",))

    def sub(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x - y
        return x if isinstance(y, int) and y == 0 else self.b.sub(i64(x), i64(y), flags=("nsw",))

    def mul(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        for one, other in ((x, y), (y, x)):
            if isinstance(one, int) and one in (0, 1):
                return other if one else 0
        return self.b.mul(i64(x), i64(y), flags=("nsw",))

    def div(self, x: Int, y: Int) -> Int:
        """Floor division of non-negative integers."""
        if isinstance(x, int) and isinstance(y, int):
            return x // y
        return x if isinstance(y, int) and y == 1 else self.b.udiv(i64(x), i64(y))

    def rem(self, x: Int, y: Int) -> Int:
        """Remainder of non-negative integers."""
        if isinstance(x, int) and isinstance(y, int):
            return x % y
        return 0 if isinstance(y, int) and y == 1 else self.b.urem(i64(x), i64(y))

    def ceildiv(self, x: Int, y: Int) -> Int:
        return self.div(self.add(x, self.sub(y, 1)), y)

    def round_up(self, x: Int, y: int) -> Int:
        return self.mul(self.ceildiv(x, y), y)

    def cmp(self, op: str, x: Int, y: Int) -> ir.Value:
        return self.b.icmp_signed(op, i64(x), i64(y))

    def min(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        return self.select(self.cmp("<", x, y), x, y)

    def max(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return max(x, y)
        return self.select(self.cmp(">", x, y), x, y)

    def select(self, cond: ir.Value, x: Int, y: Int) -> ir.Value:
        return self.b.select(cond, i64(x), i64(y))

    # Control flow --------------------------------------------------------------------------

    @contextmanager
    def loop(
        self, begin: Int, end: Int, step: Int = 1, carried: Sequence[ir.Value] = ()
    ) -> Iterator[Loop]:
        """``for i in range(begin, end, step)``, step > 0, with loop-carried values.

        The body sets ``.next``; after the loop ``.carried`` holds the final values.
        """
        b = self.b
        start = b.block
        body, after = b.append_basic_block("body"), b.append_basic_block("after")
        b.cbranch(self.cmp("<", begin, end), body, after)
        b.position_at_end(body)
        index = b.phi(I64, "i")
        index.add_incoming(i64(begin), start)
        phis = []
        for value in carried:
            phi = b.phi(value.type)
            phi.add_incoming(value, start)
            phis.append(phi)
        loop = Loop(index, list(phis), list(phis))
        yield loop
        following = i64(self.add(index, step))
        again = self.cmp("<", following, end)
        last = b.block
        index.add_incoming(following, last)
        for phi, value in zip(phis, loop.next, strict=True):
            phi.add_incoming(value, last)
        b.cbranch(again, body, after)
        b.position_at_end(after)
        results = []
        for value, final in zip(carried, loop.next, strict=True):
            phi = b.phi(value.type)
            phi.add_incoming(value, start)
            phi.add_incoming(final, last)
            results.append(phi)
        loop.carried = results

    @contextmanager
    def when(self, cond: ir.Value) -> Iterator[None]:
        with self.b.if_then(cond):
            yield

    @contextmanager
    def either(self, cond: ir.Value) -> Iterator[tuple[Arm, Arm]]:
        """if/else: two context managers, one an arm."""
        with self.b.if_else(cond) as arms:
            yield arms

    def switch(self, value: Int, most: int, arm: Callable[[int], object]) -> None:
        """``arm(value)`` for a run-time value in 1 .. most; nothing for any other."""
        b = self.b
        done = b.append_basic_block("switch.done")
        switch = b.switch(i64(value), done)
        for case in range(1, most + 1):
            block = b.append_basic_block(f"case{case}")
            switch.add_case(ir.Constant(I64, case), block)
            b.position_at_end(block)
            arm(case)
            b.branch(done)
        b.position_at_end(done)

    # Memory --------------------------------------------------------------------------------

    def at(self, base: ir.Value, index: Int, typ: ir.Type = F32) -> ir.Value:
        """Address of element ``index`` of an array of ``typ``."""
        if isinstance(index, int) and index == 0:
            return base
        return self.b.gep(base, [i64(index)], inbounds=False, source_etype=typ)

    def load(self, ptr: ir.Value, typ: ir.Type = F32) -> ir.Value:
        value = self.b.load(ptr, typ=typ)
        value.align = _alignment(typ)
        return value

    def store(self, value: ir.Value, ptr: ir.Value) -> None:
        self.b.store(value, ptr, align=_alignment(value.type))

    def vector(self, lanes: int, element: ir.Type = F32) -> ir.VectorType:
        return ir.VectorType(element, lanes)

    def vload(
        self, ptr: ir.Value, lanes: int, mask: ir.Value | None = None, element: ir.Type = F32
    ) -> ir.Value:
        """``lanes`` elements at ``ptr``, aligned to one element; masked-off lanes read zero."""
        typ = ir.VectorType(element, lanes)
        if mask is None:
            return self.load(ptr, typ)
        name = f"llvm.masked.load.v{lanes}{_suffix(element)}.p0"
        fn_type = ir.FunctionType(typ, [PTR, I32, ir.VectorType(I1, lanes), typ])
        align = ir.Constant(I32, _alignment(element))
        return self.b.call(self.declare(name, fn_type), [ptr, align, mask, zeros(typ)])

    def vstore(self, value: ir.Value, ptr: ir.Value, mask: ir.Value | None = None) -> None:
        """Store a vector, aligned to one element; masked-off lanes are not touched."""
        if mask is None:
            self.store(value, ptr)
            return
        typ = value.type
        name = f"llvm.masked.store.v{typ.count}{_suffix(typ.element)}.p0"
        fn_type = ir.FunctionType(VOID, [typ, PTR, I32, ir.VectorType(I1, typ.count)])
        align = ir.Constant(I32, _alignment(typ.element))
        self.b.call(self.declare(name, fn_type), [value, ptr, align, mask])

    def prefetch(self, ptr: ir.Value, locality: int = 3) -> None:
        """Ask for the line at ``ptr``: in every cache level, or from L2 on with ``locality`` 2;
        any address is allowed."""
        fn_type = ir.FunctionType(VOID, [PTR, I32, I32, I32])
        fn = self.declare("llvm.prefetch.p0", fn_type)
        self.b.call(fn, [ptr, *(ir.Constant(I32, v) for v in (0, locality, 1))])

    def opaque(self, ptr: ir.Value) -> ir.Value:
        """``ptr``, without LLVM knowing how it came about: in a loop it stays one register beside
        which constant offsets are displacements, instead of one register for each address."""
        kind = ir.FunctionType(PTR, [PTR])
        return self.b.asm(kind, "", "=r,0", [ptr], side_effect=False)

    # Vectors -------------------------------------------------------------------------------

    def splat(self, value: ir.Value | float, lanes: int, element: ir.Type = F32) -> ir.Value:
        if isinstance(value, int | float):
            return ir.Constant(ir.VectorType(element, lanes), [value] * lanes)
        typ = ir.VectorType(value.type, lanes)
        one = self.b.insert_element(ir.Constant(typ, ir.Undefined), value, ir.Constant(I32, 0))
        pick = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return self.b.shuffle_vector(one, ir.Constant(typ, ir.Undefined), pick)

    def first_lanes(self, count: Int, lanes: int) -> ir.Value:
        """Mask of the lanes below ``count`` (any integer; below zero is none)."""
        if isinstance(count, int):
            return ir.Constant(ir.VectorType(I1, lanes), [i < count for i in range(lanes)])
        ids = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
        return self.b.icmp_signed("<", ids, self.splat(count, lanes))

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x*y + z, fused where the target has the instruction."""
        if self.target.fma:
            return self.intrinsic("fma", x, y, z)
        return self.b.fadd(self.b.fmul(x, y), z)

    def intrinsic(self, name: str, *args: ir.Value) -> ir.Value:
        """``llvm.<name>`` of f32 values or vectors, all of one type, which is also the result's."""
        typ = args[0].type
        suffix = f"v{typ.count}f32" if isinstance(typ, ir.VectorType) else "f32"
        fn_type = ir.FunctionType(typ, [typ] * len(args))
        return self.b.call(self.declare(f"llvm.{name}.{suffix}", fn_type), list(args))

    def transpose(self, rows: Sequence[ir.Value]) -> list[ir.Value]:
        """Transpose L vectors of L lanes in log2(L) rounds of two-input shuffles."""
        lanes = len(rows)
        now, half = list(rows), lanes // 2
        while half:
            out = list(now)
            for i in range(lanes):
                if i & half:
                    continue
                low, high = now[i], now[i + half]
                keep = [j if not j & half else lanes + j - half for j in range(lanes)]
                swap = [j + half if not j & half else lanes + j for j in range(lanes)]
                out[i] = self._shuffle(low, high, keep)
                out[i + half] = self._shuffle(low, high, swap)
            now, half = out, half // 2
        return now

    def _shuffle(self, low: ir.Value, high: ir.Value, picks: list[int]) -> ir.Value:
        return self.b.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, len(picks)), picks))

    def declare(self, name: str, fn_type: ir.FunctionType) -> ir.Function:
        found = self.b.module.globals.get(name)
        return found if found is not None else ir.Function(self.b.module, fn_type, name)


def zeros(typ: ir.Type) -> ir.Value:
    """The all-zero constant of a scalar or vector type."""
    return ir.Constant(typ, None)


def _alignment(typ: ir.Type) -> int:
    element = typ.element if isinstance(typ, ir.VectorType) else typ
    if isinstance(element, ir.IntType):
        return max(1, int(element.width) // 8)
    sizes = {"half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": 8}
    return sizes[str(element)]


def _suffix(element: ir.Type) -> str:
    if isinstance(element, ir.IntType):
        return f"i{element.width}"
    return {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}[str(element)]
