"""LLVM emitter of attention with bf16 products (online softmax, FlashAttention, arXiv 2205.14135).

Both products run on tiles of 16 x 16 f32 sums: scores start from the mask, later key tiles from the
sums so far. A call converts a head of K and V once and keeps it for all its units of that head.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.bf16_attention.bias import emit_bias
from tilewright.backends.kernels.bf16_attention.operands import (
    emit_keys,
    emit_queries,
    emit_values,
)
from tilewright.backends.kernels.bf16_attention.products import emit_scores, emit_sums
from tilewright.backends.kernels.bf16_attention.softmax import State, emit_softmax
from tilewright.backends.kernels.bf16_attention.spec import (
    PLANE_BYTES,
    QUERIES,
    Bf16AttentionSpec,
    Scratch,
)
from tilewright.backends.kernels.f32_attention.job import Arguments, Operand
from tilewright.backends.kernels.f32_attention.job import Job as F32Job
from tilewright.backends.kernels.f32_attention.single import emit_single
from tilewright.backends.kernels.f32_attention.softmax import Mask
from tilewright.backends.llvm import amx, bf16, formats
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.builder import F32, I8, Code, Int, i64
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.target import Target

_LANES = bf16.LANES


def supports(target: Target) -> bool:
    """Targets that round and multiply bf16."""
    return bf16.has_dots(target)


def emit(module: ir.Module, spec: Bf16AttentionSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``. Raises ValueError for other targets."""
    if not supports(target):
        raise ValueError(f"bf16_attention needs avx512bf16, which {target.name} has not")
    frame = Frame.open(module, target, name)
    code, begin, end, scratch = frame.code, frame.begin, frame.end, frame.scratch
    x = Arguments.load(frame, spec)
    q, k, v, y = x.q, x.k, x.v, x.y
    layout = Scratch.of(spec)
    keys_at = code.at(scratch, layout.keys, I8)
    packed = code.mul(code.ceildiv(x.keys, STEP), spec.key_panel_bytes)
    values_at = code.at(keys_at, packed, I8)
    zero_line = code.at(scratch, layout.zeros, I8)
    for half in (0, _LANES):
        code.vstore(code.splat(0.0, _LANES), code.at(zero_line, half))
    if amx.has_bf16(target):
        amx.configure(code)
    blocks = code.ceildiv(x.queries, QUERIES)

    # K and V of one query are not worth converting.
    alone: Int = code.select(code.cmp("==", x.queries, 1), end, begin) if spec.plain else begin
    with code.loop(begin, alone) as unit:
        head, batch = code.rem(unit.index, x.heads), code.div(unit.index, x.heads)
        kv_head = code.div(head, x.group)
        single = F32Job(
            spec=spec,
            scratch=scratch,
            q=q.head(code, batch, head),
            k=k.head(code, batch, kv_head),
            v=v.head(code, batch, kv_head),
            y=y.head(code, batch, head),
            strides=(q.strides[2], k.strides[2], v.strides[2], y.strides[2]),
            count=1,
            keys=x.keys,
            horizon=x.offset if spec.causal else None,
            mask=x.mask_of(code, spec, batch, head, 0),
        )
        emit_single(code, single, single.visible(code))
    with code.loop(alone, end, 1, [i64(-1)]) as unit:
        block = code.rem(unit.index, blocks)
        of_all = code.div(unit.index, blocks)
        head, batch = code.rem(of_all, x.heads), code.div(of_all, x.heads)
        kv_head = code.div(head, x.group)
        held = i64(code.add(code.mul(batch, x.heads), kv_head))
        with code.when(code.cmp("!=", held, unit.carried[0])):
            source = _head(code, k, batch, kv_head, spec.k)
            emit_keys(code, spec, source, k.strides[2], x.keys, keys_at)
            source = _head(code, v, batch, kv_head, spec.v)
            emit_values(code, spec, source, v.strides[2], x.keys, values_at)
        unit.next = [held]
        first = code.mul(block, QUERIES)
        _emit_block(
            code,
            Job(
                spec=spec,
                scratch=scratch,
                q=_head(code, q, batch, head, spec.q, first),
                y=_head(code, y, batch, head, spec.y, first),
                strides=(q.strides[2], y.strides[2]),
                packed=(keys_at, values_at),
                count=code.min(code.sub(x.queries, first), QUERIES),
                keys=x.keys,
                # The last key that query 0 of this block sees.
                horizon=code.add(first, x.offset) if spec.causal else None,
                mask=x.mask_of(code, spec, batch, head, first),
            ),
        )
    if amx.has_bf16(target):
        amx.release(code)
    return frame.close()


def _head(
    code: Code, operand: Operand, batch: Int, head: Int, stored: str, row: Int = 0
) -> ir.Value:
    """Row ``row`` of one head, in the format ``stored``."""
    place = code.add(
        code.mul(batch, operand.strides[0]),
        code.add(code.mul(head, operand.strides[1]), code.mul(row, operand.strides[2])),
    )
    return code.at(operand.base, place, formats.ELEMENT[stored])


