"""LLVM emitter of the matmul with group-wise integer weights."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec, head_bytes
from tilewright.backends.llvm import bf16, grouped_rows
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.builder import I8, I64, Code, Int, i64
from tilewright.backends.llvm.frame import Frame, Matmul, Units
from tilewright.backends.llvm.grouped_dots import block, dot_kernel, most_rows
from tilewright.backends.llvm.grouped_wide import emit_wide
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.widened import Widened, emit_widened
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
    begin: Int
    end: Int
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
    x = Matmul.load(frame, spec.epilogue)
    multiply(frame.code, spec, x, frame.begin, frame.end, frame.scratch)
    return frame.close()


def multiply(
    code: Code, spec: GroupedMatmulSpec, x: Matmul, begin: Int, end: Int, scratch: ir.Value
) -> None:
    """The units [begin, end)."""
    call = _Call(spec, x, begin, end, scratch)
    if dots(spec, code.target):
        with code.either(code.cmp("<=", x.m, spec.few)) as (small, large):
            with small:
                _emit_few(code, call)
            with large:
                _emit_many(code, call)
    else:
        _emit_many(code, call)


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


def _emit_many(code: Code, call: _Call) -> None:
    spec = call.spec

    def widen(index: Int, out: ir.Value, short: bool) -> None:
        emit_wide(code, spec.panel, call.x.b, index, out, short)

    found = Widened(spec.k, spec.n, spec.epilogue, call.units, spec.rows_per_unit, widen)
    emit_widened(code, found, call.x, (call.begin, call.end), call.scratch, call.room(code))
