"""LLVM emitter of the matmul with two factors: both products of a block of rows, one after the
other, by the code of the families that multiply with each."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.factored_matmul.pair import MIDDLE, Pair
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.epilogue import from_row
from tilewright.backends.llvm.frame import Frame, Matmul, Split, TileSplit, Units
from tilewright.backends.target import Target

_LEFT = ir.FunctionType(VOID, [I64, PTR, I64, PTR, PTR, PTR])


def emit(module: ir.Module, spec: Pair, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Matmul.load(frame, spec.epilogue)
    call = Rows.of(code, spec, x, frame.scratch)
    units = Units(spec.right.panels, spec.panels_per_unit)
    width = spec.right.panels_per_unit
    # Units of one block of rows are one piece of work, so its middle is computed once a thread.
    with units.blocks(code, frame.begin, frame.end) as block:
        start, rows = call.block(code, block.index)
        call.multiply_left(code, start, rows)
        ends = code.div(block.first, width), code.ceildiv(block.last, width)
        right = call.rights(code, start, rows)
        spec.inner.multiply(code, spec.right, right, *ends, call.room)
    return frame.close()


@dataclass(frozen=True)
class Rows:
    """A launch at code generation time. middle: rows of A B in scratch; room: scratch behind
    them."""

    spec: Pair
    x: Matmul
    middle: ir.Value
    room: ir.Value
    split: Split | TileSplit

    @classmethod
    def of(cls, code: Code, spec: Pair, x: Matmul, scratch: ir.Value) -> Rows:
        most = code.round_up(code.min(x.m, spec.rows_per_unit), MIDDLE)
        size = spec.stride * formats.BYTES[spec.middle]
        whole = spec.rows_per_unit % MIDDLE == 0
        split = (TileSplit if whole else Split).of(code, x.m, spec.rows_per_unit)
        return cls(spec, x, scratch, code.at(scratch, code.mul(most, size), I8), split)

    def block(self, code: Code, index: Int) -> tuple[Int, Int]:
        """First row and number of rows."""
        return self.split.block(code, index)

    def multiply_left(self, code: Code, start: Int, rows: Int) -> None:
        """The middle of some rows."""
        spec, x = self.spec, self.x
        own = code.at(x.a, code.mul(start, x.lda), formats.ELEMENT[spec.a])
        values = [i64(rows), own, i64(x.lda), x.b, self.middle, self.room]
        code.b.call(_left_function(code, spec), values)

    def rights(self, code: Code, start: Int, rows: Int) -> Matmul:
        """The middle times the right factor."""
        spec, x = self.spec, self.x
        d = code.at(x.b, spec.left_bytes, I8)
        c = code.at(x.c, code.mul(start, x.ldc), formats.ELEMENT[spec.c])
        operands = from_row(code, spec.epilogue, x.operands, start)
        return Matmul(rows, spec.stride, x.ldc, self.middle, d, operands, c)


def _left_function(code: Code, spec: Pair) -> ir.Function:
    """``void (rows, a, lda, packed b, middle, room)``: the left product. A function of its own, as
    products name the functions that they are made of after the one that they are in."""
    name = f"{code.b.function.name}_left"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _LEFT, name)
    rows, a, lda, b, middle, room = fn.args
    product = Matmul(rows, lda, spec.stride, a, b, (), middle)
    count = -(-spec.left.panels // spec.left.panels_per_unit)
    spec.inner.multiply(code, spec.left, product, 0, count, room)
    code.b.ret_void()
    return fn
