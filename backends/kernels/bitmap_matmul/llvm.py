"""LLVM emitter of the matmul with bitmaps."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.bitmap_matmul.spec import BitmapMatmulSpec, few
from tilewright.backends.llvm import bf16_block as bf16_rows
from tilewright.backends.llvm import gemm, int8, int8_scaled_gemm
from tilewright.backends.llvm.bitmap_dots import emit_dots, wide_panels
from tilewright.backends.llvm.bitmap_lines import CELL, LINE, PER_GROUP, emit_cells, serves
from tilewright.backends.llvm.builder import F32, I8, I32, I64, Code, Int
from tilewright.backends.llvm.formats import F32_FORMAT
from tilewright.backends.llvm.frame import Frame, Matmul, Split, TileSplit
from tilewright.backends.llvm.int8_rows import Rows, emit_rows
from tilewright.backends.llvm.int8_scaled_product import Finish, Product
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.sparse_sums import Scaled, Sums
from tilewright.backends.llvm.widened import Widened, emit_widened
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """x86-64 from AVX2 on."""
    return serves(target)


@dataclass(frozen=True)
class _Launch:
    """A launch at code generation time."""

    spec: BitmapMatmulSpec
    x: Matmul
    span: tuple[ir.Value, ir.Value]
    tile: ir.Value

    def part(self, code: Code, index: int) -> ir.Value:
        """Scratch behind the tile: 0 scales, 1 expanded panels, 2 rows."""
        s = self.spec
        sizes = (s.tile_bytes, s.scale_bytes, s.panels_per_unit * s.wide_bytes)
        return code.at(self.tile, sum(sizes[: index + 1]), I8)

    def panel(self, code: Code, index: Int) -> tuple[ir.Value, ir.Value]:
        """Cells of a panel and what belongs to its columns."""
        start = code.load(code.at(self.x.b, index, I64), I64)
        columns = code.at(self.x.b, start, I8)
        return code.at(columns, self.spec.column_bytes, I8), columns


def emit(module: ir.Module, spec: BitmapMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' does not expand lines of bitmaps")
    frame = Frame.open(module, target, name)
    code = frame.code
    p = _Launch(spec, Matmul.load(frame, spec.epilogue), (frame.begin, frame.end), frame.scratch)
    most = few(spec, target)
    if not most:
        _many_rows(code, p)
        return frame.close()
    with code.either(code.cmp("<=", p.x.m, most)) as (small, large):
        with small:
            _few_rows(code, p, most)
        with large:
            _many_rows(code, p)
    return frame.close()


def _many_rows(code: Code, p: _Launch) -> None:
    if p.spec.q == 1:
        _exact(code, p)
    elif p.spec.q == 2:
        _short(code, p)
    else:
        _bytes(code, p)


def _few_rows(code: Code, p: _Launch, most: int) -> None:
    """All rows by the panels of all units."""
    spec, x = p.spec, p.x
    first, last = spec.division.span(code, *p.span)
    rows = p.part(code, 2)
    a: tuple[ir.Value, Int] = (rows, 0)
    if spec.q == 1:
        a = (x.a, x.lda)
    elif spec.q == 2:
        bf16_rows.emit_block(code, x.a, x.lda, x.m, spec.k, 1, rows)
    else:
        _quantize(code, p, 0, x.m, ir.Constant(ir.IntType(1), 0))

    def some(count: int) -> None:
        # Each stream of panels goes on where it was, so that what it asks for beyond a panel's end
        # is its next one: 3 to 20 % less time than with neighbours in turn.
        wide = wide_panels(count)
        each = code.div(code.max(code.sub(last, first), 0), wide)
        edge = code.add(first, code.mul(each, wide))
        for begin, end, panels in ((first, code.add(first, each), wide), (edge, last, 1)):
            with code.loop(begin, end) as panel:
                numbers = [code.add(panel.index, code.mul(each, i)) for i in range(panels)]
                parts = [p.panel(code, number) for number in numbers]
                emit_dots(code, spec.q, count, a, parts, spec.groups, p.tile)
                for i, (number, (_, columns)) in enumerate(zip(numbers, parts, strict=True)):
                    at = code.at(p.tile, i * count * PANEL)
                    sums = Sums(at, x.c, x.ldc, spec.n, spec.epilogue, x.operands)
                    scaled = None
                    if spec.q == 4:
                        scaled = Scaled(code.at(columns, PANEL), p.part(code, 0), whole=True)
                    with code.loop(0, count) as row:
                        sums.finish(code, row.index, row.index, number, scaled)

    code.switch(x.m, most, some)


def _exact(code: Code, p: _Launch) -> None:
    """Panels as f32, one after another."""
    spec, x = p.spec, p.x
    wide = p.part(code, 1)
    split = Split.of(code, x.m, spec.rows_per_unit)
    with spec.division.each(code, *p.span) as unit:
        start, rows = split.block(code, unit.block)
        with code.loop(unit.first, unit.last) as panel:
            _expand(code, p, panel.index, wide)
            column = code.mul(panel.index, PANEL)
            product = gemm.Product(
                a=code.at(x.a, code.mul(start, x.lda)),
                lda=x.lda,
                b=wide,
                k=spec.k,
                c=code.at(code.at(x.c, code.mul(start, x.ldc)), column),
                ldc=x.ldc,
                n=PANEL if spec.n % PANEL == 0 else code.min(code.sub(spec.n, column), PANEL),
                tile=p.tile,
                epilogue=spec.epilogue,
                operands=x.operands,
                row=start,
                column=column,
            )
            gemm.emit_rows(code, product, rows, 0, 1)


def _short(code: Code, p: _Launch) -> None:
    """Panels in bf16, or f32 where the target does not multiply those."""
    spec = p.spec

    def widen(panel: Int, out: ir.Value, short: bool) -> None:
        steps = bf16_rows.steps(spec.k)
        size = steps * (bf16_rows.STEP // 2) * PER_GROUP * LINE
        place = out if short else code.at(out, size, I8)
        _expand(code, p, panel, place)
        _clear(code, place, spec.cells * CELL * PER_GROUP, size // LINE)
        if not short:
            _as_f32(code, place, steps * bf16_rows.STEP // 2, out)

    of = Widened(spec.k, spec.n, spec.epilogue, spec.division, spec.rows_per_unit, widen)
    emit_widened(code, of, p.x, p.span, p.tile, p.part(code, 1))


def _as_f32(code: Code, pairs: ir.Value, count: int, out: ir.Value) -> None:
    """``count`` groups of bf16 as two rows of f32 each. They lie at the end of ``out``: what a
    group becomes reaches no further than the group itself."""
    lanes = code.target.lanes_f32
    kind = ir.VectorType(I32, lanes)
    up, high = (ir.Constant(kind, [x] * lanes) for x in (16, -(1 << 16)))
    with code.loop(0, count) as pair:
        source = code.at(pairs, code.mul(pair.index, PER_GROUP * LINE), I8)
        target = code.at(out, code.mul(pair.index, 2 * PANEL))
        taken = [
            code.vload(code.at(source, v, I32), lanes, element=I32) for v in range(0, PANEL, lanes)
        ]
        for i, both in enumerate(taken):
            for k, bits in enumerate((code.b.shl(both, up), code.b.and_(both, high))):
                code.vstore(bits, code.at(target, k * PANEL + i * lanes, I32))


def _bytes(code: Code, p: _Launch) -> None:
    """Rows in 8 bits by panels in 8 bits."""
    spec, x = p.spec, p.x
    wide, rows_at = p.part(code, 1), p.part(code, 2)
    size = spec.wide_bytes
    split = TileSplit.of(code, x.m, spec.rows_per_unit)
    int8_scaled_gemm.begin(code, x.m)
    with spec.division.each(code, *p.span) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            _quantize(code, p, start, rows, int8_scaled_gemm.by_tiles(code, rows))
        with code.loop(unit.first, unit.last) as panel:
            place = code.at(wide, code.mul(code.sub(panel.index, unit.first), size), I8)
            columns = _expand(code, p, panel.index, place)
            end = (size - spec.column_bytes) // LINE
            _clear(code, place, spec.cells * CELL * PER_GROUP, end)
            _copy(code, columns, code.at(place, end * LINE, I8), spec.column_bytes // LINE)
        product = Product(
            a=rows_at,
            tail=None,
            b=code.at(wide, code.mul(unit.first, -size), I8),
            k=spec.k,
            finish=Finish(spec.n, spec.epilogue, F32_FORMAT, False),
            c=code.at(x.c, code.mul(start, x.ldc)),
            ldc=x.ldc,
            scales=p.part(code, 0),
            scratch=p.tile,
            operands=x.operands,
            row=start,
        )
        int8_scaled_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    int8_scaled_gemm.end(code, x.m)


def _quantize(code: Code, p: _Launch, start: Int, rows: Int, signed: ir.Value | None) -> None:
    spec, x = p.spec, p.x
    own = Rows(code.at(x.a, code.mul(start, x.lda)), x.lda, spec.k)
    scales = p.part(code, 0)
    factors = code.at(scales, spec.rows_per_unit, F32)
    d = int8.dots(code.target)
    emit_rows(code, d, own, rows, p.part(code, 2), scales, factors, signed=signed)


def _expand(code: Code, p: _Launch, panel: Int, out: ir.Value) -> ir.Value:
    """The lines of a panel to ``out``; what belongs to its columns."""
    cells, columns = p.panel(code, panel)
    emit_cells(code, p.spec.q, cells, p.spec.cells, out)
    return columns


def _clear(code: Code, out: ir.Value, first: int, last: int) -> None:
    """Zeros in lines from ``first`` to ``last``."""
    lanes = code.target.lanes_f32
    with code.loop(first, last) as line:
        target = code.at(out, code.mul(line.index, LINE), I8)
        for i in range(0, LINE // 4, lanes):
            code.vstore(ir.Constant(code.vector(lanes), None), code.at(target, i))


def _copy(code: Code, source: ir.Value, out: ir.Value, lines: int) -> None:
    lanes = code.target.lanes_f32
    for i in range(0, lines * LINE // 4, lanes):
        code.vstore(code.vload(code.at(source, i), lanes), code.at(out, i))
