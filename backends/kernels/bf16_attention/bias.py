"""What is added to scores before the softmax, 32 keys at a time: mask, horizon, end of the keys.

In units of log2 e. Tiles of scores start from it, so adding it costs no instruction.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_attention.spec import SCORE_BYTES, Bf16AttentionSpec
from tilewright.backends.kernels.f32_attention.softmax import HIDDEN, Mask
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.builder import I8, I32, Code, Int, zeros

_LANES = 16


def emit_bias(
    code: Code,
    spec: Bf16AttentionSpec,
    first: Int,
    steps: Int,
    keys: Int,
    queries: Int,
    mask: Mask | None,
    horizon: Int | None,
    rows: ir.Value,
    scores: ir.Value,
) -> Int:
    """The bias of ``steps`` of 32 keys from ``first`` on; those from ``keys`` on are hidden.

    Of the first steps, whose count is returned, one row for all queries, to ``rows``[step][32]; of
    the others a row for each, to ``scores``. ``horizon``: the last key that query 0 sees.
    """
    shared: Int = steps
    if horizon is not None:
        seen = code.max(code.sub(code.add(horizon, 1), first), 0)
        shared = code.min(shared, code.div(seen, STEP))
    if mask is not None:
        shared = code.select(code.cmp("==", mask.query_stride, 0), shared, 0)
    with code.loop(0, steps) as step:
        key = code.add(first, code.mul(step.index, STEP))
        block = code.at(scores, code.mul(step.index, SCORE_BYTES), I8)
        with code.either(code.cmp("<", step.index, shared)) as (one, many):
            with one:
                line = code.at(rows, code.mul(step.index, STEP))
                _row(code, 0, key, keys, mask, None, line)
            with many, code.loop(0, queries) as query:
                tile = code.mul(code.div(query.index, ROWS), spec.span)
                inside = code.mul(code.rem(query.index, ROWS), 4 * STEP)
                line = code.at(block, code.add(tile, inside), I8)
                _row(code, query.index, key, keys, mask, horizon, line)
    return shared


def _row(
    code: Code,
    query: Int,
    first: Int,
    keys: Int,
    mask: Mask | None,
    horizon: Int | None,
    line: ir.Value,
) -> None:
    """The bias of one query and 32 keys."""
    for half in (0, _LANES):
        key = code.add(first, half)
        value = code.splat(0.0, _LANES)
        visible = code.first_lanes(code.sub(keys, key), _LANES)
        if mask is not None:
            value = _taken(code, mask, query, key, keys, visible)
        if horizon is not None:
            seen = code.sub(code.add(code.add(horizon, query), 1), key)
            visible = code.b.and_(visible, code.first_lanes(seen, _LANES))
        hidden = code.splat(HIDDEN, _LANES)
        code.vstore(code.b.select(visible, value, hidden), code.at(line, half))


def _taken(code: Code, mask: Mask, query: Int, key: Int, keys: Int, inside: ir.Value) -> ir.Value:
    """16 elements of the mask, from ``key`` on, as f32 to be added."""
    b, element = code.b, mask.element
    source = mask.row(code, query)
    kind = ir.VectorType(element, _LANES)
    with code.either(code.cmp("==", mask.key_stride, 1)) as (dense, strided):
        with dense:
            near = code.vload(code.at(source, key, element), _LANES, inside, element)
            near_block = b.block
        with strided:
            # Lanes beyond the end repeat the last key, to stay inside the mask.
            last = code.sub(keys, 1)
            far = zeros(kind)
            for i in range(_LANES):
                place = code.mul(code.min(code.add(key, i), last), mask.key_stride)
                one = code.load(code.at(source, place, element), element)
                far = b.insert_element(far, one, ir.Constant(I32, i))
            far_block = b.block
    taken = b.phi(kind)
    taken.add_incoming(near, near_block)
    taken.add_incoming(far, far_block)
    return mask.bias(code, taken)
