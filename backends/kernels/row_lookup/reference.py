"""Meaning of a lookup, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.row_lookup.packing import unpack
from tilewright.backends.kernels.row_lookup.spec import RowLookupSpec, format_of
from tilewright.compiler.formats import named
from tilewright.compiler.formats.format import Encoded


def run(
    spec: RowLookupSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y[M, D] from the kernel's own operands; IndexError for an index out of range."""
    matrix = unpack(args[1], spec)
    if isinstance(matrix, Encoded):
        matrix = named(format_of(spec)).decode(matrix).astype(np.float32)
    return (matrix.T[args[0][: dims[0]]].astype(np.float64),)
