"""Elementwise epilogues: what a kernel does to each output element before it is stored.

An epilogue is a short SSA program. References number the values: 0 is the kernel's own result,
1..E are the extras in order, E+1.. are the steps in order. It is part of the kernel's spec, hence
frozen and hashable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.builder import F32, I1, I8, I32, I64, PTR, Code, Int, zeros

INDEX_STRIDES = {"scalar": "", "row": "", "col": "m", "full": "m"}
"""Index map -> the run-time strides it declares, in order ('m': elements from row to row)."""


@dataclass(frozen=True)
class Extra:
    """An operand of the epilogue other than the kernel's result.

    ``index``, with output element (m, n):
      ``scalar``  x[0]
      ``row``     x[n], one value a column
      ``col``     x[m * stride_m], one value a row
      ``full``    x[m * stride_m + n]
    ``dtype``: ``f32``, ``f16`` (widened when it is loaded), ``i8`` for a boolean (0 or 1), which
    only ``where`` takes, or ``i32`` for kernels whose result is an integer.
    A batched kernel adds a batch stride in front of these (see its spec).
    """

    index: str
    dtype: str = "f32"


@dataclass(frozen=True)
class Step:
    """One operation: ``op`` of the values ``args`` (references), with float immediates."""

    op: str
    args: tuple[int, ...]
    immediates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Epilogue:
    """Extras, steps and the reference of the value to store. Raises ValueError when malformed."""

    extras: tuple[Extra, ...] = ()
    steps: tuple[Step, ...] = ()
    result: int = 0

    def __post_init__(self) -> None:
        known = 1 + len(self.extras)
        for step in self.steps:
            if step.op not in ARITY:
                raise ValueError(f"unknown epilogue op '{step.op}'; known ops: {', '.join(ARITY)}")
            arity, immediates = ARITY[step.op]
            if len(step.args) != arity or len(step.immediates) != immediates:
                raise ValueError(
                    f"epilogue op '{step.op}' takes {arity} operands and {immediates} immediates, "
                    f"got {len(step.args)} and {len(step.immediates)}"
                )
            if any(not 0 <= ref < known for ref in step.args):
                raise ValueError(f"epilogue step {step} refers to a value that is not yet defined")
            known += 1
        if not 0 <= self.result < known:
            raise ValueError(f"epilogue result {self.result} is not one of its {known} values")
        for extra in self.extras:
            if extra.index not in INDEX_STRIDES:
                raise ValueError(f"unknown epilogue index map '{extra.index}'")

    @property
    def identity(self) -> bool:
        return self.result == 0

    @property
    def stride_count(self) -> int:
        """Run-time dims the extras declare, in order of extras (without batch strides)."""
        return sum(len(INDEX_STRIDES[e.index]) for e in self.extras)


IDENTITY = Epilogue()

ARITY: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "max", "min"), (2, 0)),
    **dict.fromkeys(("neg", "abs", "sqrt", "exp", "log", "erf", "tanh", "sigmoid"), (1, 0)),
    **dict.fromkeys(("relu", "gelu_erf", "gelu_tanh", "silu", "reciprocal"), (1, 0)),
    **dict.fromkeys(("convert", "round"), (1, 0)),
    "constant": (0, 1),
    "integer": (0, 1),
    "clamp": (1, 2),
    "round_quotient": (1, 1),
    "where": (3, 0),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal", "equal"), (2, 0)),
}
"""Op -> (operands, immediates). Comparisons give a boolean for ``where``. ``add``, ``sub`` and
``mul`` of two i32 give an i32, wrapping, ``integer`` is a constant of that type; ``convert`` makes
it f32. ``round``: half to even; ``round_quotient``: of the correctly rounded quotient by a number
whose magnitude is from 2**-60 to 2**60."""

_ELEMENTS = {"f32": F32, "i8": I8, "i32": I32, "f16": ir.HalfType()}
BYTES = {"f32": 4, "i8": 1, "i32": 4, "f16": 2}
"""Of an element of an extra."""

_COMPARE = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "=="}


def emit_step(code: Code, step: Step, args: Sequence[ir.Value], lanes: int) -> ir.Value:
    """One step on vectors of ``lanes`` f32 (NaN operands give NaN, as in ONNX)."""
    b, op = code.b, step.op
    if op in ("add", "sub", "mul") and args[0].type.element == I32:
        return getattr(b, op)(*args)
    if op in ("add", "sub", "mul", "div"):
        return getattr(b, "f" + op)(*args)
    if op == "convert":
        return b.sitofp(args[0], code.vector(lanes))
    if op == "round":
        return code.intrinsic("roundeven", args[0])
    if op in ("max", "min"):
        return code.intrinsic("maximum" if op == "max" else "minimum", *args)
    if op == "neg":
        return b.fneg(args[0])
    if op in ("abs", "sqrt"):
        return code.intrinsic("fabs" if op == "abs" else "sqrt", args[0])
    if op == "reciprocal":
        return b.fdiv(code.splat(1.0, lanes), args[0])
    if op == "relu":
        zero = code.splat(0.0, lanes)
        return b.select(b.fcmp_ordered("<", args[0], zero), zero, args[0])
    if op == "constant":
        return code.splat(step.immediates[0], lanes)
    if op == "integer":
        return code.splat(int(step.immediates[0]), lanes, I32)
    if op == "clamp":
        low, high = (code.splat(x, lanes) for x in step.immediates)
        x = b.select(b.fcmp_ordered("<", args[0], low), low, args[0])
        return b.select(b.fcmp_ordered(">", x, high), high, x)
    if op == "round_quotient":
        return code.intrinsic("roundeven", _quotient(code, args[0], step.immediates[0], lanes))
    if op == "where":
        return b.select(*args)
    if op in _COMPARE:
        return b.fcmp_ordered(_COMPARE[op], *args)
    return _transcendental(code, op, args[0], lanes)


def _quotient(code: Code, x: ir.Value, divisor: float, lanes: int) -> ir.Value:
    """x / divisor, rounded correctly where it is not tiny: see int8_quantize for the method."""
    by = code.splat(divisor, lanes)
    if not code.target.fma:
        return code.b.fdiv(x, by)
    inverse = code.splat(float(np.float32(1) / np.float32(divisor)), lanes)
    minus = code.splat(-divisor, lanes)
    first = value = code.b.fmul(x, inverse)
    for _ in range(2):
        value = code.fma(code.fma(minus, value, x), inverse, value)
    return code.b.select(code.b.fcmp_ordered("ord", value, value), value, first)


def _transcendental(code: Code, op: str, x: ir.Value, lanes: int) -> ir.Value:
    # Imported late: kernels without such an epilogue must not need the polynomials.
    from tilewright.backends.llvm import table_activation, vecmath

    if table_activation.supports(code.target, op, lanes):
        return table_activation.emit(code, op, x)

    emit = getattr(vecmath, f"emit_{op}")
    result: ir.Value = emit(code.b, x, code.target.fma)
    return result


@dataclass(frozen=True)
class Operand:
    """Where an extra lives at run time: base pointer of this batch element and row stride."""

    base: ir.Value
    stride_m: Int


def load_extras(
    code: Code, epilogue: Epilogue, args: ir.Value, first: int, dims: ir.Value, first_dim: int
) -> tuple[Operand, ...]:
    """Pointers and row strides of the epilogue's extras, from args and dims in their order."""
    operands = []
    for i, extra in enumerate(epilogue.extras):
        stride: Int = 0
        if INDEX_STRIDES[extra.index]:
            stride = code.load(code.at(dims, first_dim, I64), I64)
            first_dim += 1
        operands.append(Operand(code.load(code.at(args, first + i, PTR), PTR), stride))
    return tuple(operands)


