"""LLVM emitter of the matmul with weights in bit planes."""

from __future__ import annotations

from functools import partial

from llvmlite import ir

from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec
from tilewright.backends.llvm import gemm, widened_product
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, Int
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.plane_codes import PlanePanel, emit_wide
from tilewright.backends.llvm.plane_dots import dot_kernel, emit_tables, panels_at_once, row_bytes
from tilewright.backends.llvm.widened_product import Call
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """x86-64 with shuffles of 32 bytes and conversions of f16, that is from AVX2 on."""
    return target.triple.startswith("x86_64") and "avx2" in target.all_features


def emit(module: ir.Module, spec: PlaneMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no shuffles of 32 bytes")
    fn = ir.Function(module, KERNEL_TYPE, name)
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    call = Call.of(code, fn, spec.shape, spec.epilogue, spec.panel.bytes)
    if spec.all_rows:
        _looked_up(code, call, spec)
    else:
        with code.either(code.cmp("<=", call.m, spec.few)) as (small, large):
            with small:
                _looked_up(code, call, spec)
            with large:
                widened_product.emit(code, call, partial(_widen, spec.panel))
    gemm.ok(code)
    return fn


def _widen(panel: PlanePanel, code: Code, b: ir.Value, out: ir.Value, short: bool) -> None:
    emit_wide(code, panel, b, out, short)


def _looked_up(code: Code, call: Call, spec: PlaneMatmulSpec) -> None:
    """Blocks of rows: the tables of all of them, then some panels after others by each row. All
    units of a block that this thread has are one, so that several panels stream side by side."""
    rows, across, width = call.room(code), call.shape.across, call.shape.panels_per_unit
    first = code.div(call.begin, across)
    with code.loop(first, code.ceildiv(call.end, across)) as block:
        start = code.mul(block.index, spec.few)
        count = code.min(code.sub(call.m, start), spec.few)
        own = code.at(call.a, code.mul(start, call.lda))
        emit_tables(code, spec.panel, own, call.lda, count, rows)
        units = code.mul(block.index, across)
        begin = code.sub(code.max(call.begin, units), units)
        end = code.min(code.sub(call.end, units), across)
        last = code.min(code.mul(end, width), call.shape.panels)
        _panels(code, call, spec.panel, (rows, start, count), (code.mul(begin, width), last))


def _panels(
    code: Code,
    call: Call,
    panel: PlanePanel,
    block: tuple[ir.Value, Int, Int],
    panels: tuple[Int, Int],
) -> None:
    """``block``: prepared rows, the number of the first, how many; by the panels [first, last)."""
    rows, start, count = block
    first, last = panels
    size, wide = row_bytes(panel), panels_at_once(code.target, panel.bits)
    edge = code.sub(last, code.rem(code.max(code.sub(last, first), 0), wide))
    for width, begin, end in {1: ((1, first, last),)}.get(
        wide, ((wide, first, edge), (1, edge, last))
    ):
        kernel = dot_kernel(code, panel, width)
        with code.loop(begin, end, width) as at, code.loop(0, count) as row:
            own = code.at(rows, code.mul(row.index, size), I8)
            code.b.call(kernel, [own, call.panel(code, at.index), call.scratch])
            with code.loop(0, width) as part:
                sums = code.at(call.scratch, code.mul(part.index, PANEL))
                m, column = code.add(start, row.index), code.add(at.index, part.index)
                call.finish(code, sums, m, column)
