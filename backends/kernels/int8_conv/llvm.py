"""LLVM emitter of the 8-bit convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.kernels.int8_conv.spec import WORD, Int8ConvSpec, gathered_bytes
from tilewright.backends.llvm import gemm, int8, int8_gemm
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, Int, i64
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.llvm.int8_block import emit_block, emit_sums
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: all of x86-64, Arm with dot products."""
    return int8.of(target) is not None


def emit(module: ir.Module, spec: Int8ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    # Four channels are moved as one f32, which keeps every bit.
    g = Geometry.load(code, spec.words, dims)
    x, w = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 2 * spec.rank + 2)
    y = gemm.load_pointer(code, args, 2 + len(operands))

    matrix = spec.matrix
    sums = code.at(scratch, int8_gemm.SCRATCH_BYTES, I8)
    gathered = code.at(sums, 4 * spec.rows_per_unit, I8)
    block_a = code.at(gathered, gathered_bytes(spec), I8)
    per_group = spec.across // spec.groups
    # Whole pairs of tiles and no empty block, as in int8_matmul.
    blocks = code.max(code.ceildiv(g.pixels, spec.rows_per_unit), 1)
    size = code.round_up(code.ceildiv(g.pixels, blocks), 2 * ROWS)
    int8_gemm.begin(code, g.pixels)
    # Units of one pixel block and group follow each other: gathered once a thread.
    with code.loop(begin, end, 1, [i64(-1)]) as unit:
        block = code.div(unit.index, spec.across)
        part = code.rem(unit.index, spec.across)
        group = code.div(part, per_group)
        first = code.mul(code.rem(part, per_group), spec.panels_per_unit)
        last = code.min(code.add(first, spec.panels_per_unit), spec.panels)
        start = code.mul(block, size)
        rows = code.min(code.sub(g.pixels, start), size)
        key = i64(code.add(code.mul(block, spec.groups), group))
        with code.when(code.cmp("!=", key, unit.carried[0])):
            source, stride = code.at(x, code.mul(start, spec.channels), I8), spec.channels
            if not spec.pointwise:
                emit_gather(code, g, x, gathered, start, rows, group)
                source, stride = gathered, WORD * spec.words.row_stride
            emit_block(code, d, source, stride, rows, spec.k, matrix.signed, block_a)
            if matrix.zero_points:
                emit_sums(code, d, block_a, rows, spec.k, matrix.signed, sums)
        unit.next = [key]
        column: Int = code.mul(group, spec.group_outputs)
        kind = int8_gemm.ELEMENTS[spec.out]
        product = int8_gemm.Product(
            a=block_a,
            b=code.at(w, code.mul(group, matrix.packed_bytes), I8),
            k=spec.k,
            shift=d.shift(matrix.signed),
            zero_points=matrix.zero_points,
            c=code.at(code.at(y, code.mul(start, g.ldy), kind), column, kind),
            ldc=g.ldy,
            n=spec.group_outputs,
            out=spec.out,
            scratch=scratch,
            sums=sums,
            epilogue=spec.epilogue,
            operands=operands,
            row=start,
            column=column,
        )
        int8_gemm.emit_rows(code, product, rows, first, last)
    int8_gemm.end(code, g.pixels)
    gemm.ok(code)
    return fn