def from_row(
    code: Code, epilogue: Epilogue, operands: Sequence[Operand], row: Int
) -> tuple[Operand, ...]:
    """``operands`` as a product sees them whose row 0 is ``row`` of theirs."""
    return tuple(
        Operand(code.at(o.base, code.mul(row, o.stride_m), _ELEMENTS[extra.dtype]), o.stride_m)
        for extra, o in zip(epilogue.extras, operands, strict=True)
    )


def from_column(
    code: Code, epilogue: Epilogue, operands: Sequence[Operand], column: Int
) -> tuple[Operand, ...]:
    """``operands`` as a product sees them whose column 0 is ``column`` of theirs."""
    return tuple(
        Operand(code.at(o.base, column, _ELEMENTS[extra.dtype]), o.stride_m)
        if extra.index in ("row", "full")
        else o
        for extra, o in zip(epilogue.extras, operands, strict=True)
    )


def emit(
    code: Code,
    epilogue: Epilogue,
    value: ir.Value,
    operands: Sequence[Operand],
    m: Int,
    n: Int,
    mask: ir.Value | None,
) -> ir.Value:
    """Run ``epilogue`` on the vector ``value`` = result[m, n : n + lanes]; masked lanes read 0."""
    lanes = value.type.count
    values = [value]
    for extra, operand in zip(epilogue.extras, operands, strict=True):
        element = _ELEMENTS[extra.dtype]
        row = code.at(operand.base, code.mul(m, operand.stride_m), element)
        if extra.index in ("scalar", "col"):
            loaded = code.splat(code.load(row, element), lanes)
        else:
            loaded = code.vload(code.at(row, n, element), lanes, mask, element)
        if element is I8:
            loaded = code.b.icmp_unsigned("!=", loaded, zeros(loaded.type))
        if extra.dtype == "f16":
            loaded = code.b.fpext(loaded, code.vector(lanes))
        values.append(loaded)
    for step in epilogue.steps:
        values.append(emit_step(code, step, [values[ref] for ref in step.args], lanes))
    result = values[epilogue.result]
    if result.type.element == I1:
        raise ValueError("an epilogue's result must be f32, not a comparison")
    return result


