"""Spec of the product with bitmaps on GPUs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import formats as storage
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.pruning import Blocks
from tilewright.compiler.formats.sparse import Sparse

ACCURACY = {"bf16": 1e-2, "f16": 1e-3}
"""Element -> accuracy class."""

ELEMENTS_READ = {"bf16": (storage.F32_FORMAT, storage.BF16_FORMAT), "f16": (storage.F32_FORMAT,)}
"""Element -> formats of A and C."""

PANEL, CHUNK, STEP = 32, 32, 64
"""Columns of a panel; k of a chunk, for which each lane has 32 bits, and of a step, two of them."""

PIECE = 16
"""Bytes of what is copied at least, at multiples of which steps begin."""

BITMAPS = 256
"""Bytes of a step's bitmaps."""

LARGEST = BITMAPS + 2 * STEP * PANEL
"""Bytes of a step of which no weight is zero."""

ROUND = 128
"""Bytes to which the largest step is filled up."""

MOST = 0.85
"""Share of weights other than zero from which on nothing is gained."""


@dataclass(frozen=True)
class BitmapMmaSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), B with zeros that are not stored; sums in f32.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``pieces``: of PIECE bytes, which values of all steps take at most; ``slot``: bytes that a step
    takes at most. ``element``: what is multiplied, bf16 or f16. ``format``: of the weights; None:
    those of the model, rounded to elements. ``a``, ``c``: formats of A and C in memory
    (llvm.formats).
    """

    k: int
    n: int
    pieces: int
    slot: int = LARGEST
    element: str = "bf16"
    format: Sparse | None = None
    epilogue: Epilogue = IDENTITY
    a: str = storage.F32_FORMAT
    c: str = storage.F32_FORMAT

    def __post_init__(self) -> None:
        if not BITMAPS <= self.slot <= LARGEST or self.slot % PIECE:
            raise ValueError(f"steps of {self.slot} bytes: expected pieces of 16, up to {LARGEST}")
        if self.element not in ACCURACY or (self.format is not None and self.element != "bf16"):
            raise ValueError(f"no bitmaps of {self.element}{' in a format' * bool(self.format)}")
        if not {self.a, self.c} <= {*ELEMENTS_READ[self.element]}:
            raise ValueError(f"formats {self.a} and {self.c} with elements of {self.element}")

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def steps(self) -> int:
        """Of K, in each panel."""
        return -(-self.k // STEP)

    @property
    def head_bytes(self) -> int:
        """Where steps begin, u32; whole pieces."""
        return -(-4 * (self.panels * self.steps + 1) // PIECE) * PIECE

    @property
    def packed_bytes(self) -> int:
        return self.head_bytes + self.panels * self.steps * BITMAPS + self.pieces * PIECE


def units(spec: BitmapMmaSpec) -> str:
    """Blocks of 64 rows by panels."""
    return f"ceildiv(p0, 64) * {spec.panels}"


def scratch_bytes(_spec: BitmapMmaSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[BitmapMmaSpec, ...]:
    """One for each 16-bit format that says how many weights are left, in no blocks."""
    if not isinstance(task, MatmulTask):
        return ()
    read = (f for f in formats().values() if isinstance(f, Sparse) and f.bits == 16)
    return tuple(
        BitmapMmaSpec(
            task.k, task.n, most_pieces(f, task.k, task.n), format=f, epilogue=task.epilogue
        )
        for f in read
        if f.pattern is not None
        and not isinstance(f.pattern, Blocks)
        and f.supports(task.k, task.n)
    )


def most_pieces(made: Sparse, k: int, n: int) -> int:
    """Pieces of values of a format: those of its weights, and one a step that is not full."""
    return -(-made.kept(k, n) * 2 // PIECE) + -(-n // PANEL) * -(-k // STEP)


def fitted(task: Any, _target: Target, weights: np.ndarray) -> tuple[BitmapMmaSpec, ...]:
    """Each element, for weights that have zeros themselves."""
    if not isinstance(task, MatmulTask) or weights.ndim != 2 or not weights.size:
        return ()
    there = weights != 0
    if there.sum() > MOST * weights.size:
        return ()
    pieces, slot = even(there)
    largest = float(np.abs(weights).max())
    return tuple(
        BitmapMmaSpec(task.k, task.n, pieces, slot, element, None, task.epilogue)
        for element in ACCURACY
        if element == "bf16" or largest <= float(np.finfo(np.float16).max)
    )


def even(there: np.ndarray) -> tuple[int, int]:
    """Pieces that values of [K, N] take, as many for each panel, and bytes of the largest step, to
    whole ROUND: matrices pruned alike then have kernels in common."""
    edges = np.arange(0, len(there), STEP)
    # Of a column at most STEP.
    by_step = np.add.reduceat(there, edges, axis=0, dtype=np.uint8)
    filled = np.zeros((len(edges), -(-there.shape[1] // PANEL), PANEL), np.uint8)
    filled.reshape(len(edges), -1)[:, : there.shape[1]] = by_step
    counts = filled.sum(axis=2, dtype=np.int64)
    pieces, panels = int((-(-counts * 2 // PIECE)).sum()), int(counts.shape[1])
    largest = BITMAPS + -(-2 * int(counts.max()) // ROUND) * ROUND
    return -(-pieces // panels) * panels, largest


def stored(spec: BitmapMmaSpec, operands: tuple[str, ...], result: str) -> BitmapMmaSpec | None:
    """The same with A and C in these formats; None where it cannot."""
    if not {operands[0], result} <= {*ELEMENTS_READ[spec.element]}:
        return None
    return replace(spec, a=operands[0], c=result)


def accuracy(spec: BitmapMmaSpec) -> float:
    """By element."""
    return ACCURACY[spec.element]


def weight_format(spec: BitmapMmaSpec) -> str:
    """Name of the weight format."""
    return spec.format.name if spec.format is not None else ""


def layout(spec: BitmapMmaSpec) -> Layout:
    """Of packed B."""
    return Layout(f"mma bitmaps of {spec.element}, {spec.pieces} pieces", spec.packed_bytes)
