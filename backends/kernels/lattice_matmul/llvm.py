"""LLVM emitter of the matmul with weights on lattices."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.grouped_matmul.llvm import supports
from tilewright.backends.kernels.grouped_matmul.spec import head_bytes
from tilewright.backends.kernels.lattice_matmul.spec import TABLE_BYTES, LatticeMatmulSpec, rows_at
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import row_tile_bytes
from tilewright.backends.llvm.builder import I8, I32, Code, Int, zeros
from tilewright.backends.llvm.frame import Frame, Matmul, Units
from tilewright.backends.llvm.grouped_wide import emit_wide
from tilewright.backends.llvm.widened import Left, Widened, emit_widened
from tilewright.backends.target import Target
from tilewright.compiler.formats.lattice import GROUP, SIZE

__all__ = ["emit", "supports"]


def emit(module: ir.Module, spec: LatticeMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no conversions of f16")
    frame = Frame.open(module, target, name)
    code, x, inner = frame.code, Matmul.load(frame, spec.epilogue), spec.inner
    tables = code.at(x.b, spec.tables_at, I8)
    most = code.min(x.m, inner.rows_per_unit)
    tiles = code.mul(code.ceildiv(most, ROWS), row_tile_bytes(spec.k, 1))
    made = code.at(frame.scratch, code.add(tiles, rows_at(spec)), I8)

    def widen(index: Int, out: ir.Value, short: bool) -> None:
        emit_wide(code, spec.panel, x.b, index, out, short)

    def fill(start: Int, rows: Int) -> None:
        with code.loop(0, rows) as row:
            source = code.at(x.a, code.mul(code.add(start, row.index), x.lda))
            _fold(code, spec.k, tables, source, code.at(made, code.mul(row.index, spec.k)))

    units = Units(inner.panels, inner.panels_per_unit)
    left = Left(made, spec.k, fill)
    of = Widened(spec.k, spec.n, spec.epilogue, units, inner.rows_per_unit, widen, left=left)
    room = code.at(frame.scratch, head_bytes(inner), I8)
    emit_widened(code, of, x, (frame.begin, frame.end), frame.scratch, room)
    return frame.close()


def _fold(code: Code, k: int, tables: ir.Value, source: ir.Value, out: ir.Value) -> None:
    """One row: every vector of 8 times the basis of its group."""
    lanes = code.target.lanes_f32
    assert lanes in (SIZE, 2 * SIZE), "a vector is one or two of the lattice"
    with code.loop(0, k, lanes) as at:
        table = code.at(tables, code.mul(code.div(at.index, GROUP), TABLE_BYTES), I8)
        values = code.vload(code.at(source, at.index), lanes)
        total = zeros(values.type)
        for i in range(SIZE):
            picks = [i + SIZE * (lane // SIZE) for lane in range(lanes)]
            order = ir.Constant(ir.VectorType(I32, lanes), picks)
            one = code.b.shuffle_vector(values, values, order)
            total = code.fma(one, code.vload(code.at(table, 2 * SIZE * i), lanes), total)
        code.vstore(total, code.at(out, at.index))
