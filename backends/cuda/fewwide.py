"""Products of more rows by codes on Hopper, and their launches: `device/fewwide.cuh`."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.fewflow import LEAST
from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.operands import PANEL, Weights
from tilewright.backends.target import Target

COLUMNS = 64
"""Rows of A that a block takes: columns of wgmma."""

WARPS = 4
"""Of a group, each with a panel."""


@dataclass(frozen=True)
class Wide:
    """The function: groups of four warps, stages of a ring, blocks that share K."""

    groups: int = 2
    ring: int = 5
    split: int = 2

    @property
    def threads(self) -> int:
        """Warps that multiply, and the one that copies."""
        return 32 * (WARPS * self.groups + 1)

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        warps = WARPS * self.groups
        stage = -(-(2 * COLUMNS * weights.step + warps * weights.slot) // 1024) * 1024
        sums = 4 * COLUMNS * warps * (36 + PANEL)
        return max(self.ring * stage, sums) + 16 * self.ring


SHAPE = Wide()


def serves(weights: Weights, target: Target) -> bool:
    """Whether there is such a function: for codes of 4 bits with scales on Hopper, where nearly
    every multiprocessor has a block."""
    w, blocks = weights, -(-weights.panels // (WARPS * SHAPE.groups)) * SHAPE.split
    codes = w.bits == 4 and w.scaled > 0 and w.parts == 1 and w.step >= 64
    fits = w.steps >= SHAPE.split and blocks >= LEAST
    return target.cpu.startswith("sm_90") and codes and fits


def workspace() -> str:
    """Rows of A for which there is room, as a formula."""
    return f"ceildiv(p0, {COLUMNS}) * {COLUMNS}"


def launch(weights: Weights, chosen: str, suffix: str) -> Entry:
    """The entry of the product where the formula ``chosen`` is 1, for all rows in blocks."""
    blocks = -(-weights.panels // (WARPS * SHAPE.groups)) * SHAPE.split
    return Entry(
        (f"{chosen} * {blocks}", f"ceildiv(p0, {COLUMNS})", "1"),
        (SHAPE.threads, 1, 1),
        shared=str(SHAPE.shared(weights)),
        suffix=suffix,
        cluster=(SHAPE.split, 1, 1),
        overlaps=True,
    )


PREPARE = f"  wide_prepare<{COLUMNS // 8}>(p, workspace);\n}}\n"
"""The end of the function that orders rows of A, whose problem is ``p``."""

CALL = (
    "  extern __shared__ __align__(1024) char shared[];\n"
    f"  few_wide<{COLUMNS // 8}, {SHAPE.groups}, {SHAPE.ring}, {SHAPE.split}>"
    f"(p, (tw_i64)blockIdx.y * {COLUMNS}, workspace, shared);\n}}\n"
)
"""The end of the product's."""
