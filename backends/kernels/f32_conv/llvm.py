"""LLVM emitter of the f32 convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.depthwise import emit_depthwise
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.kernels.f32_conv.spec import ConvSpec, sums_bytes
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, i64
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    g = Geometry.load(code, spec, dims)
    x, w = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 2 * spec.rank + 2)
    y = gemm.load_pointer(code, args, 2 + len(operands))
    if spec.depthwise:
        emit_depthwise(code, g, (x, w, y), operands, begin, end, scratch)
        gemm.ok(code)
        return fn

    sums = code.at(scratch, gemm.TILE_BYTES, I8)
    gathered = code.at(sums, sums_bytes(spec), I8)
    per_group = spec.across // spec.groups
    split = gemm.Split.of(code, g.pixels, spec.rows_per_unit)
    # Units of one pixel block follow each other, so its rows are gathered once a thread.
    with code.loop(begin, end, 1, [i64(-1)]) as unit:
        block = code.div(unit.index, spec.across)
        part = code.rem(unit.index, spec.across)
        group = code.div(part, per_group)
        first = code.mul(code.rem(part, per_group), spec.panels_per_unit)
        last = code.min(code.add(first, spec.panels_per_unit), spec.panels)
        start, rows = split.block(code, block)
        if spec.pointwise:
            a, lda = code.at(x, code.mul(start, spec.channels)), spec.channels
        else:
            a, lda = gathered, spec.row_stride
            key = i64(code.add(code.mul(block, spec.groups), group))
            with code.when(code.cmp("!=", key, unit.carried[0])):
                emit_gather(code, g, x, gathered, start, rows, group)
            unit.next = [key]
        column = code.mul(group, spec.group_outputs)
        product = gemm.Product(
            a=a,
            lda=lda,
            b=code.at(w, code.mul(group, spec.panels * spec.k * PANEL)),
            k=spec.k,
            c=code.at(code.at(y, code.mul(start, g.ldy)), column),
            ldc=g.ldy,
            n=spec.group_outputs,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=operands,
            row=start,
            column=column,
            ahead=True,
            depth=spec.depth if spec.sliced else None,
            sums=sums if spec.sliced else None,
        )
        gemm.emit_rows(code, product, rows, first, last)
    gemm.ok(code)
    return fn
