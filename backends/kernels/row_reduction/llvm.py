"""LLVM emitter of reductions of rows."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.row_reduction.spec import RowReductionSpec
from tilewright.backends.llvm import row_states
from tilewright.backends.llvm.builder import F32, I32, I64, Code, Int
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.irregular import DATA_ERROR
from tilewright.backends.llvm.row_states import Columns, Ids
from tilewright.backends.target import Target

PIECE = 1024
"""Columns that are looked at twice, for their maximum and their sum, while they are in L1."""


def emit(module: ir.Module, spec: RowReductionSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, reading, state = frame.code, spec.reading, frame.scratch
    m, stride, x = frame.dim(0), frame.dim(1), frame.pointer(0)
    first = 2 if reading.ids else 1
    with code.loop(frame.begin, frame.end) as row:
        ids = None
        if reading.ids:
            ids = Ids(code.at(frame.pointer(1), code.mul(row.index, reading.count), I64), spec.n)
            _check(code, ids, reading.count)
        row_states.start(code, reading, state, 0)
        if spec.part:
            with code.loop(0, spec.parts) as part:
                row_states.merge(
                    code, reading, state, _left(code, spec, x, m, part.index, row.index)
                )
        else:
            base = code.at(x, code.mul(row.index, stride))
            with code.loop(0, spec.n, PIECE) as piece:
                width = code.min(PIECE, code.sub(spec.n, piece.index))
                columns = Columns(code.at(base, piece.index), width, piece.index)
                row_states.absorb(code, reading, state, columns)

        def picked(j: ir.Value, row: Int = row.index, ids: Ids | None = ids) -> ir.Value:
            assert ids is not None
            at = ids.load(code, j)
            if not spec.part:
                return code.load(code.at(x, code.add(code.mul(row, stride), at)))
            left = _left(code, spec, x, m, code.div(at, spec.part), row)
            return code.load(code.at(left, code.add(2, j)))

        places = [
            code.at(
                frame.pointer(first + i),
                code.mul(row.index, count),
                I64 if kind == "i64" else F32,
            )
            for i, (kind, count) in enumerate(reading.results)
        ]
        row_states.finish(code, reading, state, places, picked if reading.ids else None)
    return frame.close()


def _left(code: Code, spec: RowReductionSpec, x: ir.Value, m: Int, part: Int, row: Int) -> ir.Value:
    """What a part has left of a row."""
    return code.at(x, code.mul(code.add(code.mul(part, m), row), spec.reading.words))


def _check(code: Code, ids: Ids, count: int) -> None:
    with code.loop(0, count) as j:
        at = ids.load(code, j.index)
        wrong = code.b.or_(code.cmp("<", at, 0), code.cmp(">=", at, ids.n))
        with code.when(wrong):
            code.b.ret(ir.Constant(I32, DATA_ERROR))