@dataclass(frozen=True)
class Job:
    """One block of queries of one head; ``packed``: its keys and values in tiles."""

    spec: Bf16AttentionSpec
    scratch: ir.Value
    q: ir.Value
    y: ir.Value
    strides: tuple[ir.Value, ir.Value]
    packed: tuple[ir.Value, ir.Value]
    count: Int
    keys: ir.Value
    horizon: Int | None
    mask: Mask | None

    def at(self, code: Code, offset: int) -> ir.Value:
        return code.at(self.scratch, offset, I8)


def _emit_block(code: Code, job: Job) -> None:
    spec, layout = job.spec, Scratch.of(job.spec)
    queries, scores, weights, sums = (
        job.at(code, at) for at in (layout.queries, layout.scores, layout.weights, layout.sums)
    )
    tiles = code.ceildiv(job.count, ROWS)
    emit_queries(code, spec, job.q, job.strides[0], job.count, queries)
    for at in (0, _LANES):
        code.vstore(code.splat(float("-inf"), _LANES), code.at(job.at(code, layout.highest), at))
        code.vstore(code.splat(0.0, _LANES), code.at(job.at(code, layout.total), at))
    keys: Int = job.keys
    if job.horizon is not None:
        # Keys beyond the last query's horizon are hidden from all.
        keys = code.max(code.min(keys, code.add(job.horizon, job.count)), 0)
    with code.when(code.cmp("==", keys, 0)), code.loop(0, QUERIES * spec.value_stride, _LANES) as i:
        code.vstore(code.splat(0.0, _LANES), code.at(sums, i.index))
    with code.loop(0, keys, spec.keys) as tile:
        steps = code.ceildiv(code.min(code.sub(keys, tile.index), spec.keys), STEP)
        rows = job.at(code, layout.bias)
        shared = emit_bias(
            code,
            spec,
            tile.index,
            steps,
            job.keys,
            job.count,
            job.mask,
            job.horizon,
            rows,
            scores,
        )
        k = code.at(job.packed[0], code.mul(code.div(tile.index, STEP), spec.key_panel_bytes), I8)
        emit_scores(code, spec, tiles, queries, k, rows, shared, steps, scores)
        with code.loop(0, tiles) as half:
            row = code.mul(half.index, ROWS)
            state = State(
                *(
                    code.at(job.at(code, place), row)
                    for place in (layout.highest, layout.base, layout.total, layout.factor)
                )
            )
            emit_softmax(
                code,
                spec,
                code.at(scores, code.mul(half.index, spec.span), I8),
                steps,
                code.at(
                    weights, code.mul(half.index, spec.keys // STEP * spec.planes * TILE_BYTES), I8
                ),
                state,
            )
        later = code.cmp(">", tile.index, 0)
        with code.when(later):
            _scale_rows(code, job, sums)
        packed = spec.planes * PLANE_BYTES
        v = code.at(job.packed[1], code.mul(code.div(tile.index, STEP), packed), I8)
        across = code.mul(code.ceildiv(job.keys, STEP), packed)
        with code.loop(0, spec.panels) as panel:
            emit_sums(
                code,
                spec,
                tiles,
                weights,
                code.at(v, code.mul(panel.index, across), I8),
                steps,
                job.at(code, layout.zeros),
                later,
                code.at(sums, code.mul(panel.index, STEP)),
            )
    _finish(code, job, sums)


def _scale_rows(code: Code, job: Job, sums: ir.Value) -> None:
    factors = job.at(code, Scratch.of(job.spec).factor)
    with code.loop(0, job.count) as row:
        factor = code.splat(code.load(code.at(factors, row.index), F32), _LANES)
        line = code.at(sums, code.mul(row.index, job.spec.value_stride))
        with code.loop(0, job.spec.value_stride, _LANES) as column:
            at = code.at(line, column.index)
            code.vstore(code.b.fmul(code.vload(at, _LANES), factor), at)


def _finish(code: Code, job: Job, sums: ir.Value) -> None:
    """Y = sums / total, row by row."""
    b, spec, layout = code.b, job.spec, Scratch.of(job.spec)
    zero, one = code.splat(0.0, _LANES), code.splat(1.0, _LANES)
    # No keys at all: an empty sum is 0, not 0 / 0.
    empty = code.splat(code.cmp("==", job.keys, 0), _LANES)
    for half in (0, _LANES):
        total = code.vload(code.at(job.at(code, layout.total), half), _LANES)
        inverse = b.fdiv(one, b.select(empty, one, total))
        if spec.masked_zero:
            inverse = b.select(b.fcmp_ordered("==", total, zero), zero, inverse)
        code.vstore(inverse, code.at(job.at(code, layout.factor), half))
    factors = job.at(code, layout.factor)
    full, rest = spec.value_dim // _LANES * _LANES, spec.value_dim % _LANES
    with code.loop(0, job.count) as row:
        factor = code.splat(code.load(code.at(factors, row.index), F32), _LANES)
        source = code.at(sums, code.mul(row.index, spec.value_stride))
        element = formats.ELEMENT[spec.y]
        out = code.at(job.y, code.mul(row.index, job.strides[1]), element)
        with code.loop(0, full, _LANES) as column:
            value = b.fmul(code.vload(code.at(source, column.index), _LANES), factor)
            formats.store(code, value, code.at(out, column.index, element), None, spec.y)
        if rest:
            value = b.fmul(code.vload(code.at(source, full), _LANES), factor)
            mask = code.first_lanes(rest, _LANES)
            formats.store(code, value, code.at(out, full, element), mask, spec.y)
