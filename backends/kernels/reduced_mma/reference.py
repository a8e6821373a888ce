"""Meaning of products whose panels are reduced, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels import readings
from tilewright.backends.kernels.reduced_mma.spec import ReducedMmaSpec


def run(
    spec: ReducedMmaSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """What panels leave, in float64 precision from the kernel's own operands."""
    given, ids = list(args), None
    if spec.reading.ids:
        ids = given.pop().reshape(dims[0], spec.reading.count)
    (product,) = spec.family.reference(spec.product, given, dims)
    return (readings.parts(spec.reading, product, spec.part, ids),)