def evaluate(epilogue: Epilogue, value: np.ndarray, extras: Sequence[np.ndarray]) -> np.ndarray:
    """The same program in numpy, in ``value``'s precision; extras broadcast against ``value``
    (``col`` extras as [..., M, 1])."""
    values: list[np.ndarray] = [value, *extras]
    for step in epilogue.steps:
        values.append(_NUMPY[step.op](*(values[ref] for ref in step.args), *step.immediates))
    return np.broadcast_to(values[epilogue.result], value.shape)


def view_extras(
    epilogue: Epilogue, extras: Sequence[np.ndarray], strides: Sequence[int], m: int, n: int
) -> list[np.ndarray]:
    """Each extra as an array that broadcasts against [M, N]."""
    views, left = [], list(strides)
    for extra, data in zip(epilogue.extras, extras, strict=False):
        size = data.itemsize
        if extra.index == "scalar":
            view = data.reshape(-1)[:1]
        elif extra.index == "row":
            view = data.reshape(-1)[:n]
        elif extra.index == "col":
            view = np.lib.stride_tricks.as_strided(data, (m, 1), (size * left.pop(0), size))
        else:
            view = np.lib.stride_tricks.as_strided(data, (m, n), (size * left.pop(0), size))
        if extra.dtype == "i32":
            views.append(view)
        else:
            views.append(view != 0 if extra.dtype == "i8" else view.astype(np.float64))
    return views


def _erf(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.asarray(np.vectorize(erf, otypes=[np.float64])(x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "convert": lambda x: x.astype(np.float64),
    "round": np.rint,
    "exp": np.exp,
    "log": np.log,
    "erf": _erf,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda x: np.where(x < 0, 0, x),
    "gelu_erf": lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "constant": lambda c: np.asarray(c),
    "integer": lambda c: np.asarray(c, np.int32),
    "round_quotient": lambda x, divisor: np.rint(x / divisor),
    "clamp": lambda x, low, high: np.where(x < low, low, np.where(x > high, high, x)),
    "where": lambda c, x, y: np.asarray(np.where(c, x, y)),
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
}
