"""Which specs of f8_matmul answer for constants that a model stores as 8-bit floats."""

from __future__ import annotations

from typing import Any

from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec, F8MatmulTask
from tilewright.backends.target import Target


def candidates(task: Any, _target: Target) -> tuple[F8MatmulSpec, ...]:
    """A read as it is, and rounded to bf16."""
    if not isinstance(task, F8MatmulTask):
        return ()
    return tuple(
        F8MatmulSpec(task.k, task.n, task.kind, exact, task.epilogue) for exact in (True, False)
    )


def accuracy(spec: F8MatmulSpec) -> float:
    """f32-faithful, or that of A rounded to bf16."""
    return 0.0 if spec.exact else 1e-2
