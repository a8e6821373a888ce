"""LLVM emitter of the f16 convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec, gathered_bytes
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.llvm import f16_gemm, gemm
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, Int, i64
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.llvm.f16_gemm import F16
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets that convert f16 in registers."""
    return f16_gemm.widens(target)


def emit(module: ir.Module, spec: F16ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target) or (spec.chain and not f16_gemm.has_chains(target)):
        raise ValueError(f"target '{target.name}' has no such f16 instructions")
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    g = Geometry.load(code, spec, dims)
    x, w = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 2 * spec.rank + 2)
    y = gemm.load_pointer(code, args, 2 + len(operands))

    gathered = code.at(scratch, f16_gemm.SCRATCH_BYTES, I8)
    rest = code.at(gathered, gathered_bytes(spec), I8)
    per_group = spec.across // spec.groups
    split = gemm.Split.of(code, g.pixels, spec.rows_per_unit)
    # Units of one pixel block and group follow each other: gathered and rounded once a thread.
    with code.loop(begin, end, 1, [i64(-1)]) as unit:
        block = code.div(unit.index, spec.across)
        part = code.rem(unit.index, spec.across)
        group = code.div(part, per_group)
        first = code.mul(code.rem(part, per_group), spec.panels_per_unit)
        last = code.min(code.add(first, spec.panels_per_unit), spec.panels)
        start, rows = split.block(code, block)
        a, lda = code.at(x, code.mul(start, spec.channels)), spec.channels
        key = i64(code.add(code.mul(block, spec.groups), group))
        with code.when(code.cmp("!=", key, unit.carried[0])):
            if not spec.pointwise:
                emit_gather(code, g, x, gathered, start, rows, group)
            if spec.chain:
                source = (a, lda) if spec.pointwise else (gathered, spec.row_stride)
                f16_gemm.emit_rounded(code, *source, rows, spec.k, rest)
        unit.next = [key]
        if spec.chain:
            a, lda = rest, f16_gemm.row_stride(spec.k)
        elif not spec.pointwise:
            a, lda = gathered, spec.row_stride
        column: Int = code.mul(group, spec.group_outputs)
        product = f16_gemm.Product(
            a=a,
            lda=lda,
            b=code.at(w, code.mul(group, spec.panels * spec.k * PANEL), F16),
            k=spec.k,
            chain=spec.chain,
            c=code.at(code.at(y, code.mul(start, g.ldy)), column),
            ldc=g.ldy,
            n=spec.group_outputs,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=operands,
            wide=rest,
            depth=spec.matrix.depth,
            row=start,
            column=column,
        )
        f16_gemm.emit_rows(code, product, rows, first, last)
    gemm.ok(code)
    return fn
