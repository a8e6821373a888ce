"""LLVM emitter of the matmul with factors of blocks: all steps of a block of rows, one after the
other; products by the code of the families that multiply with each factor."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.backends.kernels.factored_matmul.pair import MIDDLE
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.epilogue import from_column, from_row
from tilewright.backends.llvm.frame import Frame, Matmul, Split, TileSplit, Units
from tilewright.backends.target import Target

_LEFT = ir.FunctionType(VOID, [I64, PTR, I64, PTR, PTR, PTR])


def emit(module: ir.Module, spec: Chain, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Matmul.load(frame, spec.epilogue)
    room = code.round_up(code.min(x.m, spec.rows_per_unit), MIDDLE)
    middle = code.at(frame.scratch, code.mul(room, 4 * spec.stride), I8)
    size = spec.stride * formats.BYTES[spec.middle]
    own = code.at(middle, code.mul(room, size), I8)
    whole = spec.rows_per_unit % MIDDLE == 0
    split = (TileSplit if whole else Split).of(code, x.m, spec.rows_per_unit)
    left = _left_function(code, spec)
    with Units(spec.parts, spec.parts_per_unit).blocks(code, frame.begin, frame.end) as block:
        start, rows = split.block(code, block.index)
        a = code.at(x.a, code.mul(start, x.lda), formats.ELEMENT[spec.a])
        code.b.call(left, [i64(rows), a, i64(x.lda), x.b, frame.scratch, own])
        if spec.mixed:
            _mix(code, spec, rows, frame.scratch, code.at(x.b, spec.mixing_at, I8), middle)
        else:
            _permute(code, spec, rows, frame.scratch, middle)
        with code.loop(block.first, block.last) as part:
            _right(code, spec, x, start, rows, part.index, middle, own)
    return frame.close()


def _left_function(code: Code, spec: Chain) -> ir.Function:
    """``void (rows, a, lda, packed factors, z, room)``: all parts of A by their factors. A function
    of its own, as products name the functions that they are made of after the one they are in."""
    fn, code = internal(code, _LEFT, f"{code.b.function.name}_left")
    rows, a, lda, b, z, room = fn.args
    inner = spec.left
    count = -(-inner.panels // inner.panels_per_unit)
    with code.loop(0, spec.parts) as part:
        i = part.index
        own = code.at(a, code.mul(i, spec.k // spec.parts), formats.ELEMENT[spec.a])
        factor = code.at(b, code.mul(i, spec.left_bytes), I8)
        made = code.at(z, code.mul(i, spec.width))
        product = Matmul(rows, lda, i64(spec.stride), own, factor, (), made)
        spec.inner.multiply(code, inner, product, 0, count, room)
    code.b.ret_void()
    return fn


def _right(
    code: Code,
    spec: Chain,
    x: Matmul,
    start: Int,
    rows: Int,
    j: Int,
    middle: ir.Value,
    room: ir.Value,
) -> None:
    """Part j of C."""
    inner = spec.right
    column = code.mul(j, spec.n // spec.parts)
    a = code.at(middle, code.mul(j, spec.width), formats.ELEMENT[spec.middle])
    factor = code.at(code.at(x.b, spec.right_at, I8), code.mul(j, spec.right_bytes), I8)
    c = code.at(x.c, code.add(code.mul(start, x.ldc), column), formats.ELEMENT[spec.c])
    operands = from_row(code, spec.epilogue, x.operands, start)
    operands = from_column(code, spec.epilogue, operands, column)
    product = Matmul(i64(rows), i64(spec.stride), x.ldc, a, factor, operands, c)
    count = -(-inner.panels // inner.panels_per_unit)
    spec.inner.multiply(code, inner, product, 0, count, room)


def _permute(code: Code, spec: Chain, rows: Int, z: ir.Value, middle: ir.Value) -> None:
    """middle[t, j, i] = z[t, i, j], ``rank`` elements each."""
    p, element = spec.parts, formats.ELEMENT[spec.middle]
    with code.loop(0, rows) as row:
        base = code.mul(row.index, spec.stride)
        with code.loop(0, p) as i, code.loop(0, p) as j:
            source = code.mul(code.add(code.mul(i.index, p), j.index), spec.rank)
            target = code.mul(code.add(code.mul(j.index, p), i.index), spec.rank)
            reads = code.at(z, code.add(base, source))
            writes = code.at(middle, code.add(base, target), element)
            for at, mask in _vectors(code, spec.rank):
                value = formats.load(code, code.at(reads, at), mask)
                formats.store(code, value, code.at(writes, at, element), mask, spec.middle)


def _mix(
    code: Code, spec: Chain, rows: Int, z: ir.Value, mixing: ir.Value, middle: ir.Value
) -> None:
    """middle[t, j] = sum_i s[i, j] z[t, i], by elements, i in order."""
    p, r, element = spec.parts, spec.rank, formats.ELEMENT[spec.middle]
    with code.loop(0, p) as j:
        own = code.at(mixing, code.mul(j.index, r))
        out = code.at(middle, code.mul(j.index, r), element)
        for at, mask in _vectors(code, r):
            s = [formats.load(code, code.at(own, i * p * r + at), mask) for i in range(p)]
            with code.loop(0, rows) as row:
                base = code.mul(row.index, spec.stride)
                reads = code.at(code.at(z, base), at)
                total = code.splat(0.0, formats.LANES)
                for i, factor in enumerate(s):
                    total = code.fma(factor, formats.load(code, code.at(reads, i * r), mask), total)
                place = code.at(code.at(out, base, element), at, element)
                formats.store(code, total, place, mask, spec.middle)


def _vectors(code: Code, count: int) -> list[tuple[int, ir.Value | None]]:
    """Offsets of vectors, and the mask of the last one."""
    lanes = formats.LANES
    found: list[tuple[int, ir.Value | None]] = [(at, None) for at in range(0, count, lanes)]
    if count % lanes:
        found[-1] = (found[-1][0], code.first_lanes(count % lanes, lanes))
    return found
