"""The running softmax of 16 queries over one tile of scores [step of 32 keys][16 queries][32].

Keys lie along the lanes: a mask is read as it is stored, and weights leave in the order in which
the second product takes them. Maxima and sums are kept a vector a query and turned into one vector
of 16 queries by four rounds of shuffles.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.bf16_attention.spec import SCORE_BYTES, Bf16AttentionSpec
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.across import across, greater
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.builder import I8, I32, Code, Int
from tilewright.backends.llvm.exp2 import exp2_weight

_LANES = bf16.LANES


@dataclass(frozen=True)
class State:
    """Of 16 queries, f32 each in scratch: the highest score, the same or 0 where it is -inf, the
    sum of weights, and the factor of earlier sums."""

    highest: ir.Value
    base: ir.Value
    total: ir.Value
    factor: ir.Value


def emit_softmax(
    code: Code,
    spec: Bf16AttentionSpec,
    scores: ir.Value,
    steps: Int,
    weights: ir.Value,
    state: State,
) -> None:
    """Weights 2^(score - highest) as bf16 [step][plane][16 queries][32]; updates ``state``."""
    b, highest_of = code.b, greater(code)
    hidden = code.splat(float("-inf"), _LANES)
    with code.loop(0, steps, 1, [hidden] * ROWS) as step:
        block = code.at(scores, code.mul(step.index, SCORE_BYTES), I8)
        for r in range(ROWS):
            for half in range(2):
                score = code.vload(code.at(block, r * STEP + half * _LANES), _LANES)
                step.next[r] = highest_of(score, step.next[r])
    old = code.vload(state.highest, _LANES)
    highest = highest_of(across(code, step.carried, highest_of), old)
    # While every key is hidden the highest is -inf; -inf - 0 keeps weights at 0 where -inf + inf
    # would give NaN before a later tile shows a key.
    base = b.select(b.fcmp_ordered("==", highest, hidden), code.splat(0.0, _LANES), highest)
    factor = exp2_weight(code, b.fsub(old, base))
    for value, place in ((highest, state.highest), (base, state.base), (factor, state.factor)):
        code.vstore(value, place)

    with code.loop(0, steps, 1, [code.splat(0.0, _LANES)] * ROWS) as step:
        block = code.at(scores, code.mul(step.index, SCORE_BYTES), I8)
        out = code.at(weights, code.mul(step.index, spec.planes * TILE_BYTES), I8)
        for r in range(ROWS):
            shift = code.splat(code.load(code.at(state.base, r)), _LANES)
            pair = []
            for half in range(2):
                score = code.vload(code.at(block, r * STEP + half * _LANES), _LANES)
                weight = exp2_weight(code, b.fsub(score, shift), coarse=spec.products == 1)
                step.next[r] = b.fadd(step.next[r], weight)
                pair.append(weight)
            for plane, words in enumerate(_planes(code, pair, spec.planes)):
                code.vstore(words, code.at(out, plane * TILE_BYTES + r * ROW_BYTES, I8))
            # Keeps LLVM from interleaving rows, which would spill sums.
            b.fence("seq_cst", "singlethread")
    total = b.fmul(code.vload(state.total, _LANES), factor)
    code.vstore(b.fadd(total, across(code, step.carried, b.fadd)), state.total)


def _planes(code: Code, pair: list[ir.Value], planes: int) -> list[ir.Value]:
    """32 weights as bf16, one vector a plane, greatest first.

    All planes but the last are cut off, not rounded: weights are positive and the next plane holds
    the rest, so three hold all 24 bits.
    """
    out, rest = [], pair
    words = ir.VectorType(I32, _LANES)
    for _ in range(planes - 1):
        tops = [
            code.b.bitcast(
                code.b.and_(code.b.bitcast(x, words), ir.Constant(words, [0xFFFF0000] * _LANES)),
                x.type,
            )
            for x in rest
        ]
        out.append(_tops(code, rest))
        rest = [code.b.fsub(x, top) for x, top in zip(rest, tops, strict=True)]
    out.append(bf16.pack(code, rest[0], rest[1]))
    return out


def _tops(code: Code, pair: list[ir.Value]) -> ir.Value:
    """The upper halves of 32 f32, as 16 words."""
    shorts = ir.VectorType(ir.IntType(16), 2 * _LANES)
    low, high = (code.b.bitcast(x, shorts) for x in pair)
    picks = ir.Constant(ir.VectorType(I32, 2 * _LANES), list(range(1, 4 * _LANES, 2)))
    return code.b.bitcast(code.b.shuffle_vector(low, high, picks), ir.VectorType(I32, _LANES))
