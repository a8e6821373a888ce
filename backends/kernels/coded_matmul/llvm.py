"""LLVM emitter of the matmul with B in codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.coded_matmul import codes
from tilewright.backends.kernels.coded_matmul.spec import FEW, CodedMatmulSpec, supports
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import I8, I64, KERNEL_TYPE, Code, Int
from tilewright.backends.llvm.epilogue import Operand, load_extras
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


@dataclass(frozen=True)
class _Launch:
    """The arguments of a launch; `b` is panel 0."""

    spec: CodedMatmulSpec
    a: ir.Value
    lda: Int
    b: ir.Value
    c: ir.Value
    ldc: Int
    operands: Sequence[Operand]
    scratch: ir.Value


def emit(module: ir.Module, spec: CodedMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' does not convert f16")
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    a, b = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 3)
    c = gemm.load_pointer(code, args, 2 + len(operands))
    launch = _Launch(spec, a, lda, b, c, ldc, operands, scratch)
    width = spec.panels_per_unit
    with code.either(code.cmp("<=", m, FEW)) as (small, large):
        with small:
            first = code.mul(begin, width)
            last = code.min(code.mul(end, width), spec.panels)
            _few_rows(code, launch, m, first, last)
        with large:
            _many_rows(code, launch, m, begin, end)
    gemm.ok(code)
    return fn


def _few_rows(code: Code, p: _Launch, rows: ir.Value, first: Int, last: Int) -> None:
    """All rows by the panels [first, last): a case for each number of rows."""
    done = code.b.append_basic_block("few.done")
    switch = code.b.switch(rows, done)
    for r in range(1, FEW + 1):
        case = code.b.append_basic_block(f"few{r}")
        switch.add_case(ir.Constant(I64, r), case)
        code.b.position_at_end(case)
        with code.loop(first, last) as panel:
            b = code.at(p.b, code.mul(panel.index, p.spec.panel_bytes), I8)
            codes.emit_product(code, p.spec, (p.a, p.lda), b, r, p.scratch)
            _finish(code, p, r, panel.index)
        code.b.branch(done)
    code.b.position_at_end(done)


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
                code, p.spec.epilogue, value, p.operands, row.index, column, mask
            )
            target = code.at(code.at(p.c, code.mul(row.index, p.ldc)), column)
            code.vstore(value, target, mask)


def _many_rows(code: Code, p: _Launch, m: ir.Value, begin: ir.Value, end: ir.Value) -> None:
    """The units [begin, end): every panel is decoded for the rows of its unit."""
    spec, width = p.spec, p.spec.panels_per_unit
    across = -(-spec.panels // width)
    wide = code.at(p.scratch, gemm.TILE_BYTES, I8)
    with code.loop(begin, end) as unit:
        split = gemm.Split.of(code, m, spec.rows_per_unit)
        start, rows = split.block(code, code.div(unit.index, across))
        first = code.mul(code.rem(unit.index, across), width)
        last = code.min(code.add(first, width), spec.panels)
        with code.loop(first, last) as panel:
            b = code.at(p.b, code.mul(panel.index, spec.panel_bytes), I8)
            codes.emit_decoded(code, spec, b, wide)
            column = code.mul(panel.index, PANEL)
            left = code.sub(spec.n, column)
            product = gemm.Product(
                a=code.at(p.a, code.mul(start, p.lda)),
                lda=p.lda,
                b=wide,
                k=spec.k,
                c=code.at(code.at(p.c, code.mul(start, p.ldc)), column),
                ldc=p.ldc,
                n=PANEL if spec.n % PANEL == 0 else code.min(left, PANEL),
                tile=p.scratch,
                epilogue=spec.epilogue,
                operands=p.operands,
                row=start,
                column=column,
            )
            gemm.emit_many_rows(code, product, rows, 0, 1)
