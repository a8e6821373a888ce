"""LLVM emitter of products that are reduced strip by strip: the product's own kernel, called for a
strip at a time, and the reduction of what it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulSpec, inner_bytes
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm import formats, row_states
from tilewright.backends.llvm.builder import I8, I64, PTR, Code, Int, i64
from tilewright.backends.llvm.epilogue import BYTES, INDEX_STRIDES
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.row_states import Columns, Ids
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: ReducedMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``. Raises ValueError where the product's
    family does."""
    strips = [_product(module, s, target, f"{name}_{i}") for i, s in enumerate(_strips(spec))]
    frame = Frame.open(module, target, name)
    code, reading = frame.code, spec.reading
    call = _Call(frame, spec)
    split = Split.of(code, call.m, spec.rows_per_unit)
    with code.loop(frame.begin, frame.end) as unit:
        start, rows = split.block(code, code.div(unit.index, spec.parts))
        part = code.rem(unit.index, spec.parts)
        line = code.add(code.mul(part, call.m), start)
        states = code.at(call.result, code.mul(line, reading.words))
        first = code.mul(part, spec.strips_per_part)
        with code.loop(0, rows) as row:
            state = code.at(states, code.mul(row.index, reading.words))
            row_states.start(code, reading, state, code.mul(part, spec.part))
        last = code.min(code.add(first, spec.strips_per_part), spec.strips)
        with code.loop(first, last) as strip:
            call.multiply(code, strips, start, rows, strip.index)
            column = code.mul(strip.index, spec.columns)
            width = code.min(spec.columns, code.sub(spec.n, column))
            with code.loop(0, rows) as row:
                state = code.at(states, code.mul(row.index, reading.words))
                line_at = code.at(call.tile, code.mul(row.index, spec.columns))
                ids = call.ids_of(code, code.add(start, row.index))
                row_states.absorb(code, reading, state, Columns(line_at, width, column), ids)
    return frame.close()


def _strips(spec: ReducedMatmulSpec) -> list[Any]:
    return [spec.strip, *([] if spec.rest is None else [spec.rest])]


def _product(module: ir.Module, spec: Any, target: Target, name: str) -> ir.Function:
    """The kernel of a strip, for this one alone."""
    emit_product = family(type(spec).__module__.split(".")[-2]).emit
    assert emit_product is not None
    made = emit_product(module, spec, target, name)
    made.linkage = "internal"
    return made


class _Call:
    """Arguments of the kernel, and those of the product's, which are in its own frame."""

    def __init__(self, frame: Frame, spec: ReducedMatmulSpec) -> None:
        code, epilogue = frame.code, spec.epilogue
        self.spec = spec
        self.m, self.lda = frame.dim(0), frame.dim(1)
        self.a, self.b = frame.pointer(0), frame.pointer(1)
        self.extras = [frame.pointer(2 + i) for i in range(len(epilogue.extras))]
        self.strides = [frame.dim(3 + i) for i in range(epilogue.stride_count)]
        after = 2 + len(self.extras)
        self.ids = frame.pointer(after) if spec.reading.ids else None
        self.result = frame.pointer(after + bool(spec.reading.ids))
        self.scratch = frame.scratch
        self.tile = code.at(frame.scratch, inner_bytes(spec), I8)
        self.args = code.b.alloca(PTR, after + 1)
        self.dims = code.b.alloca(I64, 3 + len(self.strides))
        for i, value in enumerate((self.lda, i64(spec.columns), *self.strides)):
            code.store(value, code.at(self.dims, 1 + i, I64))

    def ids_of(self, code: Code, row: Int) -> Ids | None:
        """Of a row."""
        if self.ids is None:
            return None
        base = code.at(self.ids, code.mul(row, self.spec.reading.count), I64)
        return Ids(base, self.spec.n)

    def multiply(
        self, code: Code, strips: Sequence[ir.Function], start: Int, rows: Int, strip: Int
    ) -> None:
        """Rows of a strip, into the tile."""
        spec = self.spec
        column = code.mul(strip, spec.columns)
        element = formats.ELEMENT[spec.a]
        packed = code.mul(strip, spec.columns // PANEL * spec.panel_bytes)
        places = [
            code.at(self.a, code.mul(start, self.lda), element),
            code.at(self.b, packed, I8),
            *self._extras(code, start, column),
            self.tile,
        ]
        for i, place in enumerate(places):
            code.store(place, code.at(self.args, i, PTR))
        code.store(i64(rows), self.dims)
        counts = [spec.units_of(s) for s in _strips(spec)]

        def run(which: int) -> None:
            given = [self.args, self.dims, i64(0), i64(counts[which]), self.scratch]
            code.b.call(strips[which], given)

        if len(strips) == 1:
            run(0)
            return
        whole = code.cmp("<", strip, spec.strips - 1)
        with code.either(whole) as (other, rest):
            with other:
                run(0)
            with rest:
                run(1)

    def _extras(self, code: Code, start: Int, column: Int) -> list[ir.Value]:
        """Where those of the strip begin."""
        found, strides = [], list(self.strides)
        for extra, base in zip(self.spec.epilogue.extras, self.extras, strict=True):
            at: Int = 0
            if INDEX_STRIDES[extra.index]:
                at = code.mul(start, strides.pop(0))
            if extra.index in ("row", "full"):
                at = code.add(at, column)
            found.append(code.at(base, code.mul(at, BYTES[extra.dtype]), I8))
        return found
