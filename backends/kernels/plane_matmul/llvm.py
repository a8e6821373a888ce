"""LLVM emitter of the matmul with weights in bit planes."""

from __future__ import annotations

from functools import partial

from llvmlite import ir

from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec
from tilewright.backends.llvm import widened_product
from tilewright.backends.llvm.builder import I8, Code
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.plane_codes import PlanePanel, emit_wide
from tilewright.backends.llvm.plane_dots import dot_kernel, emit_tables, panels_at_once, row_bytes
from tilewright.backends.llvm.widened_product import Block, Call
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """x86-64 with shuffles of 32 bytes and conversions of f16, that is from AVX2 on."""
    return target.triple.startswith("x86_64") and "avx2" in target.all_features


def emit(module: ir.Module, spec: PlaneMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no shuffles of 32 bytes")
    frame = Frame.open(module, target, name)
    code = frame.code
    call = Call.of(frame, spec.shape, spec.epilogue, spec.panel.bytes)
    look_up = partial(_looked_up, spec.panel)
    if spec.all_rows:
        call.emit_blocks(code, spec.few, look_up)
    else:
        with code.either(code.cmp("<=", call.m, spec.few)) as (small, large):
            with small:
                call.emit_blocks(code, spec.few, look_up)
            with large:
                widened_product.emit(code, call, partial(_widen, spec.panel))
    return frame.close()


def _widen(panel: PlanePanel, code: Code, b: ir.Value, out: ir.Value, short: bool) -> None:
    emit_wide(code, panel, b, out, short)


def _looked_up(panel: PlanePanel, code: Code, call: Call, block: Block) -> None:
    """The tables of all rows, then some panels after others by each row."""
    rows, size = call.room(code), row_bytes(panel)
    emit_tables(code, panel, block.a(code, call), call.lda, block.rows, rows)
    wide = panels_at_once(code.target, panel.bits)
    whole = code.max(code.sub(block.last, block.first), 0)
    edge = code.sub(block.last, code.rem(whole, wide))
    for width, begin, end in ((wide, block.first, edge), (1, edge, block.last)):
        if begin is edge and wide == 1:
            continue
        kernel = dot_kernel(code, panel, width)
        with code.loop(begin, end, width) as at, code.loop(0, block.rows) as row:
            own = code.at(rows, code.mul(row.index, size), I8)
            code.b.call(kernel, [own, call.panel(code, at.index), call.scratch])
            with code.loop(0, width) as part:
                sums = code.at(call.scratch, code.mul(part.index, PANEL))
                m = code.add(block.start, row.index)
                call.finish(code, sums, m, code.add(at.index, part.index))
