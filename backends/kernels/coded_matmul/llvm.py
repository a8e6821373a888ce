"""LLVM emitter of the matmul with B in codes."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.coded_matmul import codes
from tilewright.backends.kernels.coded_matmul.spec import FEW, CodedMatmulSpec, supports
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import I8, Code, Int
from tilewright.backends.llvm.frame import Frame, Matmul, Split, Units
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


@dataclass(frozen=True)
class _Launch:
    """A launch at code generation time; ``x.b`` is panel 0."""

    spec: CodedMatmulSpec
    x: Matmul
    scratch: ir.Value

    @property
    def units(self) -> Units:
        return Units(self.spec.panels, self.spec.panels_per_unit)


def emit(module: ir.Module, spec: CodedMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' does not convert f16")
    frame = Frame.open(module, target, name)
    code, begin, end = frame.code, frame.begin, frame.end
    p = _Launch(spec, Matmul.load(frame, spec.epilogue), frame.scratch)
    with code.either(code.cmp("<=", p.x.m, FEW)) as (small, large):
        with small:
            _few_rows(code, p, *p.units.span(code, begin, end))
        with large:
            _many_rows(code, p, begin, end)
    return frame.close()


def _few_rows(code: Code, p: _Launch, first: Int, last: Int) -> None:
    """All rows by the panels [first, last): a case for each number of rows."""

    def some(rows: int) -> None:
        with code.loop(first, last) as panel:
            b = code.at(p.x.b, code.mul(panel.index, p.spec.panel_bytes), I8)
            codes.emit_product(code, p.spec, (p.x.a, p.x.lda), b, rows, p.scratch)
            _finish(code, p, rows, panel.index)

    code.switch(p.x.m, FEW, some)


def _finish(code: Code, p: _Launch, rows: int, panel: ir.Value) -> None:
    """From the tile [row][32] to C."""
    lanes = code.target.lanes_f32
    start = code.mul(panel, PANEL)
    whole = p.spec.n % PANEL == 0
    with code.loop(0, rows) as row:
        line = code.at(p.scratch, code.mul(row.index, PANEL))
        for v in range(0, PANEL, lanes):
            column = code.add(start, v)
            mask = None if whole else code.first_lanes(code.sub(p.spec.n, column), lanes)
            value = code.vload(code.at(line, v), lanes)
            value = epilogues.emit(
                code, p.spec.epilogue, value, p.x.operands, row.index, column, mask
            )
            target = code.at(code.at(p.x.c, code.mul(row.index, p.x.ldc)), column)
            code.vstore(value, target, mask)


def _many_rows(code: Code, p: _Launch, begin: ir.Value, end: ir.Value) -> None:
    """The units [begin, end): every panel is decoded for the rows of its unit."""
    spec, x = p.spec, p.x
    wide = code.at(p.scratch, gemm.TILE_BYTES, I8)
    with p.units.each(code, begin, end) as unit:
        start, rows = Split.of(code, x.m, spec.rows_per_unit).block(code, unit.block)
        with code.loop(unit.first, unit.last) as panel:
            b = code.at(x.b, code.mul(panel.index, spec.panel_bytes), I8)
            codes.emit_decoded(code, spec, b, wide)
            column = code.mul(panel.index, PANEL)
            left = code.sub(spec.n, column)
            product = gemm.Product(
                a=code.at(x.a, code.mul(start, x.lda)),
                lda=x.lda,
                b=wide,
                k=spec.k,
                c=code.at(code.at(x.c, code.mul(start, x.ldc)), column),
                ldc=x.ldc,
                n=PANEL if spec.n % PANEL == 0 else code.min(left, PANEL),
                tile=p.scratch,
                epilogue=spec.epilogue,
                operands=x.operands,
                row=start,
                column=column,
            )
            gemm.emit_many_rows(code, product, rows, 0, 1)
