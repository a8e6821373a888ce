"""Products of few rows: every byte of the weights is read once, by FFMA in f32.

B lies in panels of 32 columns, [panels][K][32], f32 or f16 (widened exactly). A block takes C of
the columns of a panel (32, 16 or 8: fewer where the matrix is narrow, so that all multiprocessors
have some) and all of K; its warps take chunks of k in turn. A lane loads 16 bytes, and ``U`` such
loads are on their way before the first is used. Sums of the lanes, then of the warps, are added up
in a fixed order.

The bound is memory: bytes in flight are warps * 32 * 16 * U, 64 KiB a block.
"""

from __future__ import annotations

ENOUGH = 128
"""Blocks that give most multiprocessors one."""


def columns_per_block(n: int) -> int:
    """Of a matrix of ``n`` columns."""
    return next((c for c in (32, 16) if n >= ENOUGH * c), 8)


def blocks(n: int) -> int:
    """Blocks that cover ``n`` columns."""
    return -(-n // columns_per_block(n))


STREAM = '#include "stream.cuh"\n'
