"""What follows several integer contractions alike: zero points, casts, scales, biases, rounding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.ops.binary import Mul
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.shape import Reshape
from tilewright.compiler.ir.rewrite import Builder, with_operands
from tilewright.passes.match import constant_array
from tilewright.passes.op_sets import EPILOGUE_OPS


@dataclass(frozen=True)
class CommonStep:
    """One elementwise operation a start, which takes the value before as operand `place`."""

    ops: tuple[Op, ...]
    place: int


def common_steps(
    starts: Sequence[Value], used: Mapping[Value, list[Op]], outputs: set[Value]
) -> list[CommonStep]:
    """The longest list of steps that all starts, which lie side by side, go through.

    Each alone reads the value before. Its other operands are alike for all starts: constants of one
    value a column or one for all, or products of such constants and the same scalars.
    """
    found: list[CommonStep] = []
    values = list(starts)
    while True:
        readers = [used.get(v, []) for v in values]
        if any(len(r) != 1 for r in readers) or not outputs.isdisjoint(values):
            return found
        step = _step([r[0] for r in readers], values)
        if step is None:
            return found
        found.append(step)
        values = [op.results[0] for op in step.ops]


def _step(ops: Sequence[Op], values: Sequence[Value]) -> CommonStep | None:
    first = ops[0]
    if type(first) not in EPILOGUE_OPS or values[0] not in first.operands:
        return None
    place = first.operands.index(values[0])
    for op, value in zip(ops, values, strict=True):
        same = type(op) is type(first) and op.results[0].dtype == first.results[0].dtype
        if not same or op.results[0].shape != value.shape:
            return None
        if [i for i, v in enumerate(op.operands) if v is value] != [place]:
            return None
    widths = [v.shape[-1] for v in values]
    columns = list(zip(*(op.operands for op in ops), strict=True))
    del columns[place]
    return CommonStep(tuple(ops), place) if all(_alike(c, widths) for c in columns) else None


def _alike(values: Sequence[Value], widths: Sequence[object]) -> bool:
    first, makers = values[0], [v.op for v in values]
    for value, width in zip(values, widths, strict=True):
        row = value.shape[-1:] == (width,) and all(d == 1 for d in value.shape[:-1])
        if value.dtype != first.dtype or not (row or value.type.elements == 1):
            return False
    if all(isinstance(m, Constant | Fill) for m in makers):
        return True
    if all(v is first for v in values):
        return first.type.elements == 1
    for kind in (Mul, Reshape):
        if all(isinstance(m, kind) for m in makers):
            parts = zip(*(m.operands for m in makers if m is not None), strict=True)
            return all(_alike(part, widths) for part in parts)
    return False


def emit_steps(
    merged: Value,
    steps: Sequence[CommonStep],
    current: Mapping[Op, Op],
    index: int,
    widths: Sequence[int],
    builder: Builder,
) -> Value:
    """`steps` on all columns at once. `current`: operations of start `index` as they are now."""
    for step in steps:
        now = current[step.ops[index]]
        operands = {now.operands[step.place]: merged}
        for i, new in enumerate(now.operands):
            if i != step.place:
                column = [op.operands[i] for op in step.ops]
                operands[new] = _joined(column, new, widths, builder)
        made = with_operands(now, operands, {})
        builder.ops.append(made)
        merged = made.results[0]
    return merged


def _joined(values: Sequence[Value], now: Value, widths: Sequence[int], builder: Builder) -> Value:
    """One operand for all columns; `now`: one of `values` as it is now."""
    arrays = [constant_array(builder, v) for v in values]
    known = [a.reshape(-1) for a in arrays if a is not None]
    if len(known) == len(values):
        if all(a.size == 1 and a[0] == known[0][0] for a in known):
            return now
        flat = [np.broadcast_to(a, (w,)) for a, w in zip(known, widths, strict=True)]
        return builder.constant(np.concatenate(flat), "merged.column")
    if all(v is values[0] for v in values):
        return now
    makers = [v.op for v in values if v.op is not None]
    assert now.op is not None
    parts = [
        _joined(part, operand, widths, builder)
        for part, operand in zip(
            zip(*(m.operands for m in makers), strict=True), now.op.operands, strict=True
        )
    ]
    return parts[0] if len(parts) == 1 else builder.emit(Mul, a=parts[0], b=parts[1])
