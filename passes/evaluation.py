"""The evaluator of constant operations, which the caller of a pipeline brings along.

The meaning of operations in numpy belongs to backends/reference, which passes may not import.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from tilewright.compiler.ir.core import Op

Evaluate = Callable[[Op, list[np.ndarray]], list[np.ndarray]]
"""The results of an operation (no regions, no symbolic sizes) for the values of its operands."""

_current: ContextVar[Evaluate | None] = ContextVar("evaluate", default=None)


@contextmanager
def evaluating_with(evaluate: Evaluate | None) -> Iterator[None]:
    """Make `evaluate` the evaluator of passes that run inside the block."""
    token = _current.set(evaluate)
    try:
        yield
    finally:
        _current.reset(token)


def evaluator() -> Evaluate | None:
    """The evaluator in force, None when there is none (nothing is folded then)."""
    return _current.get()
