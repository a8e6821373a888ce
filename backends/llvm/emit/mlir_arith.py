"""`Arith` that appends MLIR text (arith, math and vector dialects)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilewright.backends.llvm.emit.arith import Value

_WIDTH = {"f16": 16, "f32": 32, "f64": 64}
_FLOAT_COMPARE = {"<": "olt", "<=": "ole", ">": "ogt", ">=": "oge", "==": "oeq", "!=": "une"}
_INT_COMPARE = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


@dataclass(frozen=True)
class MlirValue:
    """An SSA name with its element type (``ptr`` for pointers) and lanes, 0 for a scalar."""

    name: str
    dtype: str
    lanes: int = 0

    @property
    def type(self) -> str:
        return type_text(self.dtype, self.lanes)


def type_text(dtype: str, lanes: int = 0) -> str:
    """The MLIR type of a scalar or vector."""
    if dtype == "ptr":
        return "!llvm.ptr"
    return f"vector<{lanes}x{dtype}>" if lanes else dtype


def literal(dtype: str, value: float | int) -> str:
    """``value`` as an MLIR attribute; floats as bits, so that nothing is rounded by printing."""
    if dtype == "i1":
        return "true" if value else "false"
    if dtype == "f64":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if dtype == "f32":
        return f"0x{int(np.float32(value).view(np.uint32)):08X}"
    if dtype == "f16":
        return f"0x{int(np.float16(value).view(np.uint16)):04X}"
    bits = int(dtype[1:])
    return str((int(value) + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1)))


class MlirArith:
    """Appends lines to the innermost open region; constants go to the function's entry."""

    def __init__(self, fma: bool = True) -> None:
        self.fused = fma
        self.entry: list[str] = []
        self.lines: list[str] = []
        self._constants: dict[tuple[str, str, int], MlirValue] = {}
        self._count = 0

    def fresh(self) -> str:
        self._count += 1
        return f"%{self._count}"

    def emit(self, dtype: str, lanes: int, operation: str) -> MlirValue:
        """Append ``operation`` and give its result."""
        result = MlirValue(self.fresh(), dtype, lanes)
        self.lines.append(f"{result.name} = {operation}")
        return result

    def dtype(self, x: Value) -> str:
        return str(x.dtype)

    def lanes(self, x: Value) -> int:
        return int(x.lanes)

    def const(self, dtype: str, value: float | int, lanes: int = 0) -> Value:
        text = literal(dtype, value)
        key = (dtype, text, lanes)
        if key not in self._constants:
            result = MlirValue(self.fresh(), dtype, lanes)
            body = f"dense<{text}>" if lanes else text
            # Booleans print without a type.
            suffix = "" if dtype == "i1" and not lanes else f" : {result.type}"
            self.entry.append(f"{result.name} = arith.constant {body}{suffix}")
            self._constants[key] = result
        return self._constants[key]

    def _binary(self, name: str, x: Value, y: Value) -> Value:
        return self.emit(x.dtype, x.lanes, f"{name} {x.name}, {y.name} : {x.type}")

    def _unary(self, name: str, x: Value) -> Value:
        return self.emit(x.dtype, x.lanes, f"{name} {x.name} : {x.type}")

    def _convert(self, name: str, x: Value, dtype: str) -> Value:
        target = type_text(dtype, x.lanes)
        return self.emit(dtype, x.lanes, f"{name} {x.name} : {x.type} to {target}")

    def add(self, x: Value, y: Value) -> Value:
        return self._binary("arith.addf", x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self._binary("arith.subf", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self._binary("arith.mulf", x, y)

    def div(self, x: Value, y: Value) -> Value:
        return self._binary("arith.divf", x, y)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        if not self.fused:
            return self.add(self.mul(x, y), z)
        return self.emit(x.dtype, x.lanes, f"math.fma {x.name}, {y.name}, {z.name} : {x.type}")

    def neg(self, x: Value) -> Value:
        return self._unary("arith.negf", x)

    def abs(self, x: Value) -> Value:
        return self._unary("math.absf", x)

    def sqrt(self, x: Value) -> Value:
        return self._unary("math.sqrt", x)

    def floor(self, x: Value) -> Value:
        return self._unary("math.floor", x)

    def ceil(self, x: Value) -> Value:
        return self._unary("math.ceil", x)

    def trunc(self, x: Value) -> Value:
        return self._unary("math.trunc", x)

    def rint(self, x: Value) -> Value:
        return self._unary("math.roundeven", x)

    def fcmp(self, op: str, x: Value, y: Value) -> Value:
        operation = f"arith.cmpf {_FLOAT_COMPARE[op]}, {x.name}, {y.name} : {x.type}"
        return self.emit("i1", x.lanes, operation)

    def icmp(self, op: str, x: Value, y: Value, signed: bool = True) -> Value:
        name = {"==": "eq", "!=": "ne"}.get(op)
        if name is None:
            name = ("s" if signed else "u") + _INT_COMPARE[op]
        return self.emit("i1", x.lanes, f"arith.cmpi {name}, {x.name}, {y.name} : {x.type}")

    def select(self, mask: Value, x: Value, y: Value) -> Value:
        types = f"{mask.type}, {x.type}" if mask.lanes else x.type
        return self.emit(
            x.dtype, x.lanes, f"arith.select {mask.name}, {x.name}, {y.name} : {types}"
        )

    def iadd(self, x: Value, y: Value) -> Value:
        return self._binary("arith.addi", x, y)

    def isub(self, x: Value, y: Value) -> Value:
        return self._binary("arith.subi", x, y)

    def imul(self, x: Value, y: Value) -> Value:
        return self._binary("arith.muli", x, y)

    def and_(self, x: Value, y: Value) -> Value:
        return self._binary("arith.andi", x, y)

    def or_(self, x: Value, y: Value) -> Value:
        return self._binary("arith.ori", x, y)

    def xor(self, x: Value, y: Value) -> Value:
        return self._binary("arith.xori", x, y)

    def shl(self, x: Value, y: Value) -> Value:
        return self._binary("arith.shli", x, y)

    def lshr(self, x: Value, y: Value) -> Value:
        return self._binary("arith.shrui", x, y)

    def ashr(self, x: Value, y: Value) -> Value:
        return self._binary("arith.shrsi", x, y)

    def bits(self, x: Value) -> Value:
        return self._convert("arith.bitcast", x, f"i{_WIDTH[x.dtype]}")

    def from_bits(self, x: Value) -> Value:
        return self._convert("arith.bitcast", x, "f" + x.dtype[1:])

    def fpcast(self, x: Value, dtype: str) -> Value:
        old, new = _WIDTH[x.dtype], _WIDTH[dtype]
        if old == new:
            return x
        return self._convert("arith.extf" if new > old else "arith.truncf", x, dtype)

    def sext(self, x: Value, dtype: str) -> Value:
        return self._convert("arith.extsi", x, dtype)

    def zext(self, x: Value, dtype: str) -> Value:
        return self._convert("arith.extui", x, dtype)

    def itrunc(self, x: Value, dtype: str) -> Value:
        return self._convert("arith.trunci", x, dtype)

    def itof(self, x: Value, dtype: str, signed: bool = True) -> Value:
        return self._convert("arith.sitofp" if signed else "arith.uitofp", x, dtype)

    def ftoi(self, x: Value, dtype: str, signed: bool = True) -> Value:
        return self._convert("arith.fptosi" if signed else "arith.fptoui", x, dtype)

    def any(self, mask: Value) -> Value:
        if not mask.lanes:
            return mask
        return self.emit("i1", 0, f"vector.reduction <or>, {mask.name} : {mask.type} into i1")

    def inside(self, body: Callable[[], list[Value]]) -> tuple[list[str], list[Value]]:
        """Lines that ``body`` appends and the values it gives."""
        outer, self.lines = self.lines, []
        values = body()
        inner, self.lines = self.lines, outer
        return inner, values

    def results(self, values: list[Value]) -> tuple[str, list[Value]]:
        """(``%n:k = `` prefix, results) for an operation with the types of ``values``."""
        if not values:
            return "", []
        name = self.fresh()
        results = [MlirValue(f"{name}#{k}", v.dtype, v.lanes) for k, v in enumerate(values)]
        return f"{name}:{len(values)} = ", list(results)

    def if_any(self, mask: Value, then: Callable[[], Value], other: Value) -> Value:
        cond = self.any(mask)
        yes, (first,) = self.inside(lambda: [then()])
        prefix, (result,) = self.results([other])
        self.lines.append(f"{prefix}scf.if {cond.name} -> ({other.type}) {{")
        self.lines += [*yes, f"scf.yield {first.name} : {first.type}", "} else {"]
        self.lines += [f"scf.yield {other.name} : {other.type}", "}"]
        return result
