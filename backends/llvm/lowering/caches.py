"""Key-value caches in codes: storing new rows, and attention that reads them as they lie."""

from __future__ import annotations

from tilewright.backends.kernels.cached_attention import CachedAttentionTask
from tilewright.backends.kernels.cached_attention import spec as attention_of
from tilewright.backends.kernels.encoded_rows import EncodedRowsTask
from tilewright.backends.kernels.encoded_rows import spec as rows_of
from tilewright.backends.llvm.lowering.attentions import result_strides, shares, target_of
from tilewright.backends.llvm.lowering.handing import hand_on
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Place
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, as_int, floordiv, product
from tilewright.compiler.ir.ops.caches import CachedAttention, EncodeRows
from tilewright.compiler.ir.types import DType

LEADING = 3
"""Axes of rows that a kernel walks over by strides."""


@lowers(EncodeRows)
def encode_rows(low: Lowering, op: EncodeRows) -> None:
    """One launch; rows are read through strides and written side by side."""
    size = as_int(op.x.shape[-1])
    x = _rows_dense(low, low.view(op.x))
    if len(x.shape) - 1 > LEADING:
        x = low.make_dense(x)
    codes, scales = (low.result(v) for v in op.results)
    sizes, steps = _leading(x.shape[:-1], x.strides[:-1])
    strides: list[Dim] = [*steps]
    for made, inner in ((codes, 1), (scales, 0)):
        outer = made.shape[: len(made.shape) - inner]
        own = made.strides[: len(made.strides) - inner]
        strides += _leading(outer, own)[1]
    dims = (*sizes, *strides)
    chosen = low.choose(op, EncodedRowsTask(size, op.format), dims)
    if chosen is None:
        raise _too_long(low, op.format, size, rows_of.LARGEST)
    family, spec = chosen.family, chosen.spec
    low.launch(
        op,
        spec,
        (x.at,),
        (codes.at, scales.at),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=2 * product(x.shape),
        traffic=x.bytes + codes.bytes + scales.bytes,
    )


def _too_long(low: Lowering, format: str, found: int, most: int) -> UserError:
    return UserError(
        f"--kv-cache {format}",
        f"no kernel of {low.target.name} takes rows of caches that are so long",
        f"expected at most {most} elements, found {found}",
        "leave --kv-cache out",
    )


def _leading(
    shape: tuple[Dim, ...], strides: tuple[Dim, ...]
) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
    """Sizes and strides of three axes of rows; of more than three, dense ones, as one."""
    if len(shape) > LEADING:
        return (1, 1, product(shape)), (0, 0, strides[-1])
    ones = LEADING - len(shape)
    return (*(1,) * ones, *shape), (*(0,) * ones, *strides)


def _rows_dense(low: Lowering, view: View) -> View:
    """`view` with the elements of its last axis side by side."""
    return view if view.strides[-1] == 1 or view.shape[-1] == 1 else low.make_dense(view)


@lowers(CachedAttention)
def cached_attention(low: Lowering, op: CachedAttention) -> None:
    """One launch; q, codes and scales through strides, so that no layout needs a copy."""
    size = op.sizes()
    group = 1 if size["h"] == size["g"] else as_int(size["h"]) // as_int(size["g"])
    mask = op.mask
    task = CachedAttentionTask(
        head_dim=op.d,
        value_dim=op.e,
        scale=op.scale,
        format=op.format,
        group=group,
        mask=None if mask is None else ("f32" if mask.dtype == DType.F32 else "i8"),
        causal=op.causal,
        masked_zero=op.masked_zero,
    )
    q = _turned(low, op.q, op.q_axes, "bhqd")
    operands, strides = [q], [*q.strides[:3]]
    for codes, scales, axes in ((op.k, op.k_scale, op.k_axes), (op.v, op.v_scale, op.v_axes)):
        rows = _turned(low, codes, axes, f"bgk{axes[-1]}")
        each = _turned(low, scales, axes[:-1], "bgk")
        operands += [rows, each]
        strides += [*rows.strides[:3], *each.strides[:2]]
    strides += result_strides(op)
    others: list[Place] = []
    if mask is not None:
        view = low.view(mask).broadcast((size["b"], size["h"], size["q"], size["k"]))
        others.append(view.at)
        strides += view.strides
    past = size["k"] - size["q"] if op.causal_end else 0
    dims = (size["b"], size["h"], size["q"], size["k"], past, *strides)
    chosen = low.choose(op, task, dims)
    if chosen is None:
        raise _too_long(low, op.format, max(op.d, op.e), attention_of.LARGEST)
    family, spec = chosen.family, chosen.spec
    target = target_of(low, op, DType.F32)
    traffic: Dim = target.bytes
    for view in operands:
        traffic = traffic + view.bytes
    units = formula(family.units(spec), dims)
    work = size["b"] * size["h"] * size["q"] * size["k"]
    low.launch(
        op,
        spec,
        (*(view.at for view in operands), *others),
        (target.at,),
        dims,
        units,
        grain=shares(units, size["b"] * floordiv(size["h"], group)),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=work * (2 * (op.d + op.e) + 8),
        traffic=traffic,
    )
    hand_on(low, op.out, target, op.source)


def _turned(low: Lowering, value: Value, axes: str, order: str) -> View:
    """The view of `value` with its axes in `order`, the last one side by side."""
    return _rows_dense(low, low.view(value).transpose(tuple(axes.index(c) for c in order)))
