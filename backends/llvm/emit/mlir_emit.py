"""`Emit` as MLIR text: one kernel as a func.func in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.emit import BYTES, Int
from tilewright.backends.llvm.emit.mlir_arith import MlirArith, MlirValue, type_text


class MlirEmit(MlirArith):
    """The kernel ``name``. `finish` gives the module's text."""

    def __init__(self, name: str, fma: bool = True, half: bool = True) -> None:
        super().__init__(fma)
        self.name = name
        self.half = half
        self.begin: Value = MlirValue("%begin", "i64")
        self.end: Value = MlirValue("%end", "i64")
        self.scratch: Value = MlirValue("%scratch", "ptr")
        self._pointers: dict[int, Value] = {}
        self._sizes: dict[int, Value] = {}
        self._status: Value | None = None

    def _entry_load(self, base: str, index: int, dtype: str) -> Value:
        """Element ``index`` of one of the kernel's argument arrays, loaded at entry."""
        slot, result = self.fresh(), MlirValue(self.fresh(), dtype)
        self.entry.append(
            f"{slot} = llvm.getelementptr {base}[{index}] : (!llvm.ptr) -> !llvm.ptr, {result.type}"
        )
        self.entry.append(
            f"{result.name} = llvm.load {slot} {{alignment = 8 : i64}} : !llvm.ptr -> {result.type}"
        )
        return result

    def arg(self, index: int) -> Value:
        if index not in self._pointers:
            self._pointers[index] = self._entry_load("%args", index, "ptr")
        return self._pointers[index]

    def dim(self, index: int) -> Value:
        if index not in self._sizes:
            self._sizes[index] = self._entry_load("%dims", index, "i64")
        return self._sizes[index]

    def finish(self) -> str:
        """The module's text."""
        status = self.const("i32", 0)
        if self._status is not None:
            status = self.emit("i32", 0, f"llvm.load {self._status.name} : !llvm.ptr -> i32")
        head = (
            f"func.func @{self.name}(%args: !llvm.ptr, %dims: !llvm.ptr, %begin: i64, %end: i64, "
            "%scratch: !llvm.ptr) -> i32 {"
        )
        body = [*self.entry, *self.lines, f"return {status.name} : i32"]
        return "\n".join(["module {", head, *body, "}", "}", ""])

    def _i64(self, x: Int) -> Value:
        return self.const("i64", x) if isinstance(x, int) else x

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
        first, last, stride = self._i64(begin), self._i64(end), self._i64(step)
        index = MlirValue(self.fresh(), "i64")
        now: list[Value] = [MlirValue(self.fresh(), v.dtype, v.lanes) for v in carried]
        inner, following = self.inside(lambda: list(body(index, list(now))))
        prefix, results = self.results(list(carried))
        header = f"{prefix}scf.for {index.name} = {first.name} to {last.name} step {stride.name}"
        if carried:
            pairs = ", ".join(f"{n.name} = {v.name}" for n, v in zip(now, carried, strict=True))
            header += f" iter_args({pairs}) -> ({', '.join(v.type for v in carried)})"
        self.lines += [f"{header} : i64 {{", *inner, *self._yield(following), "}"]
        return results

    @staticmethod
    def _yield(values: Sequence[Value]) -> list[str]:
        if not values:
            return []
        names = ", ".join(v.name for v in values)
        return [f"scf.yield {names} : {', '.join(v.type for v in values)}"]

    def branch(
        self,
        cond: Value,
        then: Callable[[], Sequence[Value]],
        other: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        yes, first = self.inside(lambda: list(then()))
        no, second = self.inside(lambda: list(other()))
        prefix, results = self.results(first)
        types = f" -> ({', '.join(v.type for v in first)})" if first else ""
        self.lines += [f"{prefix}scf.if {cond.name}{types} {{", *yes, *self._yield(first)]
        self.lines += ["} else {", *no, *self._yield(second), "}"]
        return results

    def offset(self, ptr: Value, index: Int, dtype: str) -> Value:
        if isinstance(index, int) and index == 0:
            return ptr
        if isinstance(index, int):
            where = f"{ptr.name}[{index}] : (!llvm.ptr)"
        else:
            where = f"{ptr.name}[{index.name}] : (!llvm.ptr, i64)"
        return self.emit("ptr", 0, f"llvm.getelementptr {where} -> !llvm.ptr, {dtype}")

    def _mask(self, count: Int, lanes: int) -> Value:
        count, limit = self._i64(count), self._i64(lanes)
        limited = self.select(self.icmp("<", count, limit), count, limit)
        small = self.broadcast(self.itrunc(limited, "i32"), lanes)
        return self.icmp("<", self.iota("i32", lanes), small)

    def load(
        self, ptr: Value, index: Int, dtype: str, lanes: int = 0, count: Int | None = None
    ) -> Value:
        address, typ = self.offset(ptr, index, dtype), type_text(dtype, lanes)
        align = BYTES[dtype]
        if count is None or not lanes:
            operation = (
                f"llvm.load {address.name} {{alignment = {align} : i64}} : !llvm.ptr -> {typ}"
            )
            return self.emit(dtype, lanes, operation)
        mask, zero = self._mask(count, lanes), self.const(dtype, 0, lanes)
        operation = (
            f"llvm.intr.masked.load {address.name}, {mask.name}, {zero.name} "
            f"{{alignment = {align} : i32}} : (!llvm.ptr, {mask.type}, {typ}) -> {typ}"
        )
        return self.emit(dtype, lanes, operation)

    def store(self, ptr: Value, index: Int, value: Value, count: Int | None = None) -> None:
        address, align = self.offset(ptr, index, value.dtype), BYTES[value.dtype]
        if count is None or not value.lanes:
            self.lines.append(
                f"llvm.store {value.name}, {address.name} {{alignment = {align} : i64}} : "
                f"{value.type}, !llvm.ptr"
            )
            return
        mask = self._mask(count, value.lanes)
        self.lines.append(
            f"llvm.intr.masked.store {value.name}, {address.name}, {mask.name} "
            f"{{alignment = {align} : i32}} : {value.type}, {mask.type} into !llvm.ptr"
        )

    def broadcast(self, x: Value, lanes: int) -> Value:
        target = type_text(x.dtype, lanes)
        return self.emit(x.dtype, lanes, f"vector.broadcast {x.name} : {x.type} to {target}")

    def extract(self, x: Value, lane: int) -> Value:
        return self.emit(x.dtype, 0, f"vector.extract {x.name}[{lane}] : {x.dtype} from {x.type}")

    def insert(self, x: Value, value: Value, lane: int) -> Value:
        operation = f"vector.insert {value.name}, {x.name} [{lane}] : {x.dtype} into {x.type}"
        return self.emit(x.dtype, x.lanes, operation)

    def shuffle(self, x: Value, y: Value, picks: Sequence[int]) -> Value:
        operation = f"vector.shuffle {x.name}, {y.name} {list(picks)} : {x.type}, {y.type}"
        return self.emit(x.dtype, len(picks), operation)

    def iota(self, dtype: str, lanes: int) -> Value:
        typ = type_text(dtype, lanes)
        return self.emit(dtype, lanes, f"arith.constant dense<{list(range(lanes))}> : {typ}")

    def idiv(self, x: Value, y: Value, signed: bool = True) -> Value:
        return self._binary("arith.divsi" if signed else "arith.divui", x, y)

    def irem(self, x: Value, y: Value, signed: bool = True) -> Value:
        return self._binary("arith.remsi" if signed else "arith.remui", x, y)

    def fail_if(self, cond: Value, code: int) -> None:
        if self._status is None:
            one, zero = self.const("i32", 1), self.const("i32", 0)
            self._status = MlirValue(self.fresh(), "ptr")
            name = self._status.name
            self.entry.append(f"{name} = llvm.alloca {one.name} x i32 : (i32) -> !llvm.ptr")
            self.entry.append(f"llvm.store {zero.name}, {name} : i32, !llvm.ptr")
        name = self._status.name
        old = self.emit("i32", 0, f"llvm.load {name} : !llvm.ptr -> i32")
        new = self.select(cond, self.const("i32", code), old)
        self.lines.append(f"llvm.store {new.name}, {name} : i32, !llvm.ptr")
