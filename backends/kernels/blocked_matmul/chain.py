"""Products by blocks with a step between them as one kernel: what families of this form share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tilewright.backends.kernels.factored_matmul.pair import ALIGN, MIDDLE, SMALL, Inner
from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.formats import BYTES, F32_FORMAT
from tilewright.compiler.formats.blast import Blast
from tilewright.compiler.formats.blocked import Blocked
from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.monarch import Monarch


class Chain(ABC):
    """C[M, N] = epilogue(A[M, K] W[K, N]) for W of ``parts`` x ``parts`` blocks: fields of specs.

    Args: A, packed factors, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``mixed``: BLAST; else Monarch. ``rows``: at most so many a unit; 0: by the sizes. ``a``, ``c``:
    formats of A and C in memory.
    """

    k: int
    n: int
    parts: int
    rank: int
    mixed: bool
    epilogue: Epilogue
    rows: int
    a: str = F32_FORMAT
    c: str = F32_FORMAT

    @property
    @abstractmethod
    def inner(self) -> Inner:
        """What multiplies with each factor."""

    @property
    @abstractmethod
    def part(self) -> WeightFormat:
        """The format of factors."""

    @property
    @abstractmethod
    def left(self) -> Any:
        """Spec of one part of A times its left factor, a result in f32."""

    @property
    @abstractmethod
    def right(self) -> Any:
        """Spec of one part of the middle times its right factor, with the epilogue."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[int, int, int]:
        """Rows of a unit: what they are a multiple of, how many for small weights, for others."""

    @property
    def format(self) -> Blocked:
        """The weight format."""
        return (Blast if self.mixed else Monarch)(self.parts, self.rank, self.part)

    @property
    def middle(self) -> str:
        """Format of what right factors read in scratch."""
        return F32_FORMAT

    @property
    def width(self) -> int:
        """Columns of a left factor, rows of a right one."""
        return self.format.width

    @property
    def stride(self) -> int:
        """Elements from row to row of z and of the middle."""
        return self.parts * self.width

    @property
    def left_bytes(self) -> int:
        """From one left factor to the next."""
        return -(-self.inner.layout(self.left).bytes // ALIGN) * ALIGN

    @property
    def mixing_at(self) -> int:
        """Where s lies in packed weights."""
        return self.parts * self.left_bytes

    @property
    def right_at(self) -> int:
        """Where the right factors begin."""
        return self.mixing_at + -(-4 * self.format.between // ALIGN) * ALIGN

    @property
    def right_bytes(self) -> int:
        """From one right factor to the next."""
        return -(-self.inner.layout(self.right).bytes // ALIGN) * ALIGN

    @property
    def bytes(self) -> int:
        """Of all of it."""
        return self.right_at + self.parts * self.right_bytes

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows; never more than one block of either product."""
        step, small, large = self.blocks
        wanted = self.rows or (small if self.bytes <= SMALL else large)
        most: int = min(self.left.rows_per_unit, self.right.rows_per_unit)
        return max(min(wanted, most) // step * step, step)

    @property
    def parts_per_unit(self) -> int:
        """Of C: as of factored_matmul, threads that share columns each compute the middle."""
        return 1 if self.n >= self.k else self.parts


def units(spec: Chain) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.parts // spec.parts_per_unit}"


def scratch_bytes(spec: Chain) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: z and the middle, then what a
    product needs."""
    rows = f"{MIDDLE} * ceildiv(min(p0, {spec.rows_per_unit}), {MIDDLE})"
    size = spec.stride * (4 + BYTES[spec.middle])
    inner = (spec.inner.scratch_bytes(s) for s in (spec.left, spec.right))
    return f"{size} * {rows} + max({', '.join(inner)})"


def name(spec: Chain) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: Chain) -> Layout:
    """Of packed factors."""
    return Layout(f"blocks {spec.format.name}", spec.bytes)
