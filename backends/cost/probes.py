"""Kernels that measure a machine: multiplications on data in L1, reads, writes, elementwise work.

All have the kernel ABI; a unit is one repetition. Their operands lie in scratch, but for reads and
writes, whose buffer is argument 0 with p0 bytes (a multiple of 4 KiB).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.builder import F32, I8, I32, KERNEL_TYPE, VOID, Code
from tilewright.backends.llvm.frame import load_dim, load_pointer, ok
from tilewright.backends.target import Target

SCRATCH = 64 << 10
"""Bytes of scratch, operands and result."""

DEPTH = 128
"""Steps of one repetition of a multiplication."""

OPERATIONS = 8
"""Elementwise operations between a load and a store."""

_SIDE = 24 << 10
_RESULT = 48 << 10
_I16 = ir.IntType(16)


@dataclass(frozen=True)
class Probe:
    """A kernel and what one repetition of it does: operations, or bytes of its buffer (0)."""

    name: str
    operations: int


def multiplications(module: ir.Module, target: Target) -> dict[str, Probe]:
    """Emit a probe for each unit of `Cost.unit` that ``target`` has."""
    features, wide = set(target.all_features), target.vector_bits == 512
    found = {"f32": _dots(module, target, "f32", F32, F32, 1, lambda c, s, a, b: c.fma(a, b, s))}
    if bf16.has_dots(target):
        found["bf16_dot"] = _dots(
            module, target, "bf16_dot", F32, I32, 2, lambda c, s, a, b: bf16.dot(c, s, a, b)
        )
    if target.triple.startswith("x86_64"):
        step = _vnni if wide and "avx512vnni" in features else _widened
        found["int8_dot"] = _dots(module, target, "int8_dot", I32, I32, 4, step)
    elif "dotprod" in features:
        found["int8_dot"] = _dots(module, target, "int8_dot", I32, I32, 4, _neon_dot)
    if "avx512fp16" in features or "fullfp16" in features:
        found["f16"] = _halves(module, target)
    for unit, feature in (("bf16_tile", "amx-bf16"), ("int8_tile", "amx-int8")):
        if {"amx-tile", feature} <= features:
            found[unit] = _tiles(module, target, unit)
    return found


def _start(module: ir.Module, target: Target, name: str) -> tuple[ir.Function, Code]:
    fn = ir.Function(module, KERNEL_TYPE, f"probe_{name}")
    return fn, Code(ir.IRBuilder(fn.append_basic_block("entry")), target)


_Step = Callable[[Code, ir.Value, ir.Value, ir.Value], ir.Value]


def _dots(
    module: ir.Module,
    target: Target,
    name: str,
    result: ir.Type,
    operand: ir.Type,
    depth: int,
    step: _Step,
) -> Probe:
    """A register block of broadcast rows by two vectors of 32-bit lanes, ``depth`` products a
    lane: 12 x 2 of 32 registers, 5 x 2 of 16."""
    rows, lanes = (12 if target.vector_regs >= 32 else 5), target.lanes_f32
    _grid(module, target, name, rows, lanes, result, operand, step)
    return Probe(f"probe_{name}", 2 * rows * 2 * lanes * depth * DEPTH)


def _halves(module: ir.Module, target: Target) -> Probe:
    half, rows = ir.HalfType(), 12
    lanes = target.vector_bits // 16
    kind = ir.VectorType(half, lanes)

    def step(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
        name = f"llvm.fma.v{lanes}f16"
        return code.b.call(
            code.declare(name, ir.FunctionType(kind, [kind] * 3)), [left, right, total]
        )

    _grid(module, target, "f16", rows, lanes, half, half, step)
    return Probe("probe_f16", 2 * rows * 2 * lanes * DEPTH)


def _grid(
    module: ir.Module,
    target: Target,
    name: str,
    rows: int,
    lanes: int,
    result: ir.Type,
    operand: ir.Type,
    step: _Step,
) -> None:
    fn, code = _start(module, target, name)
    a, b = fn.args[4], code.at(fn.args[4], _SIDE, I8)
    zero = ir.Constant(ir.VectorType(result, lanes), None)
    with code.loop(fn.args[2], fn.args[3]):
        with code.loop(0, DEPTH, 1, [zero] * (2 * rows)) as k:
            right = [
                code.vload(
                    code.at(b, code.add(code.mul(k.index, 2 * lanes), v * lanes), operand),
                    lanes,
                    element=operand,
                )
                for v in range(2)
            ]
            for r in range(rows):
                # Rows of A are DEPTH + 16 elements apart, as rows of a matrix are.
                at = code.add(k.index, r * (DEPTH + 16))
                left = code.splat(code.load(code.at(a, at, operand), operand), lanes)
                for v in range(2):
                    i = 2 * r + v
                    k.next[i] = step(code, k.next[i], left, right[v])
            # As in the micro-kernels: without it LLVM hoists broadcasts and spills.
            code.b.fence("seq_cst", "singlethread")
        for i, total in enumerate(k.carried):
            target_at = code.at(fn.args[4], _RESULT, I8)
            code.store(total, code.at(target_at, i * lanes, result))
    ok(code)


def _vnni(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    bits, bytes_ = ir.VectorType(I32, 16), ir.VectorType(I8, 64)
    kind = ir.FunctionType(bits, [bits, bytes_, bytes_])
    fn = code.declare("llvm.x86.avx512.vpdpbusd.512", kind)
    return code.b.call(fn, [total, code.b.bitcast(left, bytes_), code.b.bitcast(right, bytes_)])


def _widened(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """Without VNNI, exact: even and odd bytes of B as 16 bits, A held as such, two vpmaddwd."""
    lanes = total.type.count
    words = ir.VectorType(_I16, 2 * lanes)
    name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[lanes]
    add = code.declare(f"llvm.x86.{name}", ir.FunctionType(total.type, [words, words]))
    eight = ir.Constant(words, [8] * (2 * lanes))
    held, both = code.b.bitcast(left, words), code.b.bitcast(right, words)
    for part in (code.b.ashr(code.b.shl(both, eight), eight), code.b.ashr(both, eight)):
        total = code.b.add(total, code.b.call(add, [held, part]))
    return total


def _neon_dot(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    bytes_ = ir.VectorType(I8, 16)
    kind = ir.FunctionType(total.type, [total.type, bytes_, bytes_])
    fn = code.declare("llvm.aarch64.neon.sdot.v4i32.v16i8", kind)
    return code.b.call(fn, [total, code.b.bitcast(left, bytes_), code.b.bitcast(right, bytes_)])


def _tiles(module: ir.Module, target: Target, unit: str) -> Probe:
    """2 x 2 tiles, eight steps deep: 16 KiB of A, 16 KiB of B."""
    steps = 8
    fn, code = _start(module, target, unit)
    a, b = fn.args[4], code.at(fn.args[4], _SIDE, I8)
    out = code.at(fn.args[4], _RESULT, I8)
    instruction = "llvm.x86.tdpbf16ps" if unit == "bf16_tile" else "llvm.x86.tdpbusd"
    multiply = code.declare(instruction, ir.FunctionType(VOID, [I8, I8, I8]))
    amx.configure(code)
    with code.loop(fn.args[2], fn.args[3]):
        for tile in range(4):
            amx.zero(code, tile)
        with code.loop(0, steps) as step:
            at = code.mul(step.index, 2048)
            for i in range(2):
                amx.load(code, 4 + i, code.at(code.at(a, at, I8), 1024 * i, I8), 64)
                amx.load(code, 6 + i, code.at(code.at(b, at, I8), 64 * i, I8), 128)
            for tile in range(4):
                registers = (tile, 4 + tile // 2, 6 + tile % 2)
                code.b.call(multiply, [ir.Constant(I8, x) for x in registers])
        for tile in range(4):
            amx.store(code, tile, code.at(out, 1024 * tile, I8), 64)
    amx.release(code)
    ok(code)
    deep = 32 if unit == "bf16_tile" else 64
    return Probe(f"probe_{unit}", 2 * 32 * 32 * deep * steps)


def read(module: ir.Module, target: Target) -> Probe:
    """Emit a kernel that loads every byte of its buffer."""
    fn, code = _start(module, target, "read")
    lanes = target.lanes_f32
    at_once = 8
    base, size = load_pointer(code, fn.args[0], 0), load_dim(code, fn.args[1], 0)
    start = [ir.Constant(ir.VectorType(I32, lanes), None)] * at_once
    with code.loop(fn.args[2], fn.args[3], 1, start) as turn:
        with code.loop(0, code.div(size, 4), at_once * lanes, turn.carried) as line:
            line.next = [
                code.b.or_(
                    total,
                    code.vload(
                        code.at(base, code.add(line.index, i * lanes), I32), lanes, element=I32
                    ),
                )
                for i, total in enumerate(line.carried)
            ]
            # A load whose value is not used would go away.
            code.b.fence("seq_cst", "singlethread")
        turn.next = line.carried
    _keep(code, turn.carried, fn.args[4])
    ok(code)
    return Probe("probe_read", 0)


def _keep(code: Code, values: Sequence[ir.Value], where: ir.Value) -> None:
    total = values[0]
    for value in values[1:]:
        total = code.b.or_(total, value)
    code.store(total, where)


def write(module: ir.Module, target: Target) -> Probe:
    """Emit a kernel that stores to every byte of its buffer."""
    fn, code = _start(module, target, "write")
    lanes = target.lanes_f32
    base, size = load_pointer(code, fn.args[0], 0), load_dim(code, fn.args[1], 0)
    with code.loop(fn.args[2], fn.args[3]) as turn:
        value = code.splat(code.b.trunc(turn.index, I32), lanes, I32)
        with code.loop(0, code.div(size, 4), 4 * lanes) as line:
            for i in range(4):
                code.store(value, code.at(base, code.add(line.index, i * lanes), I32))
            code.b.fence("seq_cst", "singlethread")
    ok(code)
    return Probe("probe_write", 0)


def elementwise(module: ir.Module, target: Target) -> Probe:
    """Emit a kernel like an epilogue: load, OPERATIONS multiplications, additions and maxima of a
    vector with constants, store; over 8 KiB."""
    fn, code = _start(module, target, "elementwise")
    lanes, count = target.lanes_f32, 2048
    scale, shift = (code.splat(x, lanes) for x in (1.0000001, 1e-7))
    with (
        code.loop(fn.args[2], fn.args[3]),
        code.loop(0, count, 4 * lanes) as at,
    ):
        values = [
            code.vload(code.at(fn.args[4], code.add(at.index, i * lanes)), lanes) for i in range(4)
        ]
        for _ in range(OPERATIONS // 4):
            values = [code.b.fmul(v, scale) for v in values]
            values = [code.b.fadd(v, shift) for v in values]
            values = [code.b.fsub(v, scale) for v in values]
            below = [code.b.fcmp_ordered("<", v, shift) for v in values]
            values = [
                code.b.select(small, shift, v) for small, v in zip(below, values, strict=True)
            ]
        for i, v in enumerate(values):
            code.store(v, code.at(fn.args[4], code.add(at.index, i * lanes)))
        code.b.fence("seq_cst", "singlethread")
    ok(code)
    return Probe("probe_elementwise", count * OPERATIONS)


def nothing(module: ir.Module, target: Target) -> ir.Function:
    """Emit a kernel that returns at once, and give it back."""
    fn, code = _start(module, target, "nothing")
    ok(code)
    return fn
