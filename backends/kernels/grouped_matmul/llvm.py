"""LLVM emitter of the matmul with group-wise integer weights."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec, head_bytes
from tilewright.backends.llvm import bf16, bf16_gemm, gemm, grouped_rows
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.bf16_block import emit_block, steps
from tilewright.backends.llvm.builder import I8, I64, Code, Int, i64
from tilewright.backends.llvm.frame import Frame, Matmul, Split, TileSplit, Units
from tilewright.backends.llvm.grouped_dots import block, dot_kernel, most_rows
from tilewright.backends.llvm.grouped_wide import emit_wide, wide_bytes
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

SIZES = (1, 2, 4, 8)
"""Rows of the blocks of few rows that there is code for: every size would take long to compile."""


def supports(target: Target) -> bool:
    """x86-64 with FMA and conversions of f16, that is from AVX2 on."""
    return target.triple.startswith("x86_64") and "f16c" in target.all_features


def dots(spec: GroupedMatmulSpec, target: Target) -> bool:
    """Whether few rows are multiplied with the codes themselves."""
    return spec.int8 or bf16.has_dots(target)


@dataclass(frozen=True)
class _Call:
    """Arguments of a launch at code generation time."""

    spec: GroupedMatmulSpec
    x: Matmul
    begin: ir.Value
    end: ir.Value
    scratch: ir.Value

    @property
    def units(self) -> Units:
        return Units(self.spec.panels, self.spec.panels_per_unit)

    def room(self, code: Code) -> ir.Value:
        """Scratch behind the tiles of sums."""
        return code.at(self.scratch, head_bytes(self.spec), I8)


def emit(module: ir.Module, spec: GroupedMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no conversions of f16")
    frame = Frame.open(module, target, name)
    code, x = frame.code, Matmul.load(frame, spec.epilogue)
    call = _Call(spec, x, frame.begin, frame.end, frame.scratch)
    many = _emit_bf16 if bf16.has_dots(target) else _emit_f32
    if dots(spec, target):
        with code.either(code.cmp("<=", x.m, spec.few)) as (small, large):
            with small:
                _emit_few(code, call)
            with large:
                many(code, call)
    else:
        many(code, call)
    return frame.close()


def _emit_few(code: Code, call: _Call) -> None:
    """All units of a thread as one, so that several panels stream side by side."""
    spec, panel = call.spec, call.spec.panel
    rows = call.room(code)
    prepare = grouped_rows.emit_codes if spec.int8 else grouped_rows.emit_pairs
    prepare(code, panel, call.x.a, call.x.lda, call.x.m, rows)
    first, last = call.units.span(code, call.begin, call.end)
    most = min(spec.few, most_rows(code.target))
    with code.loop(0, call.x.m, most) as start:
        size = code.min(code.sub(call.x.m, start.index), most)
        own = code.at(rows, code.mul(start.index, panel.row_bytes), I8)
        done = code.b.append_basic_block("few.done")
        switch = code.b.switch(i64(size), done)
        for r in (r for r in SIZES if r <= most):
            case = code.b.append_basic_block(f"few{r}")
            for rows_here in range(r // 2 + 1, r + 1):
                switch.add_case(ir.Constant(I64, rows_here), case)
            code.b.position_at_end(case)
            _few(code, call, own, (start.index, size, r), first, last)
            code.b.branch(done)
        code.b.position_at_end(done)


def _few(
    code: Code, call: _Call, rows: ir.Value, place: tuple[Int, Int, int], first: Int, last: Int
) -> None:
    """Rows by the panels [first, last). ``place``: the first one, how many there are, and how many
    are computed, of which the last ones are of nothing and not kept."""
    spec = call.spec
    count = place[2]
    wide = block(code.target, spec.panel, spec.int8, count, 4)
    one = block(code.target, spec.panel, spec.int8, count, 1)
    edge = first
    if wide.panels > 1:
        whole = code.div(code.max(code.sub(last, first), 0), wide.panels)
        edge = code.add(first, code.mul(whole, wide.panels))
    for of, begin, end in ((wide, first, edge), (one, edge, last)):
        if of is wide and wide.panels == 1:
            continue
        with code.loop(begin, end, of.panels) as panel:
            for part in range(0, PANEL // code.target.lanes_f32, of.vectors):
                args = [rows, call.x.b, i64(panel.index), i64(part), call.scratch]
                code.b.call(dot_kernel(code, of), args)
            _finish(code, call, place, panel.index, of.panels)


def _finish(code: Code, call: _Call, place: tuple[Int, Int, int], panel: Int, panels: int) -> None:
    """From the tile [panels][computed rows][32] through the epilogue to C."""
    spec, lanes = call.spec, code.target.lanes_f32
    start, size, rows = place
    with code.loop(0, panels) as part, code.loop(0, size) as row:
        column = code.mul(code.add(panel, part.index), PANEL)
        line = code.mul(code.add(code.mul(part.index, rows), row.index), PANEL)
        m = code.add(start, row.index)
        target = code.at(code.at(call.x.c, code.mul(m, call.x.ldc)), column)
        for v in range(0, PANEL, lanes):
            at = code.add(column, v)
            mask = None if spec.n % PANEL == 0 else code.first_lanes(code.sub(spec.n, at), lanes)
            value = code.vload(code.at(call.scratch, code.add(line, v)), lanes)
            value = epilogues.emit(code, spec.epilogue, value, call.x.operands, m, at, mask)
            code.vstore(value, code.at(target, v), mask)


def _emit_bf16(code: Code, call: _Call) -> None:
    """Panels of a unit in bf16, then tiles or dot products of all rows of its block."""
    spec, x = call.spec, call.x
    wide = call.room(code)
    block_a = code.at(wide, spec.wide_bytes, I8)
    size_of_panel = wide_bytes(spec.panel, True)
    split = TileSplit.of(code, x.m, spec.rows_per_unit)
    bf16_gemm.begin(code, x.m)
    # Units of one block follow each other, so its rows are converted once a thread.
    with call.units.each(code, call.begin, call.end) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            own = code.at(x.a, code.mul(start, x.lda))
            emit_block(code, own, x.lda, rows, spec.k, 1, block_a)
        with code.loop(unit.first, unit.last) as panel:
            place = code.mul(code.sub(panel.index, unit.first), size_of_panel)
            emit_wide(code, spec.panel, x.b, panel.index, code.at(wide, place, I8), True)
        product = bf16_gemm.Product(
            a=block_a,
            b=code.at(wide, code.mul(unit.first, -size_of_panel), I8),
            k=spec.k,
            products=1,
            c=code.at(x.c, code.mul(start, x.ldc)),
            ldc=x.ldc,
            n=spec.n,
            tile=call.scratch,
            epilogue=spec.epilogue,
            operands=x.operands,
            row=start,
        )
        bf16_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    bf16_gemm.end(code, x.m)


def _emit_f32(code: Code, call: _Call) -> None:
    """One panel after another in f32."""
    spec, x = call.spec, call.x
    wide = call.room(code)
    stride = steps(spec.k) * 32 * PANEL
    split = Split.of(code, x.m, spec.rows_per_unit)
    with call.units.each(code, call.begin, call.end) as unit:
        start, rows = split.block(code, unit.block)
        with code.loop(unit.first, unit.last) as panel:
            emit_wide(code, spec.panel, x.b, panel.index, wide, False)
            product = gemm.Product(
                a=code.at(x.a, code.mul(start, x.lda)),
                lda=x.lda,
                b=code.at(wide, code.mul(panel.index, -stride)),
                k=spec.k,
                c=code.at(x.c, code.mul(start, x.ldc)),
                ldc=x.ldc,
                n=spec.n,
                tile=call.scratch,
                epilogue=spec.epilogue,
                operands=x.operands,
                panel_stride=stride,
                row=start,
            )
            gemm.emit_rows(code, product, rows, panel.index, code.add(panel.index, 1))
