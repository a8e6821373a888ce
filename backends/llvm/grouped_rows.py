"""Few rows of A for products with integer codes: 8-bit codes by groups, or bf16 pairs.

A prepared row has 2 bytes for each k, then, from `factors` on, f32 factors of the groups, then f32
sums of what the groups hold.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int, zeros
from tilewright.backends.llvm.grouped_codes import Panel
from tilewright.compiler.formats.activations import LEAST

_MOST = 127.0
_INFINITE = 0x7F800000
_LEAST = int(LEAST.view("u4"))
_PAIRS = tuple(4 * (i // 4) + (0, 2, 1, 3)[i % 4] for i in range(bf16.LANES))


def factors(code: Code, panel: Panel, row: ir.Value) -> ir.Value:
    """Where the factors of a prepared row begin."""
    return code.at(row, 2 * panel.depth, I8)


def sums(code: Code, panel: Panel, row: ir.Value) -> ir.Value:
    """Where the sums of a prepared row begin."""
    return code.at(row, 2 * panel.depth + 4 * panel.groups, I8)


def emit_codes(code: Code, panel: Panel, a: ir.Value, lda: Int, rows: Int, out: ir.Value) -> None:
    """s8 codes round(x * 127 / max |x|), factors max |x| / 127 and sums of codes of each group.

    A group with NaN or infinity has the factor NaN; one without a magnitude of LEAST is all 0.
    """
    lanes = code.target.lanes_f32
    bits = ir.VectorType(I32, lanes)
    clear = ir.Constant(bits, [0x7FFFFFFF] * lanes)

    def group(source: ir.Value, row: ir.Value, g: Int, count: int) -> None:
        parts = _parts(code, source, count, lanes)
        most = zeros(bits)
        for part in parts:
            # The bits of magnitudes are in the order of their values, NaN above all.
            here = code.b.and_(code.b.bitcast(part, bits), clear)
            most = code.b.select(code.b.icmp_unsigned(">", here, most), here, most)
        top = _reduced(code, "umax", most)
        finite = code.b.icmp_unsigned("<", top, ir.Constant(I32, _INFINITE))
        usable = code.b.icmp_unsigned(">=", top, ir.Constant(I32, _LEAST))
        usable = code.b.and_(usable, finite)
        magnitude = code.b.bitcast(top, F32)
        limit, none = ir.Constant(F32, _MOST), ir.Constant(F32, 0.0)
        odd = code.b.select(finite, none, ir.Constant(F32, float("nan")))
        factor = code.b.select(usable, code.b.fdiv(magnitude, limit), odd)
        inverse = code.b.select(usable, code.b.fdiv(limit, magnitude), none)
        many, by = code.splat(usable, lanes), code.splat(inverse, lanes)
        total = zeros(bits)
        for i in range(panel.group // lanes):
            narrow = zeros(ir.VectorType(I8, lanes))
            if i < len(parts):
                taken = code.b.select(many, parts[i], zeros(parts[i].type))
                value = code.intrinsic("roundeven", code.b.fmul(taken, by))
                whole = code.b.fptosi(value, bits)
                total = code.b.add(total, whole)
                narrow = code.b.trunc(whole, narrow.type)
            place = code.add(code.mul(g, panel.group), i * lanes)
            code.vstore(narrow, code.at(row, place, I8))
        code.store(factor, code.at(factors(code, panel, row), g))
        total = code.b.sitofp(_reduced(code, "add", total), F32)
        code.store(total, code.at(sums(code, panel, row), g))

    _rows(code, panel, a, lda, rows, out, group)


def emit_pairs(code: Code, panel: Panel, a: ir.Value, lda: Int, rows: Int, out: ir.Value) -> None:
    """bf16, every four k in the order 0, 2, 1, 3; sums of each group. On AVX512-BF16."""
    lanes = bf16.LANES
    halves = ir.VectorType(ir.IntType(16), lanes)

    def group(source: ir.Value, row: ir.Value, g: Int, count: int) -> None:
        parts = _parts(code, source, count, lanes)
        total = zeros(code.vector(lanes))
        for i in range(panel.group // lanes):
            value = zeros(halves)
            if i < len(parts):
                picks = ir.Constant(ir.VectorType(I32, lanes), list(_PAIRS))
                moved = code.b.shuffle_vector(parts[i], parts[i], picks)
                (value,) = bf16.split(code, moved, 1)
                total = code.b.fadd(total, bf16.widen(code, value))
            place = code.add(code.mul(g, panel.group), i * lanes)
            code.vstore(value, code.at(row, code.mul(place, 2), I8))
        code.store(_sum(code, total), code.at(sums(code, panel, row), g))

    _rows(code, panel, a, lda, rows, out, group)


def _rows(
    code: Code,
    panel: Panel,
    a: ir.Value,
    lda: Int,
    rows: Int,
    out: ir.Value,
    group: Callable[[ir.Value, ir.Value, Int, int], None],
) -> None:
    """``group(first element, prepared row, number, elements)`` for all groups of all rows."""
    whole, rest = divmod(panel.k, panel.group)
    with code.loop(0, rows) as row:
        source = code.at(a, code.mul(row.index, lda))
        target = code.at(out, code.mul(row.index, panel.row_bytes), I8)
        with code.loop(0, whole) as g:
            first = code.at(source, code.mul(g.index, panel.group))
            group(first, target, g.index, panel.group)
        if rest:
            group(code.at(source, whole * panel.group), target, whole, rest)


def _parts(code: Code, source: ir.Value, count: int, lanes: int) -> list[ir.Value]:
    """``count`` f32, the last vector filled up with zeros."""
    found = []
    for at in range(0, count, lanes):
        mask = None if at + lanes <= count else code.first_lanes(count - at, lanes)
        found.append(code.vload(code.at(source, at), lanes, mask))
    return found


def _reduced(code: Code, how: str, values: ir.Value) -> ir.Value:
    kind = ir.FunctionType(I32, [values.type])
    name = f"llvm.vector.reduce.{how}.v{values.type.count}i32"
    return code.b.call(code.declare(name, kind), [values])


def _sum(code: Code, values: ir.Value) -> ir.Value:
    """Sum of the lanes, halves added to each other."""
    lanes = values.type.count
    while lanes > 1:
        lanes //= 2
        low, high = (
            ir.Constant(ir.VectorType(I32, lanes), list(range(at, at + lanes))) for at in (0, lanes)
        )
        values = code.b.fadd(
            code.b.shuffle_vector(values, values, low), code.b.shuffle_vector(values, values, high)
        )
    return code.b.extract_element(values, ir.Constant(I32, 0))
