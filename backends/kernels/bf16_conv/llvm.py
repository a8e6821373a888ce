"""LLVM emitter of the bf16 convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec, gathered_bytes
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.llvm import bf16, bf16_gemm, gemm
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import emit_block
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, Int, i64
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with bf16 instructions on 512-bit vectors; AMX where they have it."""
    return bf16.has_dots(target)


def emit(module: ir.Module, spec: Bf16ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    g = Geometry.load(code, spec, dims)
    x, w = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 2 * spec.rank + 2)
    y = gemm.load_pointer(code, args, 2 + len(operands))

    matrix = spec.matrix
    gathered = code.at(scratch, bf16_gemm.SCRATCH_BYTES, I8)
    block_a = code.at(gathered, gathered_bytes(spec), I8)
    per_group = spec.across // spec.groups
    # Whole pairs of tiles and no empty block, as in bf16_matmul.
    blocks = code.max(code.ceildiv(g.pixels, spec.rows_per_unit), 1)
    size = code.round_up(code.ceildiv(g.pixels, blocks), 2 * ROWS)
    bf16_gemm.begin(code, g.pixels)
    # Units of one pixel block and group follow each other: gathered and converted once a thread.
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
            source, stride = code.at(x, code.mul(start, spec.channels)), spec.channels
            if not spec.pointwise:
                emit_gather(code, g, x, gathered, start, rows, group)
                source, stride = gathered, spec.row_stride
            emit_block(code, source, stride, rows, spec.k, matrix.planes, block_a)
        unit.next = [key]
        column: Int = code.mul(group, spec.group_outputs)
        bytes_b = spec.panels * bf16_gemm.panel_bytes(spec.k, matrix.planes)
        product = bf16_gemm.Product(
            a=block_a,
            b=code.at(w, code.mul(group, bytes_b), I8),
            k=spec.k,
            products=spec.products,
            c=code.at(code.at(y, code.mul(start, g.ldy)), column),
            ldc=g.ldy,
            n=spec.group_outputs,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=operands,
            row=start,
            column=column,
        )
        bf16_gemm.emit_rows(code, product, rows, first, last)
    bf16_gemm.end(code, g.pixels)
    gemm.ok(code)
    return fn
