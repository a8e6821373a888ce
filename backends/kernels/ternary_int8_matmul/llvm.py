"""LLVM emitter of the matmul with ternary weights and 8-bit rows."""

from __future__ import annotations

from functools import partial

from llvmlite import ir

from tilewright.backends.kernels.ternary_int8_matmul.spec import TernaryInt8MatmulSpec
from tilewright.backends.llvm import widened_product
from tilewright.backends.llvm.builder import I8, I64, Code, Int, i64
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.ternary_codes import TernaryPanel, emit_wide
from tilewright.backends.llvm.ternary_dots import (
    dot_kernel,
    emit_rows,
    looks_up,
    lookup_kernel,
    row_bytes,
    vectors,
)
from tilewright.backends.llvm.widened_product import Block, Call
from tilewright.backends.target import Target

SIZES = (1, 2, 4)
"""Rows of the blocks that there is code for."""

TOGETHER = 4
"""Panels that share the tables of a row."""


def supports(target: Target) -> bool:
    """x86-64 with products of 32 bytes, that is from AVX2 on."""
    return target.triple.startswith("x86_64") and "avx2" in target.all_features


def emit(module: ir.Module, spec: TernaryInt8MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no products of 32 bytes")
    if spec.trits and not looks_up(target):
        raise ValueError(f"target '{target.name}' has no permutations of 32 words")
    frame = Frame.open(module, target, name)
    code = frame.code
    call = Call.of(frame, spec.shape, spec.epilogue, spec.panel.bytes)
    if spec.blocks:
        emit_block = _looked_up if spec.trits else _multiplied
        call.emit_blocks(code, spec.few, partial(emit_block, spec.panel))
    else:
        with code.either(code.cmp("<=", call.m, spec.few)) as (small, large):
            with small:
                call.emit_blocks(code, spec.few, partial(_multiplied, spec.panel))
            with large:
                widened_product.emit(code, call, partial(_widen, spec.panel))
    return frame.close()


def _widen(panel: TernaryPanel, code: Code, b: ir.Value, out: ir.Value, short: bool) -> None:
    emit_wide(code, panel, b, out, short)


def _looked_up(panel: TernaryPanel, code: Code, call: Call, block: Block) -> None:
    """Some panels after others by each row."""
    size, rows = row_bytes(panel), call.room(code)
    emit_rows(code, panel, block.a(code, call), call.lda, block.rows, rows)
    whole = code.sub(block.last, block.first)
    edge = code.sub(block.last, code.rem(code.max(whole, 0), TOGETHER))
    for width, begin, end in ((TOGETHER, block.first, edge), (1, edge, block.last)):
        kernel = lookup_kernel(code, panel, width)
        with code.loop(begin, end, width) as at, code.loop(0, block.rows) as row:
            own = code.at(rows, code.mul(row.index, size), I8)
            code.b.call(kernel, [own, call.panel(code, at.index), call.scratch])
            with code.loop(0, width) as part:
                sums = code.at(call.scratch, code.mul(part.index, PANEL))
                m = code.add(block.start, row.index)
                call.finish(code, sums, m, code.add(at.index, part.index))


def _multiplied(panel: TernaryPanel, code: Code, call: Call, block: Block) -> None:
    """Every panel by up to four rows after others."""
    rows = call.room(code)
    emit_rows(code, panel, block.a(code, call), call.lda, block.rows, rows)
    with (
        code.loop(block.first, block.last) as at,
        code.loop(0, block.rows, SIZES[-1]) as start,
    ):
        size = code.min(code.sub(block.rows, start.index), SIZES[-1])
        own = code.at(rows, code.mul(start.index, row_bytes(panel)), I8)
        place = (code.add(block.start, start.index), size)
        done = code.b.append_basic_block("few.done")
        switch = code.b.switch(i64(size), done)
        for r in SIZES:
            case = code.b.append_basic_block(f"few{r}")
            for here in range(r // 2 + 1, r + 1):
                switch.add_case(ir.Constant(I64, here), case)
            code.b.position_at_end(case)
            _panel(code, call, panel, own, (*place, r), at.index)
            code.b.branch(done)
        code.b.position_at_end(done)


def _panel(
    code: Code,
    call: Call,
    panel: TernaryPanel,
    rows: ir.Value,
    place: tuple[Int, Int, int],
    number: Int,
) -> None:
    """``place``: the first row, how many there are, and how many are computed, of which the last
    ones are of nothing and not kept."""
    first, size, count = place
    b = call.panel(code, number)
    for v in range(0, PANEL // code.target.lanes_f32, vectors(code.target, count)):
        code.b.call(dot_kernel(code, panel, count), [rows, b, i64(v), call.scratch])
    with code.loop(0, size) as row:
        sums = code.at(call.scratch, code.mul(row.index, PANEL))
        call.finish(code, sums, code.add(first, row.index), number)
