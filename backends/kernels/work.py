"""What the costs of several families share: epilogues, register blocks, blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.gemm import FEW
from tilewright.backends.llvm.microkernel import PANEL, Block, few_rows, widest
from tilewright.backends.target import Target

OPERATIONS = {
    **dict.fromkeys(("div", "sqrt", "reciprocal"), 4),
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
    """(size, how many of it): ``rows`` in nearly equal blocks of at most ``most`` (gemm.Split)."""
    if rows <= 0:
        return ()
    count = -(-rows // most)
    size, larger = divmod(rows, count)
    return tuple((s, c) for s, c in ((size + 1, larger), (size, count - larger)) if s and c)


def f32_product(
    target: Target, rows: int, k: int, n: int, group: int, most: int | None = None
) -> Work:
    """llvm.gemm.emit_rows: ``rows`` rows by ``n`` columns, taken ``group`` panels at a time.

    ``most``: rows of the register block instead of the target's widest.
    """
    full = widest(target)
    panels = -(-n // PANEL)
    lines = -(-n // full.columns)
    if 0 < rows <= min(FEW, full.rows):
        wide = few_rows(target, rows)
        at_once = max(wide.columns // PANEL, 1)
        groups = n // PANEL // at_once if at_once > 1 or wide.columns > full.columns else 0
        rest = lines - groups * wide.columns // full.columns
        narrow = Block(rows, full.vectors, full.lanes)
        return (
            _calls(wide, k, groups)
            + _calls(narrow, k, rest)
            + Work(streamed=4 * (k * PANEL * panels + rows * k))
        )
    work = Work()
    count = 0
    for size, times in row_blocks(rows, most or full.rows):
        work += _calls(Block(size, full.vectors, full.lanes), k, times * lines)
        count += times
    # Blocks of rows are the outer loop: each passes over the group's panels, from L1 if they and
    # its own rows stay there; and rows that exceed L1 are read again for every panel.
    cache = target.l1_kib << 10
    own = 4 * k * min(full.rows, max(rows, 1))
    passes = count if 4 * k * PANEL * group + own > cache else -(-panels // max(group, 1))
    streamed = (
        4 * k * PANEL * panels * max(passes, 1) if passes == count else 4 * k * PANEL * panels
    )
    streamed += 4 * rows * k * (panels if own > cache // 2 else -(-panels // max(group, 1)))
    return work + Work(streamed=streamed)


def _calls(block: Block, k: int, times: int) -> Work:
    """``times`` calls of a micro-kernel. A step of k takes as long as its FMAs, its loads (two
    each cycle, like FMAs) or the latency that too few accumulators leave open."""
    fmas = block.rows * block.vectors
    loads = block.rows + block.vectors + -(-block.columns // 16)
    slots = max(fmas, loads, HIDING)
    return Work(issued=2 * block.lanes * slots * k * times, blocks=times)
