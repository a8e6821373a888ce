"""Codes of a packed panel in registers: multiplied as they are, or decoded to f32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from tilewright.backends.kernels.coded_matmul.spec import CodedMatmulSpec
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int, zeros
from tilewright.backends.llvm.microkernel import PANEL

F16 = ir.HalfType()

AHEAD = 16
"""Words of all columns, 128 bytes each, that are asked for before their use."""

Body = Callable[[Int, int, list[ir.Value]], None]
"""(k of a word's first code, how many of its codes count, the word of every vector of columns)."""


def emit_product(
    code: Code,
    spec: CodedMatmulSpec,
    left: tuple[ir.Value, Int],
    b: ir.Value,
    rows: int,
    tile: ir.Value,
) -> None:
    """``rows`` rows of A (`left`: the first one, and their stride) by the panel ``b`` into ``tile``
    [rows][32]. Sums of a group, whose products are by whole numbers, are scaled and added up."""
    a, lda = left
    lanes = code.target.lanes_f32
    vectors = min(2, PANEL // lanes)
    # One row has two sums an element, which hide the latency of an FMA.
    deep = 2 if rows == 1 else 1
    start = [zeros(code.vector(lanes))] * (rows * vectors)
    for part in range(0, PANEL, vectors * lanes):
        columns = [part + v * lanes for v in range(vectors)]

        def group(
            first: Int, size: int, index: Int, totals: list[ir.Value],
            columns: list[int] = columns,
        ) -> list[ir.Value]:  # fmt: skip
            points = _zeros(code, spec, b, index, columns)
            sums = start * deep

            def word(k: Int, count: int, words: list[ir.Value]) -> None:
                for j in range(count):
                    values = [_number(code, spec, x, j, z)
                              for x, z in zip(words, points, strict=True)]  # fmt: skip
                    for r in range(rows):
                        at = code.at(code.at(a, code.mul(lda, r)), code.add(k, j))
                        x = code.splat(code.load(at), lanes)
                        for v, value in enumerate(values):
                            i = (j % deep * rows + r) * vectors + v
                            sums[i] = code.fma(x, value, sums[i])

            _words(code, spec, b, first, size, columns, word, sums)
            scales = _scales(code, spec, b, index, columns)
            found = []
            for i, total in enumerate(totals):
                one = sums[i]
                for d in range(1, deep):
                    one = code.b.fadd(one, sums[d * rows * vectors + i])
                found.append(code.fma(one, scales[i % vectors], total))
            return found

        totals = _groups(code, spec, start, group)
        for i, total in enumerate(totals):
            code.vstore(total, code.at(tile, i // vectors * PANEL + columns[i % vectors]))


def emit_decoded(code: Code, spec: CodedMatmulSpec, b: ir.Value, out: ir.Value) -> None:
    """The panel ``b`` as f32 [K][32] at ``out``."""
    lanes = code.target.lanes_f32
    vectors = min(2, PANEL // lanes)
    for part in range(0, PANEL, vectors * lanes):
        columns = [part + v * lanes for v in range(vectors)]

        def group(
            first: Int, size: int, index: Int, totals: list[ir.Value],
            columns: list[int] = columns,
        ) -> list[ir.Value]:  # fmt: skip
            points = _zeros(code, spec, b, index, columns)
            scales = _scales(code, spec, b, index, columns)

            def word(k: Int, count: int, words: list[ir.Value]) -> None:
                for j in range(count):
                    line = code.at(out, code.mul(code.add(k, j), PANEL))
                    for v, x in enumerate(words):
                        value = code.b.fmul(_number(code, spec, x, j, points[v]), scales[v])
                        code.vstore(value, code.at(line, columns[v]))

            _words(code, spec, b, first, size, columns, word, [])
            return totals

        _groups(code, spec, [], group)


def _groups(
    code: Code,
    spec: CodedMatmulSpec,
    start: list[ir.Value],
    group: Callable[[Int, int, Int, list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """``group(first k, how many k, index, totals)`` for every group; the totals after them."""
    whole = spec.k // spec.group
    with code.loop(0, whole, 1, start) as at:
        at.next = group(code.mul(at.index, spec.group), spec.group, at.index, at.carried)
    totals = at.carried
    if spec.k % spec.group:
        totals = group(whole * spec.group, spec.k % spec.group, whole, totals)
    return totals


def _words(
    code: Code,
    spec: CodedMatmulSpec,
    b: ir.Value,
    first: Int,
    size: int,
    columns: Sequence[int],
    body: Body,
    sums: list[ir.Value],
) -> None:
    """``body`` for the words of ``size`` k from ``first`` on; it changes ``sums``."""
    lanes = code.target.lanes_f32
    begin = code.div(first, spec.word)
    whole, rest = divmod(size, spec.word)

    def one(index: Int, count: int) -> None:
        line = code.at(b, code.mul(index, 4 * PANEL), I8)
        for column in columns:
            if column % 16 == 0:
                code.prefetch(code.at(line, 4 * (AHEAD * PANEL + column), I8))
        words = [code.vload(code.at(line, c, I32), lanes, element=I32) for c in columns]
        body(code.mul(index, spec.word), count, words)

    with code.loop(begin, code.add(begin, whole), 1, [*sums]) as at:
        sums[:] = at.carried
        one(at.index, spec.word)
        at.next = list(sums)
    sums[:] = at.carried
    if rest:
        one(code.add(begin, whole), rest)


def _number(
    code: Code, spec: CodedMatmulSpec, words: ir.Value, j: int, zero: ir.Value | None
) -> ir.Value:
    """Code ``j`` of every word less its zero point, f32."""
    bits, lanes = spec.format.bits, code.target.lanes_f32
    whole = code.vector(lanes, I32)
    middle = 2 ** (bits - 1)
    if j:
        words = code.b.lshr(words, ir.Constant(whole, [bits * j] * lanes))
    if lanes == 16 and bits <= 4:
        # A permutation reads 4 bits of its index: two codes of 2 bits, of which one counts.
        shift = 0 if zero is not None else middle
        table = ir.Constant(code.vector(16), [float(i % 2**bits - shift) for i in range(16)])
        kind = ir.FunctionType(table.type, [table.type, whole])
        permute = code.declare("llvm.x86.avx512.permvar.sf.512", kind)
        value = code.b.call(permute, [table, words])
        return value if zero is None else code.b.fsub(value, zero)
    if bits * (j + 1) < 32:
        words = code.b.and_(words, ir.Constant(whole, [2**bits - 1] * lanes))
    value = code.b.sitofp(words, code.vector(lanes))
    return code.b.fsub(value, code.splat(float(middle), lanes) if zero is None else zero)


def _scales(
    code: Code, spec: CodedMatmulSpec, b: ir.Value, group: Int, columns: Sequence[int]
) -> list[ir.Value]:
    """Scales of a group, one vector for each of ``columns``."""
    lanes = code.target.lanes_f32
    size = spec.scale_bytes
    line = code.at(code.at(b, spec.code_bytes, I8), code.mul(group, PANEL * size), I8)
    if size == 4:
        return [code.vload(code.at(line, c), lanes) for c in columns]
    halves = [code.vload(code.at(line, c, F16), lanes, element=F16) for c in columns]
    return [code.b.fpext(h, code.vector(lanes)) for h in halves]


def _zeros(
    code: Code, spec: CodedMatmulSpec, b: ir.Value, group: Int, columns: Sequence[int]
) -> list[ir.Value | None]:
    """Zero points of a group, f32; None where they are the middle of the codes."""
    lanes, size = code.target.lanes_f32, spec.zero_bytes
    if not size:
        return [None] * len(columns)
    place = spec.code_bytes + spec.groups * PANEL * spec.scale_bytes
    line = code.at(code.at(b, place, I8), code.mul(group, PANEL * size), I8)
    if size == 4:
        return [code.vload(code.at(line, c), lanes, element=F32) for c in columns]
    raw = [code.vload(code.at(line, c, I8), lanes, element=I8) for c in columns]
    return [code.b.uitofp(x, code.vector(lanes)) for x in raw]
