"""Two products after one another as one kernel: what the families with two factors share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Cost, Layout
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.formats import F32_FORMAT
from tilewright.compiler.formats.factored import Factored
from tilewright.compiler.formats.format import Encoded

ALIGN = 64
"""Where the packed right factor begins is a multiple of this."""

MIDDLE = 32
"""Elements that rows of the middle are filled up to, and rows that scratch has room for."""

SMALL = 1 << 19
"""Bytes of both factors that stay in L2 beside rows: blocks of rows may then be small, so that
threads share out rows and none computes the middle of another's."""


@dataclass(frozen=True)
class Inner:
    """The family that multiplies with each factor: its functions of the same names. ``multiply``
    emits the units of a product; ``pack`` and ``unpack`` are of the `Encoded` factor."""

    multiply: Callable[..., None]
    units: Callable[[Any], str]
    scratch_bytes: Callable[[Any], str]
    reference: Callable[..., tuple[np.ndarray, ...]]
    cost: Callable[..., Cost]
    layout: Callable[[Any], Layout]
    pack: Callable[[Encoded, Any], np.ndarray]
    unpack: Callable[[np.ndarray, Any], Encoded]


class Pair(ABC):
    """C[M, N] f32 = epilogue((A[M, K] B[K, rank]) D[rank, N]): fields that specs have.

    Args: A, packed B and D, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``rows``: at most so many a unit; 0: by the sizes. ``a``, ``c``: formats of A and C in memory.
    """

    k: int
    n: int
    rank: int
    epilogue: Epilogue
    rows: int
    a: str = F32_FORMAT
    c: str = F32_FORMAT

    @property
    @abstractmethod
    def inner(self) -> Inner:
        """What multiplies."""

    @property
    @abstractmethod
    def format(self) -> Factored:
        """The weight format."""

    @property
    @abstractmethod
    def left(self) -> Any:
        """Spec of A B, in the format ``middle``."""

    @property
    @abstractmethod
    def right(self) -> Any:
        """Spec of that times D, with the epilogue."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[int, int, int]:
        """Rows of a unit: what they are a multiple of, how many for small weights, for others."""

    @property
    def middle(self) -> str:
        """Format of A B in scratch."""
        return F32_FORMAT

    @property
    def left_bytes(self) -> int:
        """Packed B, up to where D begins."""
        return -(-self.inner.layout(self.left).bytes // ALIGN) * ALIGN

    @property
    def bytes(self) -> int:
        """Of both packed factors."""
        return self.left_bytes + self.inner.layout(self.right).bytes

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows; never more than one block of either product."""
        step, small, large = self.blocks
        wanted = self.rows or (small if self.bytes <= SMALL else large)
        most: int = min(self.left.rows_per_unit, self.right.rows_per_unit)
        return max(min(wanted, most) // step * step, step)

    @property
    def stride(self) -> int:
        """Elements from row to row of the middle."""
        return -(-self.rank // MIDDLE) * MIDDLE

    @property
    def panels_per_unit(self) -> int:
        """Threads that share the columns of few rows each compute all of the middle. With two of
        them that takes (K + N / 2) / (K + N) of the time of one: it is done for N >= K, where it is
        three quarters at most, in four parts of whole units of the right product."""
        width: int = self.right.panels_per_unit
        panels: int = self.right.panels
        if self.n < self.k:
            return max(panels, 1)
        return -(-panels // (4 * width)) * width or 1

    @property
    def across(self) -> int:
        """Units side by side."""
        panels: int = self.right.panels
        return -(-panels // self.panels_per_unit)


def units(spec: Pair) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.across}"


def scratch_bytes(spec: Pair) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: the middle, then what either
    product needs."""
    rows = f"{MIDDLE} * ceildiv(min(p0, {spec.rows_per_unit}), {MIDDLE})"
    size = 4 if spec.middle == F32_FORMAT else 2
    inner = (spec.inner.scratch_bytes(s) for s in (spec.left, spec.right))
    return f"{size * spec.stride} * {rows} + max({', '.join(inner)})"


def name(spec: Pair) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: Pair) -> Layout:
    """Of both packed factors."""
    return Layout(f"factors {spec.format.name}", spec.bytes)
