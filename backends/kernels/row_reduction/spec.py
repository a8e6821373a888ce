"""Spec of reductions of rows, and the task that asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.tasks import Bytes, span
from tilewright.backends.target import Target

ELEMENT = {"f32": 4, "i64": 8}


@dataclass(frozen=True)
class RowReductionTask:
    """Results of every row of X[M, n] f32, n > 0.

    Args: X, ids i64 [M, count] where ``reading`` has them, then results, dense.
    Dims: p0 = M, p1 = row stride of X (elements).
    """

    n: int
    reading: Reading

    def operands(self, dims: Sequence[int]) -> Bytes:
        """X, ids, results."""
        m, stride = dims
        x = span((m, self.n), (stride, 1))
        ids = (8 * m * self.reading.count,) if self.reading.ids else ()
        return (x, *ids, *(ELEMENT[t] * m * c for t, c in self.reading.results))


@dataclass(frozen=True)
class RowReductionSpec:
    """The same, or of what parts of rows have left.

    ``part``: columns of each part that X then holds as [parts, M, words] f32 (kernels.readings);
    0: X is the matrix. Args and dims as of RowReductionTask.
    """

    n: int
    reading: Reading
    part: int = 0

    @property
    def parts(self) -> int:
        """How many X holds."""
        return -(-self.n // self.part) if self.part else 0


def units(_spec: RowReductionSpec) -> str:
    """Rows."""
    return "p0"


def scratch_bytes(spec: RowReductionSpec) -> str:
    """What the parts so far leave of a row."""
    return str(-(-4 * spec.reading.words // 64) * 64)


def candidates(task: Any, _target: Target) -> tuple[RowReductionSpec, ...]:
    """The spec of a matrix."""
    return (RowReductionSpec(task.n, task.reading),) if isinstance(task, RowReductionTask) else ()
