"""Structures of weights at equal bytes: each method gives back a matrix and says what it takes.

A method gets W [K, N], what calibration saw of its inputs, and the bytes that it may have; it makes
the least error that it can within these, and None where it has no form that fits. What it gives is
what a kernel would multiply with but for the rounding of its inputs and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tilewright.compiler.formats import Inputs, WeightFormat
from tilewright.compiler.formats.armor import Wrapped, armor
from tilewright.compiler.formats.blast import Blast
from tilewright.compiler.formats.factored import Factored, joined
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.monarch import Monarch
from tilewright.compiler.formats.pruning import Blocks, Groups, Unstructured
from tilewright.compiler.formats.repaired import Repaired
from tilewright.compiler.formats.selected_rows import curing
from tilewright.compiler.formats.sparse import Sparse
from tilewright.compiler.formats.truncation import Factors, truncated

GROUP = 64
"""Rows of codes that share a scale."""

PARTS = 4
"""Rows and columns of blocks of Monarch and BLAST."""


@dataclass(frozen=True, eq=False)
class Stored:
    """What stands in for W, f32 [K, N]; its bytes; what is particular of it, as its rank."""

    weights: np.ndarray
    bytes: int
    how: str


Make = Callable[[np.ndarray, Inputs, int], Stored | None]


def stored(made: WeightFormat, w: np.ndarray, inputs: Inputs) -> Stored:
    """W in a format."""
    decoded = made.decode(made.encode(w, inputs))
    return Stored(decoded, made.bytes(*w.shape), made.name)


def greatest(formats: Iterable[WeightFormat], w: np.ndarray, size: int) -> WeightFormat | None:
    """The one with the most bytes that are not more than ``size``."""
    fitting = [f for f in formats if f.supports(*w.shape) and f.bytes(*w.shape) <= size]
    return max(fitting, key=lambda f: f.bytes(*w.shape), default=None)


def of(formats: Callable[[np.ndarray, int], Iterable[WeightFormat]], fisher: bool = False) -> Make:
    """The method of a ladder of formats, for W and the bytes that it may have. fisher: of use with
    Fisher information only, which others do not look at."""

    def make(w: np.ndarray, inputs: Inputs, size: int) -> Stored | None:
        if fisher and inputs.fisher is None:
            return None
        made = greatest(formats(w, size), w, size)
        seen = inputs if fisher or inputs.fisher is None else replace(inputs, fisher=None)
        return None if made is None else stored(made, w, seen)

    return make


def factors_of(make: Callable[[np.ndarray, Inputs, int], Factors]) -> Make:
    """The method of two factors in bf16 by a function of weights, inputs, rank."""

    def found(w: np.ndarray, inputs: Inputs, size: int) -> Stored | None:
        made = greatest(_ranks(w, Bfloat16()), w, size)
        if not isinstance(made, Factored):
            return None
        parts = make(w, inputs, made.rank)
        left, right = (Bfloat16().encode(f.astype(np.float32)) for f in (parts.left, parts.right))
        return Stored(made.decode(joined(left, right)), made.bytes(*w.shape), f"rank {made.rank}")

    return found


def _ranks(w: np.ndarray, part: WeightFormat) -> Iterable[WeightFormat]:
    return (Factored(rank, part) for rank in range(1, min(w.shape)))


def _bits(w: np.ndarray, size: int) -> int:
    """Of values of sparse weights: as many as leave half of them or more."""
    return 16 if 8 * size > 8.5 * w.size else 8


def _repaired(w: np.ndarray, size: int) -> Iterable[WeightFormat]:
    """Codes of one bit less than fit alone, and low rank."""
    alone = greatest((Integers(b, GROUP) for b in range(2, 9)), w, size)
    if not isinstance(alone, Integers) or alone.bits < 3:
        return ()
    base = Integers(alone.bits - 1, GROUP)
    return (Repaired(base, rank) for rank in range(8, min(w.shape), 8))


def _armor(w: np.ndarray, inputs: Inputs, size: int) -> Stored | None:
    """2:4 in 8 bits between blocks in bf16, the largest ones that fit."""
    k, n = w.shape
    core = Sparse(8, Groups(2, 4))
    for block in (64, 32, 16, 8):
        taken = core.bytes(k, n) + 2 * block * (k + n)
        if k % block or n % block or taken > size:
            continue
        made = armor(w, inputs.gram, block)
        step = np.maximum(np.abs(made.core).max(axis=0), 1e-30) / 127
        codes = np.round(made.core / step) * step
        rounded = Wrapped(_short(made.left), codes, _short(made.right))
        return Stored(rounded.dense.astype(np.float32), taken, f"blocks of {block}")
    return None


def _short(blocks: np.ndarray) -> np.ndarray:
    """Rounded to bf16, f64."""
    flat = blocks.reshape(-1, blocks.shape[-1]).astype(np.float32)
    found = Bfloat16().decode(Bfloat16().encode(flat)).astype(np.float64)
    return found.reshape(blocks.shape)


METHODS: Mapping[str, Make] = {
    "codes": of(lambda w, size: (Integers(bits, GROUP) for bits in range(2, 9))),
    "SVD": factors_of(lambda w, i, rank: truncated(w, rank)),
    "FWSVD": of(lambda w, size: _ranks(w, Bfloat16()), fisher=True),
    "CURing": factors_of(lambda w, i, rank: curing(w, rank, i.importance, i.gram)),
    "metric SVD": of(lambda w, size: _ranks(w, Bfloat16())),
    "metric SVD, 8 bits": of(lambda w, size: _ranks(w, Integers(8, 32, symmetric=True))),
    "metric SVD, 4 bits": of(lambda w, size: _ranks(w, Integers(4, 32))),
    "LQ": of(_repaired),
    "unstructured": of(
        lambda w, size: (Sparse(_bits(w, size), Unstructured(p)) for p in range(5, 100))
    ),
    "2:4": of(lambda w, size: (Sparse(_bits(w, size), Groups(2, 4)),)),
    "ARMOR": _armor,
    "blocks 16x4": of(
        lambda w, size: (Sparse(_bits(w, size), Blocks(p, deep=4, wide=16)) for p in range(5, 100))
    ),
    "Monarch": of(lambda w, size: (Monarch(PARTS, r, Bfloat16()) for r in range(1, min(w.shape)))),
    "BLAST": of(lambda w, size: (Blast(PARTS, r, Bfloat16()) for r in range(1, min(w.shape)))),
}
"""By name, in the order of the table."""
