"""Spec of the f16 matmul with constant B, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import f16_gemm
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.f16_gemm import HALF, SCRATCH_BYTES, row_stride, wide_bytes
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

CHAIN = 16
"""Products that are summed in f16: relative L2 errors of random operands below 1e-3."""


@dataclass(frozen=True)
class HalfMatmulTask(MatmulTask):
    """A MatmulTask whose B has only f16 numbers; what computes that one computes this one too."""


@dataclass(frozen=True)
class F16MatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N] f16).

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``chain``: 0 multiplies and sums in f32; else A is rounded to f16, sums of that many products
    are f16, and those are added up in f32. The epilogue is computed in f32.
    """

    k: int
    n: int
    chain: int = 0
    epilogue: Epilogue = IDENTITY

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """Few enough that one block of rows gives several threads work."""
        return 1 if self.panels < 8 else 2 if self.panels < 32 else 4 * -(-self.panels // 64)

    @property
    def depth(self) -> int:
        """k of one slice of widened panels, as in f32_matmul."""
        return MatmulSpec(self.k, self.n).depth

    @property
    def rows_per_unit(self) -> int:
        """A slice of their A keeps to half a MiB."""
        depth = self.k if self.chain else self.depth
        return max(14, min(240, (1 << 17) // max(depth, 1) // 14 * 14))


def units(spec: F16MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def scratch_bytes(spec: F16MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: a block of C; rows of A in f16, or
    a widened panel and sums of the slices before."""
    once, row = 0, HALF * row_stride(spec.k)
    if not spec.chain:
        once, row = wide_bytes(spec.k, spec.depth, spec.panels_per_unit)
    return f"{SCRATCH_BYTES + once} + {row} * min(p0, {spec.rows_per_unit})"


def candidates(task: Any, target: Target) -> tuple[F16MatmulSpec, ...]:
    """Products in f32 and, where there are f16 ones, those."""
    if not isinstance(task, HalfMatmulTask):
        return ()
    chains = (0, CHAIN) if f16_gemm.has_chains(target) else (0,)
    return tuple(F16MatmulSpec(task.k, task.n, chain, task.epilogue) for chain in chains)


def accuracy(spec: F16MatmulSpec) -> float:
    """Of rounded rows and f16 sums."""
    return 1e-3 if spec.chain else 0.0


def layout(spec: F16MatmulSpec) -> Layout:
    """Of packed B."""
    return Layout("f16 panels of 32 columns", HALF * spec.panels * PANEL * spec.k)


def strips(spec: F16MatmulSpec) -> int:
    """Panels follow each other."""
    return spec.rows_per_unit
