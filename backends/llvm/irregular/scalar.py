"""The elementwise operations on single values, for every element type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tilewright.backends.llvm.irregular.fmod import emit_fmod
from tilewright.backends.llvm.irregular.integer import INTEGER
from tilewright.backends.llvm.irregular.nest import Nest
from tilewright.backends.llvm.irregular.numeric import (
    F32,
    F64,
    compute_type,
    convert,
    decode,
    encode,
    narrowed,
)
from tilewright.backends.llvm.vecmath import emit_pow, emit_unary
from tilewright.compiler.ir.core import OPS, Op, Region, Value
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Step:
    """One operation of a program: its name, literal attributes, inputs by number, result type.

    Numbers count the program's inputs first, then its steps.
    """

    name: str
    attributes: tuple[tuple[str, Any], ...]
    inputs: tuple[int, ...]
    sources: tuple[DType, ...]
    target: DType


@dataclass(frozen=True)
class Program:
    """Elementwise steps from `inputs` (their types) to one result, the number `result`."""

    inputs: tuple[DType, ...]
    steps: tuple[Step, ...]
    result: int


_STRUCTURAL = ("broadcast",)
"""Operations that the program's broadcasting of inputs already does."""


def elementwise(op: Op | type[Op]) -> bool:
    """Whether a program may contain `op` (an operation or a class)."""
    return op.opname in _UNARY_FLOAT or op.opname in _OTHERS or op.opname in _BINARY


def single(op: Op) -> Program:
    """The program that is just `op`."""
    sources = tuple(v.dtype for v in op.operands)
    attributes = tuple(op.attributes.items())
    step = Step(op.opname, attributes, tuple(range(len(sources))), sources, op.out.dtype)
    return Program(sources, (step,), len(sources))


def of_region(body: Region) -> Program | None:
    """The program of a region with one result, or None if it has other operations.

    Every parameter must broadcast to the result as it is.
    """
    numbers: dict[Value, int] = {p: i for i, p in enumerate(body.params)}
    steps: list[Step] = []
    for op in body.ops:
        if op.opname in _STRUCTURAL:
            numbers[op.out] = numbers[op.operands[0]]
            continue
        if not elementwise(op) or any(v not in numbers for v in op.operands):
            return None
        inputs = tuple(numbers[v] for v in op.operands)
        sources = tuple(v.dtype for v in op.operands)
        steps.append(Step(op.opname, tuple(op.attributes.items()), inputs, sources, op.out.dtype))
        numbers[op.out] = len(body.params) + len(steps) - 1
    return Program(tuple(p.dtype for p in body.params), tuple(steps), numbers[body.results[0]])


def run(k: Nest, program: Program, values: Sequence[ir.Value]) -> ir.Value:
    """Emit a program; `values` are its inputs in their compute types."""
    known = list(values)
    last = len(program.steps) - 1
    for index, step in enumerate(program.steps):
        value = emit_step(k, step, [known[i] for i in step.inputs])
        known.append(value if index == last else rounded(k, value, step.target))
    return known[program.result]


def rounded(k: Nest, value: ir.Value, dtype: DType) -> ir.Value:
    """A computed value as reading it back from memory would give it."""
    if dtype.is_float and dtype not in (DType.F64, DType.F32):
        return decode(k.m, dtype, encode(k.m, dtype, value, half=k.half), k.half)
    return value


def emit_step(k: Nest, step: Step, args: Sequence[ir.Value]) -> ir.Value:
    """One elementwise operation on computed values."""
    dtype = step.sources[-1]
    if step.name in _UNARY_FLOAT:
        return emit_unary(k.b, _UNARY_FLOAT[step.name], args[0], fma=k.m.fused)
    if step.name in _OTHERS:
        return _OTHERS[step.name](k, step, *args)
    if dtype.is_float:
        return _FLOAT[step.name](k, *args)
    value = INTEGER[step.name](k, dtype, *args)
    return value if step.target == DType.BOOL else narrowed(k.m, value, step.target)


