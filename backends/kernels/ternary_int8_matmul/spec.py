"""Spec of the matmul with ternary weights and 8-bit rows, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.ternary_codes import TernaryPanel
from tilewright.backends.llvm.ternary_dots import looks_up, row_bytes
from tilewright.backends.llvm.widened_product import HEAD_BYTES, Shape
from tilewright.backends.target import Target
from tilewright.compiler.formats.ternary import Ternary

FORMAT = Ternary()

FEW = 24
"""Rows that are multiplied as 8-bit codes together; more are faster by a widened panel where bf16
is multiplied."""

_ROWS = 1 << 20
"""Bytes of prepared rows at most: they stay in L2."""


@dataclass(frozen=True)
class TernaryInt8MatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in the format ``t158``.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``trits``: nine weights in 16 bits, which are looked up for all rows; else four in 8.
    ``all_rows``: all rows are multiplied as codes, not only few.
    """

    k: int
    n: int
    trits: bool = False
    epilogue: Epilogue = IDENTITY
    all_rows: bool = False

    @property
    def panel(self) -> TernaryPanel:
        """The packed bytes of one panel."""
        return TernaryPanel(self.k, self.trits)

    @property
    def shape(self) -> Shape:
        return Shape(self.k, self.n)

    @property
    def few(self) -> int:
        """Most rows that are prepared together."""
        return max(1, min(FEW, _ROWS // row_bytes(self.panel)))

    def exact(self, rows: int) -> bool:
        """Whether so many rows are read as the format says."""
        return self.blocks or rows <= self.few

    @property
    def blocks(self) -> bool:
        """Whether units are blocks of ``few`` rows."""
        return self.trits or self.all_rows


def units(spec: TernaryInt8MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    if spec.blocks:
        return f"ceildiv(p0, {spec.few}) * {spec.shape.across}"
    return spec.shape.units()


def scratch_bytes(spec: TernaryInt8MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    each = row_bytes(spec.panel)
    if spec.blocks:
        # Codes of up to three rows of nothing are multiplied too.
        rows = f"min(p0, {spec.few})" if spec.trits else f"ceildiv(min(p0, {spec.few}), 4) * 4"
        return f"{HEAD_BYTES} + {rows} * {each}"
    return spec.shape.scratch_bytes(spec.few, each)


def candidates(task: Any, target: Target) -> tuple[TernaryInt8MatmulSpec, ...]:
    """Both ways, the second where the target permutes 32 words."""
    if not isinstance(task, MatmulTask) or not FORMAT.supports(task.k, task.n):
        return ()
    spec = TernaryInt8MatmulSpec(task.k, task.n, epilogue=task.epilogue)
    return (spec, replace(spec, trits=True)) if looks_up(target) else (spec,)


def variants(spec: TernaryInt8MatmulSpec, target: Target) -> tuple[TernaryInt8MatmulSpec, ...]:
    """All rows as codes too, where wide vectors multiply no bf16."""
    if bf16.has_dots(target) or spec.trits:
        return (spec,)
    return (spec, replace(spec, all_rows=True))


def name(_spec: TernaryInt8MatmulSpec) -> str:
    """Name of the weight format."""
    return FORMAT.name


def layout(spec: TernaryInt8MatmulSpec) -> Layout:
    """Of packed B."""
    kind = "trits" if spec.trits else "2 bits"
    return Layout(f"ternary {kind}", spec.shape.panels * spec.panel.bytes)
