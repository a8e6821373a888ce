"""Code that reads rows in parts of their columns: what a part leaves (kernels.readings), how it
grows by more columns, how two are brought together, and what results of it.

Sums run over lanes first and then over parts in order, so they do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan

from llvmlite import ir

from tilewright.backends.kernels.readings import Reading
from tilewright.backends.llvm.across import all_lanes, greater
from tilewright.backends.llvm.builder import F32, I32, I64, Code, Int, i64
from tilewright.backends.llvm.vecmath import emit_exp, emit_log

Body = Callable[[ir.Value, ir.Value, list[ir.Value]], list[ir.Value]]

_FAR = 1 << 30


@dataclass(frozen=True)
class Columns:
    """Some columns of a row: where they lie, how many, the number of the first one."""

    row: ir.Value
    width: Int
    first: Int


@dataclass(frozen=True)
class Ids:
    """Of a row: where they lie, and the columns that there are."""

    base: ir.Value
    n: int

    def load(self, code: Code, j: Int) -> ir.Value:
        """Id ``j``, counted from the beginning."""
        found = code.load(code.at(self.base, j, I64), I64)
        return code.select(code.cmp("<", found, 0), code.add(found, self.n), found)


def start(code: Code, reading: Reading, state: ir.Value, first: Int) -> None:
    """What is left of no columns; ``first``: the number of the first column that comes."""
    none = _number(-inf)
    if reading.kind == "top":
        with code.loop(0, reading.count) as i:
            code.store(none, code.at(state, i.index))
            code.store(_number(-1.0), code.at(state, code.add(reading.count, i.index)))
        return
    code.store(none, state)
    if reading.kind == "argmax":
        code.store(_position(code, first), code.at(state, 1))
    elif reading.kind != "max":
        for word in range(1, reading.words):
            code.store(_number(0.0), code.at(state, word))


def absorb(
    code: Code, reading: Reading, state: ir.Value, columns: Columns, ids: Ids | None = None
) -> None:
    """Some columns more, behind all before."""
    if reading.kind == "top":
        _absorb_top(code, reading.count, state, columns)
        return
    old, new = code.load(state), greatest(code, columns)
    if reading.kind in ("max", "argmax"):
        with code.when(_better(code, new, old, reading.last)):
            code.store(new, state)
            if reading.kind == "argmax":
                at = _find(code, columns, new, reading.last)
                code.store(_position(code, code.add(columns.first, at)), code.at(state, 1))
        return
    top = code.b.select(_better(code, new, old, False), new, old)
    shift = _shift(code, top)
    lanes = code.target.lanes_f32
    wide = code.splat(shift, lanes)

    def add(_at: ir.Value, x: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        e = emit_exp(code.b, code.b.fsub(x, wide), code.target.fma)
        return [code.b.fadd(sums[0], e)]

    (sums,) = _over(code, columns, [code.splat(0.0, lanes)], add)
    own = _lane(code, all_lanes(code, sums, code.b.fadd))
    before = _rescaled(code, code.load(code.at(state, 1)), old, shift)
    code.store(top, state)
    code.store(code.b.fadd(before, own), code.at(state, 1))
    if ids is not None:
        with code.loop(0, reading.count) as j:
            local = code.sub(ids.load(code, j.index), columns.first)
            inside = code.b.and_(code.cmp(">=", local, 0), code.cmp("<", local, columns.width))
            with code.when(inside):
                found = code.load(code.at(columns.row, local))
                code.store(found, code.at(state, code.add(2, j.index)))


def merge(code: Code, reading: Reading, state: ir.Value, other: ir.Value) -> None:
    """``other``, of the columns behind those of ``state``, into it; without elements at ids."""
    if reading.kind == "top":
        with code.loop(0, reading.count) as i:
            x = code.load(code.at(other, i.index))
            at = code.load(code.at(other, code.add(reading.count, i.index)))
            with code.when(code.b.fcmp_ordered(">=", at, _number(0.0))):
                _insert(code, reading.count, state, x, at)
        return
    old, new = code.load(state), code.load(other)
    if reading.kind in ("max", "argmax"):
        with code.when(_better(code, new, old, reading.last)):
            for word in range(reading.words):
                code.store(code.load(code.at(other, word)), code.at(state, word))
        return
    top = code.b.select(_better(code, new, old, False), new, old)
    shift = _shift(code, top)
    sums = [
        _rescaled(code, code.load(code.at(base, 1)), of, shift)
        for base, of in ((state, old), (other, new))
    ]
    code.store(top, state)
    code.store(code.b.fadd(*sums), code.at(state, 1))


def finish(
    code: Code,
    reading: Reading,
    state: ir.Value,
    results: Sequence[ir.Value],
    picked: Callable[[ir.Value], ir.Value] | None = None,
) -> None:
    """The results of a row, at ``results``; ``picked``: x at id j."""
    top = code.load(state)
    if reading.kind == "max":
        code.store(top, results[0])
    elif reading.kind == "argmax":
        code.store(_integer(code, code.load(code.at(state, 1))), results[0])
    elif reading.kind == "top":
        with code.loop(0, reading.count) as i:
            at = code.load(code.at(state, code.add(reading.count, i.index)))
            code.store(code.load(code.at(state, i.index)), code.at(results[0], i.index))
            code.store(_integer(code, at), code.at(results[1], i.index, I64))
    else:
        log = emit_log(code.b, code.load(code.at(state, 1)), code.target.fma)
        # An infinite maximum makes NaN of all, as x - max does.
        less = code.b.fadd(log, code.b.fsub(top, top))
        if picked is None:
            total = log if reading.kind == "log_sum_exp" else less
            code.store(code.b.fadd(total, _shift(code, top)), results[0])
            return
        with code.loop(0, reading.count) as j:
            value = code.b.fsub(code.b.fsub(picked(j.index), top), less)
            code.store(value, code.at(results[0], j.index))


def greatest(code: Code, columns: Columns) -> ir.Value:
    """The greatest element; NaN if there is one, -inf if there are none."""
    lanes = code.target.lanes_f32

    def step(_at: ir.Value, x: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        best, odd = carried
        more = code.b.fcmp_ordered(">", x, best)
        strange = code.b.fcmp_unordered("uno", x, x)
        return [code.b.select(more, x, best), code.b.select(strange, x, odd)]

    start_with = [code.splat(-inf, lanes), code.splat(0.0, lanes)]
    best, odd = _over(code, columns, start_with, step)
    top = _lane(code, all_lanes(code, best, greater(code)))
    strange = _any(code, code.b.fcmp_unordered("uno", odd, odd))
    return code.b.select(strange, _number(nan), top)


def _over(code: Code, columns: Columns, carried: Sequence[ir.Value], body: Body) -> list[ir.Value]:
    """``body(at, x, carried)`` for vectors of the columns from ``at`` on, -inf beyond them."""
    lanes, width = code.target.lanes_f32, columns.width
    full = code.mul(code.div(width, lanes), lanes)
    with code.loop(0, full, lanes, carried) as whole:
        x = code.vload(code.at(columns.row, whole.index), lanes)
        whole.next = body(whole.index, x, whole.carried)
    with code.loop(full, width, lanes, whole.carried) as rest:
        mask = code.first_lanes(code.sub(width, rest.index), lanes)
        x = code.vload(code.at(columns.row, rest.index), lanes, mask)
        x = code.b.select(mask, x, code.splat(-inf, lanes))
        rest.next = body(rest.index, x, rest.carried)
    return rest.carried


def _find(code: Code, columns: Columns, value: ir.Value, last: bool) -> ir.Value:
    """Where ``value``, the greatest element, is first or last."""
    lanes = code.target.lanes_f32
    wide = code.splat(value, lanes)
    kind = ir.VectorType(I32, lanes)
    ids = ir.Constant(kind, list(range(lanes)))
    op = ">" if last else "<"

    def step(at: ir.Value, x: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        (found,) = carried
        here = code.b.add(ids, code.splat(code.b.trunc(at, I32), lanes))
        # There is a NaN only where the greatest is one.
        equal = code.b.or_(code.b.fcmp_ordered("==", x, wide), code.b.fcmp_unordered("uno", x, x))
        there = code.b.icmp_signed("<", here, limit)
        better = code.b.icmp_signed(op, here, found)
        taken = code.b.and_(code.b.and_(equal, there), better)
        return [code.b.select(taken, here, found)]

    limit = code.splat(code.b.trunc(i64(columns.width), I32), lanes)
    nowhere = ir.Constant(kind, [-1 if last else _FAR] * lanes)
    (found,) = _over(code, columns, [nowhere], step)

    def combine(x: ir.Value, y: ir.Value) -> ir.Value:
        return code.b.select(code.b.icmp_signed(op, x, y), x, y)

    return code.b.sext(_lane(code, all_lanes(code, found, combine)), I64)


def _absorb_top(code: Code, count: int, state: ir.Value, columns: Columns) -> None:
    lanes = code.target.lanes_f32

    def step(at: ir.Value, x: ir.Value, _none: list[ir.Value]) -> list[ir.Value]:
        worst = code.splat(code.load(code.at(state, count - 1)), lanes)
        lacking = code.b.fcmp_ordered("<", code.load(code.at(state, 2 * count - 1)), _number(0.0))
        # A NaN on either side counts as hit, and is looked at below.
        hit = _any(code, code.b.fcmp_unordered(">", x, worst))
        with code.when(code.b.or_(hit, lacking)):
            here = code.min(lanes, code.sub(columns.width, at))
            with code.loop(0, here) as lane:
                index = code.add(at, lane.index)
                one = code.load(code.at(columns.row, index))
                with code.when(_beats(code, one, state, count, count - 1)):
                    position = _position(code, code.add(columns.first, index))
                    _insert(code, count, state, one, position)
        return []

    _over(code, columns, [], step)


def _insert(code: Code, count: int, state: ir.Value, x: ir.Value, position: ir.Value) -> None:
    """x into the ordered list, before all that it beats; the last one falls out."""
    with code.loop(0, count) as i:
        j = code.sub(count - 1, i.index)
        left = code.max(code.sub(j, 1), 0)
        moves = code.b.and_(code.cmp(">", j, 0), _beats(code, x, state, count, left))
        lands = _beats(code, x, state, count, j)
        for offset, new in ((0, x), (count, position)):
            before = code.load(code.at(state, code.add(offset, left)))
            now = code.load(code.at(state, code.add(offset, j)))
            kept = code.b.select(lands, new, now)
            code.store(code.b.select(moves, before, kept), code.at(state, code.add(offset, j)))


def _beats(code: Code, x: ir.Value, state: ir.Value, count: int, j: Int) -> ir.Value:
    """Whether x, which comes later, goes before entry ``j``."""
    entry = code.load(code.at(state, j))
    lacking = code.b.fcmp_ordered("<", code.load(code.at(state, code.add(count, j))), _number(0.0))
    return code.b.or_(lacking, _better(code, x, entry, False))


def _better(code: Code, new: ir.Value, old: ir.Value, last: bool) -> ir.Value:
    """Whether ``new``, which comes later, is the greater one, or as great where the ``last`` of
    equal ones counts; NaN is the greatest."""
    strange = code.b.fcmp_unordered("uno", new, new)
    if last:
        return code.b.or_(strange, code.b.fcmp_ordered(">=", new, old))
    known = code.b.fcmp_ordered("ord", old, old)
    return code.b.and_(known, code.b.or_(strange, code.b.fcmp_ordered(">", new, old)))


def _rescaled(code: Code, total: ir.Value, top: ir.Value, shift: ir.Value) -> ir.Value:
    """A sum of exp(x - shift of ``top``) as one of exp(x - ``shift``)."""
    factor = emit_exp(code.b, code.b.fsub(_shift(code, top), shift), code.target.fma)
    # Nothing yet, whose shift is 0, may not become 0 times infinity.
    nothing = code.b.fcmp_ordered("==", total, _number(0.0))
    return code.b.select(nothing, _number(0.0), code.b.fmul(total, factor))


def _shift(code: Code, top: ir.Value) -> ir.Value:
    """``top`` where it is finite, else 0."""
    finite = code.b.fcmp_ordered("<", code.intrinsic("fabs", top), _number(inf))
    return code.b.select(finite, top, _number(0.0))


def _any(code: Code, mask: ir.Value) -> ir.Value:
    kind = ir.IntType(mask.type.count)
    return code.b.icmp_unsigned("!=", code.b.bitcast(mask, kind), ir.Constant(kind, 0))


def _lane(code: Code, vector: ir.Value) -> ir.Value:
    return code.b.extract_element(vector, ir.Constant(I32, 0))


def _position(code: Code, index: Int) -> ir.Value:
    return code.b.sitofp(i64(index), F32)


def _integer(code: Code, position: ir.Value) -> ir.Value:
    return code.b.fptosi(position, I64)


def _number(value: float) -> ir.Value:
    return ir.Constant(F32, value)
