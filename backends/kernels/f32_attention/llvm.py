"""LLVM emitter of fused f32 attention (online softmax, FlashAttention, arXiv 2205.14135).

Scores are computed transposed, S^T[key][query] = K Q^T: rows of K are broadcast as they lie in
memory and only Q, 32 rows, is transposed. S^T is then the A operand of P V stored by columns,
which is the micro-kernel's best case, and V is its B operand as it lies in memory.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_attention.job import Arguments, Job
from tilewright.backends.kernels.f32_attention.single import emit_single
from tilewright.backends.kernels.f32_attention.softmax import emit_softmax
from tilewright.backends.kernels.f32_attention.spec import KEYS, QUERIES, AttentionSpec, Scratch
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import F32, Code, Int, i64, zeros
from tilewright.backends.llvm.exp2 import LOG2E
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.llvm.rows import copy_rows, transpose_rows
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: AttentionSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Arguments.load(frame, spec)
    blocks = code.ceildiv(x.queries, QUERIES)

    with code.loop(frame.begin, frame.end) as unit:
        block = code.rem(unit.index, blocks)
        of_all = code.div(unit.index, blocks)
        head, batch = code.rem(of_all, x.heads), code.div(of_all, x.heads)
        first = code.mul(block, QUERIES)
        count = code.min(code.sub(x.queries, first), QUERIES)
        kv_head = code.div(head, x.group)
        job = Job(
            spec=spec,
            scratch=frame.scratch,
            q=code.at(x.q.head(code, batch, head), code.mul(first, x.q.strides[2])),
            k=x.k.head(code, batch, kv_head),
            v=x.v.head(code, batch, kv_head),
            y=code.at(x.y.head(code, batch, head), code.mul(first, x.y.strides[2])),
            strides=(x.q.strides[2], x.k.strides[2], x.v.strides[2], x.y.strides[2]),
            count=count,
            keys=x.keys,
            # The last key that query 0 of this block sees.
            horizon=code.add(first, x.offset) if spec.causal else None,
            mask=x.mask_of(code, spec, batch, head, first),
        )
        with code.either(code.cmp("==", count, 1)) as (one, more):
            with one:
                emit_single(code, job, job.visible(code))
            # Of few queries half of the lanes are not worth computing.
            with more, code.either(code.cmp("<=", count, QUERIES // 2)) as (narrow, wide):
                with narrow:
                    _emit_block(code, job, QUERIES // 2)
                with wide:
                    _emit_block(code, job, QUERIES)
    return frame.close()


def _emit_block(code: Code, job: Job, width: int) -> None:
    """At most ``width`` queries (16 or 32)."""
    spec, layout = job.spec, Scratch.of(job.spec)
    lanes = code.target.lanes_f32
    vectors = width // lanes
    queries, scores, sums, factors, packed = (
        code.at(job.scratch, at)
        for at in (layout.queries, layout.scores, layout.sums, layout.factors, layout.values)
    )
    transpose_rows(
        code, job.q, job.strides[0], job.count, spec.head_dim, queries, width, spec.scale * LOG2E
    )
    ldo = spec.value_stride
    with code.loop(0, code.mul(job.count, ldo), lanes) as i:
        code.vstore(zeros(code.vector(lanes)), code.at(sums, i.index))
    keys = job.visible(code)
    start = [code.splat(float("-inf"), lanes)] * vectors + [code.splat(0.0, lanes)] * vectors
    with code.loop(0, keys, KEYS, start) as tile:
        count = code.min(code.sub(keys, tile.index), KEYS)
        k = code.at(job.k, code.mul(tile.index, job.strides[1]))
        _scores(code, k, job.strides[1], count, queries, spec.head_dim, scores, width)
        highest, total = tile.carried[:vectors], tile.carried[vectors:]
        highest, total = emit_softmax(
            code,
            scores,
            count,
            tile.index,
            (highest, total),
            factors,
            job.mask,
            job.horizon,
            job.count,
        )
        with code.when(code.cmp(">", tile.index, 0)):
            _scale_rows(code, sums, factors, job.count, ldo)
        v = code.at(job.v, code.mul(tile.index, job.strides[2]))
        ldv: Int = job.strides[2]
        if spec.value_dim % PANEL:
            copy_rows(code, v, ldv, count, spec.value_dim, packed, ldo)
            v, ldv = packed, ldo
        _values(code, scores, count, v, ldv, sums, job.count, ldo, width)
        tile.next = [*highest, *total]
    for part, total in enumerate(tile.carried[vectors:]):
        one = code.splat(1.0, lanes)
        # No keys at all: an empty sum is 0, not 0 / 0.
        empty = code.splat(code.cmp("==", job.keys, 0), lanes)
        inverse = code.b.fdiv(one, code.b.select(empty, one, total))
        if spec.masked_zero:
            zero = code.splat(0.0, lanes)
            inverse = code.b.select(code.b.fcmp_ordered("==", total, zero), zero, inverse)
        code.vstore(inverse, code.at(factors, part * lanes))
    _finish(code, job, sums, factors, ldo)


def _scores(
    code: Code,
    k: ir.Value,
    ldk: ir.Value,
    count: Int,
    queries: ir.Value,
    depth: int,
    scores: ir.Value,
    width: int,
) -> None:
    """S^T[count][width] = K[count][depth] Q^T[depth][width]."""
    flavor = gemm.Flavor(narrow=width < PANEL)
    step = gemm.columns(code, flavor)
    split = Split.of(code, count, widest(code.target).rows)
    with code.loop(0, split.count) as block, code.loop(0, width, step) as column:
        first, rows = split.block(code, block.index)
        a = code.at(k, code.mul(first, ldk))
        c = code.at(scores, code.add(code.mul(first, width), column.index))
        b = code.at(queries, column.index)
        gemm.multiply(code, rows, a, ldk, b, width, 0, depth, c, width, flavor=flavor)


def _values(
    code: Code,
    scores: ir.Value,
    count: Int,
    v: ir.Value,
    ldv: Int,
    sums: ir.Value,
    rows: Int,
    ldo: int,
    width: int,
) -> None:
    """sums[rows][ldo] += S[rows][count] V[count][ldo], S stored by columns."""
    flavor = gemm.Flavor(a_columns=True, accumulate=True)
    step = gemm.columns(code, flavor)
    split = Split.of(code, rows, widest(code.target).rows)
    with code.loop(0, split.count) as block, code.loop(0, ldo, step) as column:
        first, size = split.block(code, block.index)
        a = code.at(scores, first)
        b = code.at(v, column.index)
        c = code.at(sums, code.add(code.mul(first, ldo), column.index))
        gemm.multiply(code, size, a, width, b, ldv, 0, count, c, ldo, flavor=flavor)


def _scale_rows(code: Code, sums: ir.Value, factors: ir.Value, rows: Int, ldo: int) -> None:
    lanes = code.target.lanes_f32
    with code.loop(0, rows) as row:
        factor = code.splat(code.load(code.at(factors, row.index), F32), lanes)
        with code.loop(0, ldo, lanes) as column:
            at = code.at(sums, code.add(code.mul(row.index, ldo), column.index))
            code.vstore(code.b.fmul(code.vload(at, lanes), factor), at)


def _finish(code: Code, job: Job, sums: ir.Value, factors: ir.Value, ldo: int) -> None:
    """Y = sums * factors, row by row."""
    lanes, dim = code.target.lanes_f32, job.spec.value_dim
    with code.loop(0, job.count) as row:
        factor = code.splat(code.load(code.at(factors, row.index), F32), lanes)
        source = code.at(sums, code.mul(row.index, ldo))
        out = code.at(job.y, code.mul(row.index, job.strides[3]))
        full = dim // lanes * lanes
        with code.loop(0, full, lanes) as column:
            value = code.vload(code.at(source, column.index), lanes)
            code.vstore(code.b.fmul(value, factor), code.at(out, column.index))
        if dim > full:
            value = code.b.fmul(code.vload(code.at(source, full), lanes), factor)
            code.vstore(value, code.at(out, i64(full)), code.first_lanes(dim - full, lanes))
