"""Attention: the fused kernel for f32, else its two contractions and the softmax between them."""

from __future__ import annotations

from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.tasks import AttentionTask
from tilewright.backends.llvm.lowering.handing import hand_on, read_by, settle
from tilewright.backends.llvm.lowering.rules import lowers, rules
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import Dim, as_int, dmax, dmin, floordiv
from tilewright.compiler.ir.ops import binary, leaf, reduce, shape
from tilewright.compiler.ir.ops.caches import CachedAttention
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import Attention, Softmax
from tilewright.compiler.ir.types import DType, TensorType

INF = float("inf")
CHUNKS = 8
"""Parts in which the units of a launch are handed out at least, if there are as many."""


@lowers(Attention)
def attention(low: Lowering, op: Attention) -> None:
    """q, k, v through strides, so that no layout needs a copy."""
    size = op.sizes()
    known = isinstance(size["d"], int) and isinstance(size["e"], int)
    if op.q.dtype != DType.F32 or not known or size["d"] == 0 or size["e"] == 0:
        _decompose(low, op, size)
        return
    mask = op.mask
    task = AttentionTask(
        head_dim=as_int(size["d"]),
        value_dim=as_int(size["e"]),
        scale=op.scale,
        mask=None if mask is None else ("f32" if mask.dtype == DType.F32 else "i8"),
        causal=op.causal,
        masked_zero=op.masked_zero,
    )
    if not candidates(task, low.target):
        # Heads too large for the fused kernels of GPUs.
        _decompose(low, op, size)
        return
    views: list[View] = []
    strides: list[Dim] = []
    others: list[Place] = []
    for value, letters, order in (
        (op.q, op.q_axes, "bhqd"),
        (op.k, op.k_axes, "bgkd"),
        (op.v, op.v_axes, "bgke"),
    ):
        perm = tuple(letters.index(c) for c in order)
        view = low.stored(value).transpose(perm)
        if view.strides[-1] != 1 and view.shape[-1] != 1:
            view = low.make_dense(low.view(value).transpose(perm))
        views.append(view)
        strides += view.strides[:3]
    if mask is not None:
        full = (size["b"], size["h"], size["q"], size["k"])
        view = low.view(mask).broadcast(full)
        others.append(view.at)
    strides += result_strides(op)
    if mask is not None:
        strides += view.strides
    group = floordiv(size["h"], size["g"])
    past = size["k"] - size["q"] if op.causal_end else 0
    dims = (size["b"], size["h"], size["q"], size["k"], group, past, *strides)
    chosen = low.choose(op, task, dims)
    if chosen is None:
        _decompose(low, op, size)
        return
    read_by(low, views)
    settled = settle(low, chosen, views, op.out)
    family, spec = chosen.family, settled.spec
    target = target_of(low, op, settled.dtype)
    traffic: Dim = target.bytes
    for view in settled.operands:
        traffic = traffic + view.bytes
    work = size["b"] * size["h"] * size["q"] * size["k"]
    units = formula(family.units(spec), dims)
    low.launch(
        op,
        spec,
        (*(view.at for view in settled.operands), *others),
        (target.at,),
        dims,
        units,
        grain=shares(units, size["b"] * size["h"]),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=work * (2 * (task.head_dim + task.value_dim) + 8),
        traffic=traffic,
    )
    hand_on(low, op.out, target, op.source, operands=len(views))


def shares(units: Dim, heads: Dim) -> Dim:
    """Units that a thread takes at once: those of one head are neighbours and share what a call
    makes of its K and V."""
    return dmax(1, dmin(floordiv(units, heads), floordiv(units, CHUNKS)))


def result_strides(op: Attention | CachedAttention) -> list[Dim]:
    """Of the result in memory: batch, head, query."""
    letters, shape_ = _order(op)
    steps = dense_strides(shape_)
    return [steps[letters.index(c)] for c in "bhq"]


def _order(op: Attention | CachedAttention) -> tuple[str, tuple[Dim, ...]]:
    """The axes of the result in memory, its values contiguous, and their sizes."""
    letters = op.out_axes.replace("e", "") + "e"
    return letters, tuple(op.out.shape[op.out_axes.index(c)] for c in letters)


