"""`Emit` over llvmlite: one kernel as a function of an ir.Module."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.emit import BYTES, Int
from tilewright.backends.llvm.emit.llvm_arith import LlvmArith, llvm_type

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_PTR, _VOID = ir.PointerType(), ir.VoidType()
KERNEL_TYPE = ir.FunctionType(_I32, [_PTR, _PTR, _I64, _I64, _PTR])


class LlvmEmit(LlvmArith):
    """The kernel ``name`` in ``module``. Call `finish` once the body is complete."""

    def __init__(self, module: ir.Module, name: str, fma: bool = True, half: bool = True) -> None:
        found = module.globals.get(name)
        self.function = found if found is not None else ir.Function(module, KERNEL_TYPE, name)
        self._entry = self.function.append_basic_block("entry")
        super().__init__(ir.IRBuilder(self._entry), fma)
        self.half = half
        self._args, self._dims, self.begin, self.end, self.scratch = self.function.args
        self._pointers: dict[int, Value] = {}
        self._sizes: dict[int, Value] = {}
        self._status = self.b.alloca(_I32, name="status")
        self.b.store(ir.Constant(_I32, 0), self._status)
        start = self.b.append_basic_block("start")
        self.b.branch(start)
        self.b.position_at_end(start)

    def arg(self, index: int) -> Value:
        # Loaded once at function entry, so that every use is dominated.
        if index not in self._pointers:
            self._pointers[index] = self._at_entry(self._args, index, _PTR)
        return self._pointers[index]

    def dim(self, index: int) -> Value:
        if index not in self._sizes:
            self._sizes[index] = self._at_entry(self._dims, index, _I64)
        return self._sizes[index]

    def _at_entry(self, base: Value, index: int, typ: ir.Type) -> Value:
        with self.b.goto_block(self._entry):
            return self._load_slot(base, index, typ)

    def _load_slot(self, base: Value, index: int, typ: ir.Type) -> Value:
        slot = self.b.gep(base, [ir.Constant(_I64, index)], source_etype=typ)
        return self.b.load(slot, typ=typ, align=8)

    def finish(self) -> ir.Function:
        """Return the collected status and close the function."""
        self.b.ret(self.b.load(self._status, typ=_I32))
        return self.function

    def _i64(self, x: Int) -> Value:
        return ir.Constant(_I64, x) if isinstance(x, int) else x

    def loop(
        self,
        begin: Int,
        end: Int,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        if isinstance(begin, int) and isinstance(end, int) and begin >= end:
            return list(carried)
        b, first, last = self.b, self._i64(begin), self._i64(end)
        before = b.block
        inside, after = b.append_basic_block("body"), b.append_basic_block("after")
        b.cbranch(b.icmp_signed("<", first, last), inside, after)
        b.position_at_end(inside)
        index = b.phi(_I64, "i")
        index.add_incoming(first, before)
        phis = []
        for value in carried:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            phis.append(phi)
        following = list(body(index, list(phis)))
        advanced = b.add(index, ir.Constant(_I64, step), flags=("nsw",))
        latch = b.block
        index.add_incoming(advanced, latch)
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, latch)
        b.cbranch(b.icmp_signed("<", advanced, last), inside, after)
        b.position_at_end(after)
        results = []
        for value, final in zip(carried, following, strict=True):
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            phi.add_incoming(final, latch)
            results.append(phi)
        return results

    def branch(
        self,
        cond: Value,
        then: Callable[[], Sequence[Value]],
        other: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        with self.b.if_else(cond) as (yes, no):
            with yes:
                first = list(then())
                first_block = self.b.block
            with no:
                second = list(other())
                second_block = self.b.block
        results = []
        for x, y in zip(first, second, strict=True):
            phi = self.b.phi(x.type)
            phi.add_incoming(x, first_block)
            phi.add_incoming(y, second_block)
            results.append(phi)
        return results

    def offset(self, ptr: Value, index: Int, dtype: str) -> Value:
        if isinstance(index, int) and index == 0:
            return ptr
        return self.b.gep(ptr, [self._i64(index)], source_etype=llvm_type(dtype))

    def _mask(self, count: Int, lanes: int) -> Value:
        if isinstance(count, int):
            return ir.Constant(ir.VectorType(_I1, lanes), [i < count for i in range(lanes)])
        # Counts are below 2^31 only after clamping; 32-bit lanes make the compare one instruction.
        limited = self.b.select(
            self.b.icmp_signed("<", count, self._i64(lanes)), count, self._i64(lanes)
        )
        small = self.b.trunc(limited, _I32)
        return self.b.icmp_signed("<", self.iota("i32", lanes), self.broadcast(small, lanes))

    def _suffix(self, dtype: str, lanes: int) -> str:
        return f"v{lanes}{dtype}.p0"

    def _declare(self, name: str, typ: ir.FunctionType) -> ir.Function:
        found = self.b.module.globals.get(name)
        return found if found is not None else ir.Function(self.b.module, typ, name)

    def load(
        self, ptr: Value, index: Int, dtype: str, lanes: int = 0, count: Int | None = None
    ) -> Value:
        address, typ = self.offset(ptr, index, dtype), llvm_type(dtype, lanes)
        if count is None or not lanes:
            return self.b.load(address, typ=typ, align=BYTES[dtype])
        mask_type = ir.VectorType(_I1, lanes)
        fn = self._declare(
            f"llvm.masked.load.{self._suffix(dtype, lanes)}",
            ir.FunctionType(typ, [_PTR, _I32, mask_type, typ]),
        )
        align = ir.Constant(_I32, BYTES[dtype])
        return self.b.call(fn, [address, align, self._mask(count, lanes), ir.Constant(typ, None)])

    def store(self, ptr: Value, index: Int, value: Value, count: Int | None = None) -> None:
        dtype, lanes = self.dtype(value), self.lanes(value)
        address = self.offset(ptr, index, dtype)
        if count is None or not lanes:
            self.b.store(value, address, align=BYTES[dtype])
            return
        mask_type = ir.VectorType(_I1, lanes)
        fn = self._declare(
            f"llvm.masked.store.{self._suffix(dtype, lanes)}",
            ir.FunctionType(_VOID, [value.type, _PTR, _I32, mask_type]),
        )
        align = ir.Constant(_I32, BYTES[dtype])
        self.b.call(fn, [value, address, align, self._mask(count, lanes)])

    def broadcast(self, x: Value, lanes: int) -> Value:
        typ = ir.VectorType(x.type, lanes)
        poison = ir.Constant(typ, ir.Undefined)
        one = self.b.insert_element(poison, x, ir.Constant(_I32, 0))
        return self.shuffle(one, poison, [0] * lanes)

    def extract(self, x: Value, lane: int) -> Value:
        return self.b.extract_element(x, ir.Constant(_I32, lane))

    def insert(self, x: Value, value: Value, lane: int) -> Value:
        return self.b.insert_element(x, value, ir.Constant(_I32, lane))

    def shuffle(self, x: Value, y: Value, picks: Sequence[int]) -> Value:
        mask = ir.Constant(ir.VectorType(_I32, len(picks)), list(picks))
        return self.b.shuffle_vector(x, y, mask)

    def iota(self, dtype: str, lanes: int) -> Value:
        return ir.Constant(llvm_type(dtype, lanes), list(range(lanes)))

    def idiv(self, x: Value, y: Value, signed: bool = True) -> Value:
        return (self.b.sdiv if signed else self.b.udiv)(x, y)

    def irem(self, x: Value, y: Value, signed: bool = True) -> Value:
        return (self.b.srem if signed else self.b.urem)(x, y)

    def fail_if(self, cond: Value, code: int) -> None:
        old = self.b.load(self._status, typ=_I32)
        self.b.store(self.b.select(cond, ir.Constant(_I32, code), old), self._status)
