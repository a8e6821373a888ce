"""Meaning of products that are reduced strip by strip, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels import readings
from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulSpec


def run(
    spec: ReducedMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """What parts leave, in float64 precision from the kernel's own operands."""
    given, ids = list(args), None
    if spec.reading.ids:
        ids = given.pop().reshape(dims[0], spec.reading.count)
    (product,) = spec.family.reference(spec.product, given, dims)
    return (readings.parts(spec.reading, product, spec.part, ids),)