_UNARY_FLOAT = {
    name: name
    for name in (
        *("exp", "log", "erf", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh"),
        *("cosh", "asinh", "acosh", "atanh", "sigmoid", "silu", "gelu_tanh", "softplus"),
    )
} | {"gelu": "gelu_erf"}


def _const(k: Nest, x: ir.Value, value: float) -> ir.Value:
    return k.m.const(k.m.dtype(x), value)


def _is_nan(k: Nest, x: ir.Value) -> ir.Value:
    return k.b.fcmp_unordered("uno", x, x)


def float_min(k: Nest, a: ir.Value, b: ir.Value) -> ir.Value:
    """The smaller; NaN if either is NaN."""
    smaller = k.m.select(k.m.fcmp("<", a, b), a, b)
    return k.m.select(_is_nan(k, a), a, smaller)


def float_max(k: Nest, a: ir.Value, b: ir.Value) -> ir.Value:
    """The larger; NaN if either is NaN."""
    larger = k.m.select(k.m.fcmp(">", a, b), a, b)
    return k.m.select(_is_nan(k, a), a, larger)


def _fmod(k: Nest, a: ir.Value, b: ir.Value) -> ir.Value:
    wide = a if a.type == F64 else k.b.fpext(a, F64)
    other = b if b.type == F64 else k.b.fpext(b, F64)
    rest = k.b.call(emit_fmod(k.b.module), [wide, other])
    return rest if a.type == F64 else k.b.fptrunc(rest, F32)


def _mod(k: Nest, a: ir.Value, b: ir.Value) -> ir.Value:
    m, rest, zero = k.m, _fmod(k, a, b), _const(k, a, 0.0)
    differ = m.xor(m.fcmp("<", rest, zero), m.fcmp("<", b, zero))
    wrong = m.and_(m.fcmp("!=", rest, zero), differ)
    return m.select(wrong, m.add(rest, b), rest)


def _compare(op: str) -> Callable[..., ir.Value]:
    return lambda k, a, b: k.m.fcmp(op, a, b)


_FLOAT: dict[str, Callable[..., ir.Value]] = {
    "add": lambda k, a, b: k.m.add(a, b),
    "sub": lambda k, a, b: k.m.sub(a, b),
    "mul": lambda k, a, b: k.m.mul(a, b),
    "div": lambda k, a, b: k.m.div(a, b),
    "pow": lambda k, a, b: emit_pow(k.b, a, b, fma=k.m.fused),
    "mod": _mod,
    "fmod": _fmod,
    "min": float_min,
    "max": float_max,
    "eq": _compare("=="),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "neg": lambda k, x: k.m.neg(x),
    "abs": lambda k, x: k.m.abs(x),
}
_BINARY = {*_FLOAT, *INTEGER}


def _sign(k: Nest, step: Step, x: ir.Value) -> ir.Value:
    m, dtype = k.m, step.target
    if dtype.is_float:
        one, zero = _const(k, x, 1.0), _const(k, x, 0.0)
        flat = m.select(m.fcmp(">", x, zero), one, x)
        flat = m.select(m.fcmp("<", x, zero), m.neg(one), flat)
        return flat
    zero, one = ir.Constant(x.type, 0), ir.Constant(x.type, 1)
    if dtype.kind != "int":
        return m.select(m.icmp("!=", x, zero), one, zero)
    return m.select(
        m.icmp(">", x, zero), one, m.select(m.icmp("<", x, zero), m.isub(zero, one), zero)
    )


def _relu(k: Nest, step: Step, x: ir.Value) -> ir.Value:
    if step.target.is_float:
        return k.m.select(k.m.fcmp("<", x, _const(k, x, 0.0)), _const(k, x, 0.0), x)
    if step.target.kind != "int":
        return x
    zero = ir.Constant(x.type, 0)
    return k.m.select(k.m.icmp("<", x, zero), zero, x)


def _is_inf(k: Nest, step: Step, x: ir.Value) -> ir.Value:
    options, inf = dict(step.attributes), float("inf")
    out: ir.Value = ir.Constant(ir.IntType(1), 0)
    for wanted, value in ((options["positive"], inf), (options["negative"], -inf)):
        if wanted:
            out = k.m.or_(out, k.m.fcmp("==", x, _const(k, x, value)))
    return out


def _cast(k: Nest, step: Step, x: ir.Value) -> ir.Value:
    saturate = dict(step.attributes)["saturate"]
    return convert(k.m, x, step.sources[0], step.target, bool(saturate), k.half)


def _bitcast(k: Nest, step: Step, x: ir.Value) -> ir.Value:
    source, target = step.sources[0], step.target
    raw = encode(k.m, source, x, half=k.half)
    for dtype in (source, target):
        if dtype in (DType.F64, DType.F32):
            integer = ir.IntType(dtype.bits)
            raw = k.b.bitcast(raw, integer if dtype == source else compute_type(dtype))
            if source == target:
                return x
    if target.is_int and target.bits < 8:
        return narrowed(k.m, raw, target)
    if source.is_int and source.bits < 8:
        raw = k.m.and_(raw, k.m.const("i8", (1 << source.bits) - 1))
    return decode(k.m, target, raw, k.half)


_OTHERS: dict[str, Callable[..., ir.Value]] = {
    "sign": _sign,
    "relu": _relu,
    "sqrt": lambda k, s, x: k.m.sqrt(x),
    "ceil": lambda k, s, x: k.m.ceil(x),
    "floor": lambda k, s, x: k.m.floor(x),
    "round": lambda k, s, x: k.m.rint(x),
    "trunc": lambda k, s, x: k.m.trunc(x),
    "reciprocal": lambda k, s, x: k.m.div(_const(k, x, 1.0), x),
    "is_nan": lambda k, s, x: _is_nan(k, x),
    "is_inf": _is_inf,
    "not": lambda k, s, x: k.b.not_(x),
    "cast": _cast,
    "bitcast": _bitcast,
    "where": lambda k, s, c, a, b: k.m.select(c, a, b),
}

assert all(name in OPS for name in (*_UNARY_FLOAT, *_OTHERS, *_BINARY))
