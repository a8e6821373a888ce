"""Products with panels that are brought to bf16, or f32 without AVX512-BF16, in scratch first.

Whatever B is stored as: a family says how one panel becomes wide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import bf16, bf16_gemm, gemm
from tilewright.backends.llvm.bf16_block import emit_block, steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import I8, Code, Int
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.frame import Matmul, Split, TileSplit, Units
from tilewright.backends.llvm.microkernel import PANEL

Widen = Callable[[Int, ir.Value, bool], None]
"""(panel, where to, whether to bf16): bf16 [steps][16 pairs][32][2], or f32 [K in steps][32]."""


@dataclass(frozen=True)
class Left:
    """Rows of A that are made first, once a block: ``fill(first row, rows)`` writes them to ``at``,
    f32, ``stride`` elements apart."""

    at: ir.Value
    stride: int
    fill: Callable[[Int, Int], None]


@dataclass(frozen=True)
class Widened:
    """C[M, N] = epilogue(A[M, K] x B[K, N]); blocks have at most ``rows`` rows. ``exact``: in f32
    on every target. ``left``: what is multiplied instead of A."""

    k: int
    n: int
    epilogue: Epilogue
    units: Units
    rows: int
    widen: Widen
    exact: bool = False
    left: Left | None = None

    def block(self, code: Code, x: Matmul, start: Int) -> tuple[ir.Value, Int]:
        """The first row that is multiplied of a block from row ``start`` on, and the stride."""
        if self.left is not None:
            return self.left.at, self.left.stride
        return code.at(x.a, code.mul(start, x.lda)), x.lda


def panel_bytes(k: int, short: bool) -> int:
    """Bytes of a widened panel, bf16 (``short``) or f32."""
    return steps(k) * PLANE_BYTES * (1 if short else 2)


def emit_widened(
    code: Code,
    of: Widened,
    x: Matmul,
    span: tuple[Int, Int],
    tile: ir.Value,
    room: ir.Value,
) -> None:
    """The units in ``span``. tile: scratch of sums; room: of the panels of a unit in bf16, or one
    in f32, and behind panels in bf16 of a block of rows."""
    make = _bf16 if bf16.has_dots(code.target) and not of.exact else _f32
    make(code, of, x, span, tile, room)


def _bf16(
    code: Code,
    of: Widened,
    x: Matmul,
    span: tuple[Int, Int],
    tile: ir.Value,
    wide: ir.Value,
) -> None:
    """Panels of a unit, then tiles or dot products of all rows of its block."""
    size = panel_bytes(of.k, True)
    block_a = code.at(wide, of.units.width * size, I8)
    split = TileSplit.of(code, x.m, of.rows)
    bf16_gemm.begin(code, x.m)
    # Units of one block follow each other, so its rows are converted once a thread.
    with of.units.each(code, *span) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            if of.left is not None:
                of.left.fill(start, rows)
            own, stride = of.block(code, x, start)
            emit_block(code, own, stride, rows, of.k, 1, block_a)
        with code.loop(unit.first, unit.last) as panel:
            place = code.mul(code.sub(panel.index, unit.first), size)
            of.widen(panel.index, code.at(wide, place, I8), True)
        product = bf16_gemm.Product(
            a=block_a,
            b=code.at(wide, code.mul(unit.first, -size), I8),
            k=of.k,
            products=1,
            c=code.at(x.c, code.mul(start, x.ldc)),
            ldc=x.ldc,
            n=of.n,
            tile=tile,
            epilogue=of.epilogue,
            operands=x.operands,
            row=start,
        )
        bf16_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    bf16_gemm.end(code, x.m)


def _f32(
    code: Code,
    of: Widened,
    x: Matmul,
    span: tuple[Int, Int],
    tile: ir.Value,
    wide: ir.Value,
) -> None:
    """One panel after another."""
    stride = steps(of.k) * 32 * PANEL
    split = Split.of(code, x.m, of.rows)
    with of.units.each(code, *span) as unit:
        start, rows = split.block(code, unit.block)
        if of.left is not None:
            with code.when(unit.fresh):
                of.left.fill(start, rows)
        own, lda = of.block(code, x, start)
        with code.loop(unit.first, unit.last) as panel:
            of.widen(panel.index, wide, False)
            product = gemm.Product(
                a=own,
                lda=lda,
                b=code.at(wide, code.mul(panel.index, -stride)),
                k=of.k,
                c=code.at(x.c, code.mul(start, x.ldc)),
                ldc=x.ldc,
                n=of.n,
                tile=tile,
                epilogue=of.epilogue,
                operands=x.operands,
                panel_stride=stride,
                row=start,
            )
            gemm.emit_rows(code, product, rows, panel.index, code.add(panel.index, 1))
