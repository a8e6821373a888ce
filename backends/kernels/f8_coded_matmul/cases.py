"""Launches of f8_matmul on shapes of their own."""

from __future__ import annotations

from tilewright.backends.kernels.f8_matmul import cases as shared
from tilewright.backends.kernels.family import Case


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    return tuple(case for m, n, k in ((1, 40, 33), (17, 33, 96)) for case in shared.shaped(m, n, k))