def target_of(low: Lowering, op: Attention | CachedAttention, dtype: DType) -> View:
    """Dense memory for the result in the order of `_order`. dtype: as it is stored."""
    if op.out_axes.endswith("e"):
        return low.result(op.out, dtype)
    letters, shape_ = _order(op)
    made = low.buffer(dtype, shape_, op.out.name or "t")
    low.alias(op.out, made.transpose(tuple(letters.index(c) for c in op.out_axes)))
    return made


class _Chain:
    """Operations that lowering puts in, lowered one after another."""

    def __init__(self, low: Lowering, source: str) -> None:
        self.low, self.source = low, source
        self.ops: list[Op] = []

    def __call__(self, cls: type[Op], **fields: object) -> Value:
        op = cls(source=self.source, **fields)
        self.ops.append(op)
        return op.out

    def number(self, value: float, dtype: DType) -> Value:
        return self(leaf.Fill, value=value, type=TensorType(dtype, ()))

    def run(self, result: Value, value: Value) -> None:
        """Lower everything; `result` takes the place of `value`."""
        self.low.stand_in(result, value)
        for op in self.ops:
            rules()[type(op)](self.low, op)
        if value not in self.low.views:
            self.low.alias(value, self.low.view(result))


def _decompose(low: Lowering, op: Attention, size: dict[str, Dim]) -> None:
    emit = _Chain(low, op.source)
    group = floordiv(size["h"], size["g"])
    dtype = op.q.dtype
    q = emit(shape.Transpose, x=op.q, perm=tuple(op.q_axes.index(c) for c in "bhqd"))
    split = (size["b"], size["g"], group, size["q"], size["d"])
    q = emit(shape.Reshape, x=q, shape=split)
    k = emit(shape.Transpose, x=op.k, perm=tuple(op.k_axes.index(c) for c in "bgkd"))
    v = emit(shape.Transpose, x=op.v, perm=tuple(op.v_axes.index(c) for c in "bgke"))
    scores = emit(Contract, a=q, b=k, spec="bgrqd,bgkd->bgrqk")
    scores = emit(binary.Mul, a=scores, b=emit.number(op.scale, dtype))
    full = (size["b"], size["h"], size["q"], size["k"])
    scores = emit(shape.Reshape, x=scores, shape=full)
    least = emit.number(-INF, dtype)
    if op.mask is not None and op.mask.dtype == DType.BOOL:
        scores = emit(binary.Where, condition=op.mask, a=scores, b=least)
    elif op.mask is not None:
        scores = emit(binary.Add, a=scores, b=op.mask)
    if op.causal:
        row = emit(leaf.Iota, length=size["q"], dtype=DType.I64)
        past = size["k"] - size["q"] if op.causal_end else 0
        row = emit(binary.Add, a=row, b=emit(leaf.DimValue, size=past))
        row = emit(shape.Reshape, x=row, shape=(size["q"], 1))
        column = emit(leaf.Iota, length=size["k"], dtype=DType.I64)
        seen = emit(binary.Le, a=column, b=row)
        scores = emit(binary.Where, condition=seen, a=scores, b=least)
    weights = emit(Softmax, x=scores, axis=3)
    if op.masked_zero:
        zero = emit.number(0.0, dtype)
        most = emit(reduce.Reduce, x=scores, kind="max", axes=(3,))
        lost = emit(binary.Eq, a=most, b=least)
        weights = emit(binary.Where, condition=lost, a=zero, b=weights)
    weights = emit(shape.Reshape, x=weights, shape=(*split[:4], size["k"]))
    out = emit(Contract, a=weights, b=v, spec="bgrqk,bgke->bgrqe")
    out = emit(shape.Reshape, x=out, shape=(*full[:3], size["e"]))
    perm = tuple("bhqe".index(c) for c in op.out_axes)
    emit.run(emit(shape.Transpose, x=out, perm=perm), op.out)
