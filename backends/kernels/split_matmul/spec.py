"""Spec of the split matmul with constant B, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.f32_matmul.spec import LAYOUT
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import amx
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.gemm import TILE_BYTES
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.split_gemm import Shape
from tilewright.backends.target import Target

PRODUCTS = (3, 6)

FROM_ROWS = {3: 24, 6: 36}
"""Products -> fewer rows than this are multiplied in f32. 768 x 768 by 32 rows takes 0.73 and 0.87
of its time if all is in L2, 0.99 and 1.17 if the weights come from memory."""


@dataclass(frozen=True)
class SplitMatmulSpec:
    """C[M, N] = epilogue(A[M, K] B[K, N]), f32, from sums of bf16 products on AMX.

    Args: A, B as f32_matmul packs it, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``products``: 3 splits each operand into two bf16 values and leaves out the product of the two
    small ones; 6 splits into three and leaves out what is below f32.
    ``rows``: rows of A that are split at a time; ``depth``: steps of 32 of K, likewise;
    ``chunk``: steps of a panel of B that are.
    """

    k: int
    n: int
    products: int = 6
    epilogue: Epilogue = IDENTITY
    rows: int = 256
    depth: int = 24
    chunk: int = 2

    @property
    def from_rows(self) -> int:
        """Launches of at least this many rows run on tiles."""
        return FROM_ROWS[self.products]

    def __post_init__(self) -> None:
        if self.products not in PRODUCTS:
            raise ValueError(f"products must be one of 3, 6, not {self.products}")

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """As in f32_matmul, which few rows are left to."""
        if self.panels < 8:
            return 1
        return 2 if self.panels < 32 else 4 * -(-self.panels // 64)

    @property
    def shape(self) -> Shape:
        """What the tiles' part is generated from; slices of nearly equal depth."""
        steps = max(1, -(-self.k // 32))
        slices = -(-steps // self.depth)
        depth = -(-steps // slices)
        if slices > 1:
            depth = -(-depth // self.chunk) * self.chunk
        return Shape(
            k=self.k,
            n=self.n,
            products=self.products,
            epilogue=self.epilogue,
            rows=self.rows,
            depth=depth,
            chunk=self.chunk,
            group=16,
            width=self.panels_per_unit,
        )


def units(spec: SplitMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows}) * {spec.shape.across}"


def scratch_bytes(spec: SplitMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    return f"max({TILE_BYTES}, {spec.shape.scratch('p0')})"


def candidates(task: Any, target: Target) -> tuple[SplitMatmulSpec, ...]:
    """Specs of a matmul with constant B, the accurate one first."""
    if not isinstance(task, MatmulTask) or not amx.has_bf16(target):
        return ()
    return tuple(SplitMatmulSpec(task.k, task.n, p, task.epilogue) for p in reversed(PRODUCTS))


def layout(spec: SplitMatmulSpec) -> Layout:
    """Of packed B: f32_matmul's."""
    return Layout(LAYOUT, 4 * spec.panels * PANEL * spec.k)


def variants(spec: SplitMatmulSpec, _target: Target) -> tuple[SplitMatmulSpec, ...]:
    """Fewer rows and slices at a time, for less of L2; and half of that for chunks of a panel."""
    smaller = (replace(spec, rows=128, depth=16), replace(spec, chunk=4))
    return (spec, *(other for other in smaller if other.shape != spec.shape))


def accuracy(spec: SplitMatmulSpec) -> float:
    """Class of the relative L2 error."""
    return 0.0 if spec.products == 6 else 1e-5


def strips(spec: SplitMatmulSpec) -> int:
    """Panels follow each other."""
    return spec.rows
