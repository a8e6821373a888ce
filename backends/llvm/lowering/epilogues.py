"""Epilogue regions as the kernels' epilogue programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.llvm.lowering.handing import halved
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Op, Region, Value, users
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops import binary, unary
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.types import DType

STEPS: dict[type[Op], str] = {
    binary.Add: "add",
    binary.Sub: "sub",
    binary.Mul: "mul",
    binary.Div: "div",
    binary.Min: "min",
    binary.Max: "max",
    unary.Neg: "neg",
    unary.Abs: "abs",
    unary.Sqrt: "sqrt",
    unary.Exp: "exp",
    unary.Log: "log",
    unary.Erf: "erf",
    unary.Tanh: "tanh",
    unary.Sigmoid: "sigmoid",
    unary.Relu: "relu",
    unary.Gelu: "gelu_erf",
    unary.GeluTanh: "gelu_tanh",
    unary.Silu: "silu",
    unary.Reciprocal: "reciprocal",
    unary.Round: "round",
    binary.Where: "where",
    binary.Lt: "less",
    binary.Le: "less_equal",
    binary.Gt: "greater",
    binary.Ge: "greater_equal",
    binary.Eq: "equal",
}
"""Operations that kernels can apply to their result in registers."""

_EXTRAS = {DType.F32: "f32", DType.F16: "f16", DType.BOOL: "i8", DType.I32: "i32"}
_KNOWN = {
    DType.F32: (DType.F32, DType.BOOL),
    DType.F16: (DType.F16, DType.BOOL),
    DType.I32: (DType.F32, DType.BOOL, DType.I32),
}
"""Type of a kernel's sums -> types of values that its epilogue computes with. f16 values are f32
until they are stored."""

_WRAPPING = (binary.Add, binary.Sub, binary.Mul)


@dataclass(frozen=True)
class FusedEpilogue:
    """An epilogue, where its extras are, and their run-time strides in the kernel's order.

    `places[i]` is the memory of extra i; `aligned[i]` says that it has the result's own layout, so
    that the result may overwrite it. `views[i]`: a whole matrix as it is stored, which may be f16;
    None for an extra that is read as it is.
    """

    epilogue: Epilogue
    places: tuple[Place, ...]
    strides: tuple[Dim, ...]
    aligned: tuple[bool, ...]
    traffic: Dim = 0
    views: tuple[View | None, ...] = ()

    def overwritten(self, first: int, dtype: DType) -> tuple[tuple[int, int], ...]:
        """Which extras the result may overwrite, as pairs of result and argument; first: argument
        of extra 0, dtype: the result's as it is stored."""
        if dtype == DType.BF16:
            return ()  # takes half of what the extras do
        return tuple((0, first + i) for i, same in enumerate(self.aligned) if same)


NOTHING = FusedEpilogue(IDENTITY, (), (), ())


def as_rows(view: View, outer: int) -> tuple[Dim, Dim, Dim] | None:
    """(rows, row stride, columns) when the first `outer` axes and the rest each merge into one.

    The columns must be contiguous, or all of one element (stride 0, reported as 0 columns).
    """
    lead = merge(view.shape[:outer], view.strides[:outer])
    tail = merge(view.shape[outer:], view.strides[outer:])
    if lead is None or tail is None:
        return None
    if tail[1] == 1 or tail[0] == 1:
        return lead[0], lead[1], tail[0]
    return None


def merge(shape: tuple[Dim, ...], strides: tuple[Dim, ...]) -> tuple[Dim, Dim] | None:
    """The size and stride of axes seen as one, or None when they do not merge."""
    size: Dim = 1
    step: Dim = 0
    for dim, stride in zip(reversed(shape), reversed(strides), strict=True):
        if dim == 1:
            continue
        if size == 1:
            size, step = dim, stride
        elif stride == step * size:
            size = size * dim
        else:
            return None
    return size, step


