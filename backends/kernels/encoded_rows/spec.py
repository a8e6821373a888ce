"""Spec of storing rows in a cache format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.target import Target
from tilewright.compiler.formats.caches import CACHES, CacheFormat

LARGEST = 12288
"""Elements of a row at most on GPUs: one lies in 48 KiB of shared memory."""

ROWS = 8
"""Rows of a work unit."""


@dataclass(frozen=True)
class EncodedRowsTask:
    """Codes and scales of X f32 [p0, p1, p2, size] in a cache format.

    Args: X, codes, scales f32. Dims: p0, p1, p2 = rows, p3..p5 = strides of X in elements, whose
    rows are dense, p6..p8 of the rows of codes in bytes, p9..p11 of scales in elements.
    """

    size: int
    format: str


@dataclass(frozen=True)
class EncodedRowsSpec:
    """Args and dims as of the task."""

    size: int
    format: str

    @property
    def made(self) -> CacheFormat:
        return CACHES[self.format]


def units(spec: EncodedRowsSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0 * p1 * p2, {ROWS})"


def scratch_bytes(spec: EncodedRowsSpec) -> str:
    """One row, in whole vectors."""
    return str(4 * (-(-spec.size // 16) * 16 + 16))


def candidates(task: Any, target: Target) -> tuple[EncodedRowsSpec, ...]:
    """The only way to do it."""
    if not isinstance(task, EncodedRowsTask) or (target.gpu and task.size > LARGEST):
        return ()
    return (EncodedRowsSpec(**vars(task)),)
