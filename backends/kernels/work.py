"""What the costs of several families share: epilogues, register blocks, blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_gemm import AMX_ROWS, DOT_ROWS
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.microkernel import PANEL, Block, few, few_rows, widest
from tilewright.backends.target import Target

OPERATIONS = {
    **dict.fromkeys(("div", "sqrt", "reciprocal"), 4),
    "round_quotient": 8,
    **dict.fromkeys(("exp", "log"), 12),
    **dict.fromkeys(("tanh", "sigmoid", "silu"), 18),
    **dict.fromkeys(("erf", "gelu_erf", "gelu_tanh"), 24),
}
"""Vector instructions of an epilogue step, about; 1 for those not listed."""

HIDING = 8
"""Accumulators that hide the latency of an FMA: two pipes, four cycles."""


@dataclass(frozen=True)
class Work:
    """Parts of a Cost; see there."""

    issued: int = 0
    streamed: int = 0
    blocks: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.issued + other.issued,
            self.streamed + other.streamed,
            self.blocks + other.blocks,
        )

    def __mul__(self, times: int) -> Work:
        return Work(self.issued * times, self.streamed * times, self.blocks * times)


def epilogue(steps: Epilogue, elements: int) -> int:
    """Elementwise operations of an epilogue on ``elements`` results, its loads included."""
    each = sum(OPERATIONS.get(step.op, 1) for step in steps.steps)
    each += sum(extra.index in ("row", "full") for extra in steps.extras)
    return each * elements


def full_extras(steps: Epilogue) -> int:
    """Extras of the size of the result."""
    return sum(extra.index == "full" for extra in steps.extras)


def row_blocks(rows: int, most: int) -> tuple[tuple[int, int], ...]:
    """(size, how many of it): ``rows`` in nearly equal blocks of at most ``most`` (frame.Split)."""
    if rows <= 0:
        return ()
    count = -(-rows // most)
    size, larger = divmod(rows, count)
    return tuple((s, c) for s, c in ((size + 1, larger), (size, count - larger)) if s and c)


def f32_product(target: Target, rows: int, k: int, n: int, most: int | None = None) -> Work:
    """llvm.gemm.emit_rows: ``rows`` rows by ``n`` columns, panel by panel.

    ``most``: rows of the register block instead of the target's widest.
    """
    full = widest(target)
    panels = -(-n // PANEL)
    lines = -(-n // full.columns)
    if 0 < rows <= few(target):
        wide = few_rows(target, rows)
        groups = n // wide.columns if wide.columns > full.columns else 0
        rest = lines - groups * wide.columns // full.columns
        narrow = Block(rows, full.vectors, full.lanes)
        read = Work(streamed=4 * (k * PANEL * panels + rows * k))
        return _calls(wide, k, groups) + _calls(narrow, k, rest) + read
    work, count = Work(), 0
    for size, times in row_blocks(rows, most or full.rows):
        work += _calls(Block(size, full.vectors, full.lanes), k, times * lines)
        count += times
    # A panel stays in L1 while the blocks of rows pass, if it fits; rows that exceed what is left
    # are read again for every panel.
    half = target.l1_kib << 9
    passes = count if 4 * k * full.columns > half else 1
    again = panels if 4 * rows * k > half else 1
    return work + Work(streamed=4 * k * (PANEL * panels * passes + rows * again))


def widened(target: Target, rows: int, depth: int, panels: int) -> tuple[str, Work]:
    """llvm.widened_product: the unit, and ``rows`` rows by panels that are in L2 once they are
    widened."""
    if not bf16.has_dots(target):
        return "f32", f32_product(target, rows, depth, panels * PANEL)
    tiles = amx.has_bf16(target) and rows >= AMX_ROWS
    passes = -(-rows // (2 * ROWS if tiles else DOT_ROWS))
    whole = -(-rows // ROWS) * ROWS if tiles else rows
    own = 2 * depth * rows
    again = panels if own > target.l1_kib << 9 else 1
    streamed = 2 * depth * panels * PANEL * (1 if tiles else passes) + again * own
    unit = "bf16_tile" if tiles else "bf16_dot"
    return unit, Work(2 * whole * depth * panels * PANEL, streamed, passes * panels)


def _calls(block: Block, k: int, times: int) -> Work:
    """``times`` calls of a micro-kernel. A step of k takes as long as its FMAs, its loads (two
    each cycle, like FMAs) or the latency that too few accumulators leave open."""
    fmas = block.rows * block.vectors
    loads = block.rows + block.vectors + -(-block.columns // 16)
    slots = max(fmas, loads, HIDING)
    return Work(issued=2 * block.lanes * slots * k * times, blocks=times)