def fuse(
    low: Lowering,
    body: Region | None,
    extras: tuple[Value, ...],
    perm: tuple[int, ...],
    outer: int,
    batch: int = 0,
    see: Callable[[Value], View] | None = None,
    narrow: bool = False,
) -> FusedEpilogue | None:
    """The epilogue program of `body`, or None when the kernels cannot run it.

    see: where extras are; by default where the lowering has them. narrow: whether whole matrices
    may be read as they are stored, by way of `as_stored`.

    The kernel's result is [batch.., rows, columns]: the axes `perm` of the operation's result, of
    which the first `batch` keep strides of their own and the next `outer` are merged into rows.
    """
    if body is None:
        return NOTHING
    rank, see = len(perm), see or low.view
    first = body.params[0].type
    shape = first.shape
    integers = first.dtype == DType.I32
    known = _KNOWN.get(first.dtype, ())
    floats = (first.dtype if first.dtype == DType.F16 else DType.F32, DType.BOOL)
    refs: dict[Value, int] = {body.params[0]: 0}
    kinds: list[Extra] = []
    places: list[Place] = []
    strides: list[Dim] = []
    aligned: list[bool] = []
    views: list[View | None] = []
    traffic: Dim = 0
    for param, value in zip(body.params[1:], extras, strict=True):
        if value.dtype not in known or value.rank > rank:
            return None
        held = None
        if narrow and value.dtype == DType.F32:
            held = low.stored(value).broadcast(shape).transpose(perm)
            found = _classify(held, outer)
            held = held if found is not None and found[0] == "full" else None
        view = see(value).broadcast(shape).transpose(perm) if held is None else held
        dtype = _EXTRAS[value.dtype]
        lead, view = view, view.inner(batch)
        found = _classify(view, outer)
        if found is None:
            return None
        index, stride = found
        kinds.append(Extra(index, dtype))
        views.append(held)
        places.append(view.at)
        strides += lead.strides[:batch]
        if index in ("col", "full"):
            strides.append(stride)
        aligned.append(index == "full" and view.dtype == floats[0] and lead.whole)
        traffic = traffic + (see(value).bytes if held is None else held.bytes)
        refs[param] = len(refs)
    steps: list[Step] = []
    quotients = _rounded_quotients(low, body)
    for op in body.ops:
        if op.results[0] in quotients:
            continue
        if isinstance(op, Constant | Fill):
            literal = _literal(low, op)
            if literal is None or op.out.dtype not in known or op.out.dtype == DType.BOOL:
                return None
            name = "integer" if op.out.dtype == DType.I32 else "constant"
            steps.append(Step(name, (), (literal,)))
        elif integers and isinstance(op, unary.Cast) and op.x in refs:
            if op.x.dtype == DType.F32 and op.dtype in (DType.U8, DType.I8):
                # What the kernel does when it stores.
                refs[op.out] = refs[op.x]
                if op.out is not body.results[0]:
                    return None
                continue
            if op.x.dtype != DType.I32 or op.dtype != DType.F32:
                return None
            steps.append(Step("convert", (refs[op.x],)))
        elif integers and isinstance(op, _WRAPPING) and op.out.dtype == DType.I32:
            if not all(v in refs for v in op.operands):
                return None
            steps.append(Step(STEPS[type(op)], tuple(refs[v] for v in op.operands)))
        elif isinstance(op, unary.Round) and op.x in quotients:
            x, divisor = quotients[op.x]
            if x not in refs or x.dtype != DType.F32:
                return None
            steps.append(Step("round_quotient", (refs[x],), (divisor,)))
        elif type(op) in STEPS and all(v in refs for v in op.operands):
            if any(v.dtype not in floats for v in op.operands):
                return None
            steps.append(Step(STEPS[type(op)], tuple(refs[v] for v in op.operands)))
        else:
            return None
        refs[op.out] = len(kinds) + len(steps)
    result = body.results[0]
    allowed = (DType.F32, DType.I32, DType.U8, DType.I8) if integers else floats[:1]
    if result.dtype not in allowed or result.type.shape != shape:
        return None
    program = Epilogue(tuple(kinds), tuple(steps), refs[result])
    wide = floats[0] == result.dtype
    same = tuple(a and wide for a in aligned)
    return FusedEpilogue(
        program, tuple(places), tuple(strides), same, traffic, tuple(views) if narrow else ()
    )


def as_stored(low: Lowering, spec: Any, fused: FusedEpilogue) -> tuple[Any, tuple[Place, ...]]:
    """``spec`` reading the extras as they are stored where it can, and where they are: converted
    where it cannot."""
    held = dict(enumerate(fused.views))
    short = {i: low.handing.rounded(view) for i, view in held.items() if view is not None}
    taken = {i: v for i, v in short.items() if v is not None and v.dtype == DType.F16}
    made = halved(low, spec, taken) if taken else spec
    places = list(fused.places)
    for i, view in held.items():
        if view is not None:
            read = taken[i] if i in taken and made is not None else low.widened(view)
            places[i] = read.at
    return (spec if made is None else made), tuple(places)


def _rounded_quotients(low: Lowering, body: Region) -> dict[Value, tuple[Value, float]]:
    """Quotients by a number of which `body` takes nothing but the nearest integers."""
    used = users(body.ops)
    found = {}
    for op in body.ops:
        if not isinstance(op, binary.Div) or not isinstance(op.b.op, Constant | Fill):
            continue
        divisor = _literal(low, op.b.op)
        readers = used.get(op.out, [])
        alone = op.out not in body.results and all(isinstance(r, unary.Round) for r in readers)
        if divisor is not None and op.out.dtype == DType.F32 and alone:
            # As f32, which it may be nearer to than a fill says.
            divisor = float(np.float32(divisor))
            if 2.0**-60 < abs(divisor) < 2.0**60:
                found[op.out] = (op.a, divisor)
    return found


def _literal(low: Lowering, op: Constant | Fill) -> float | None:
    """The number that a literal of a body is, None when it has several elements."""
    if op.out.type.elements != 1:
        return None
    if isinstance(op, Fill):
        return float(op.value)
    return float(np.asarray(low.graph.weights.array(op.name)).reshape(-1)[0])


def _classify(view: View, outer: int) -> tuple[str, Dim] | None:
    lead = merge(view.shape[:outer], view.strides[:outer])
    tail = merge(view.shape[outer:], view.strides[outer:])
    if lead is None or tail is None:
        return None
    if tail[0] != 1 and tail[1] not in (0, 1):
        return None
    flat_rows = lead[0] == 1 or lead[1] == 0
    flat_columns = tail[0] == 1 or tail[1] == 0
    if flat_rows and flat_columns:
        return "scalar", 0
    if flat_rows:
        return "row", 0
    if flat_columns:
        return "col", lead[1]
    return "full", lead[1]
