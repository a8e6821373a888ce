"""What an operation computes with its weights in a format, in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.compiler.formats import named
from tilewright.compiler.formats.format import Encoded
from tilewright.passes.quantization.sites import Lookup, Multiplied, Site

Multiply = Callable[[np.ndarray], np.ndarray]


def as_stored(site: Site, encoded: Encoded, numerics: str) -> Multiply:
    """The result of a site before its epilogue, f32, by an array of its operand x.

    Inputs are read as kernels of the format read them; sums are those of f32 products.
    """
    made = named(numerics)
    weights = made.decode(encoded).astype(np.float32, copy=False)
    if isinstance(site, Lookup):
        rows = np.ascontiguousarray(weights.T)
        return lambda indices: rows[indices]
    assert isinstance(site, Multiplied)

    def multiply(x: np.ndarray) -> np.ndarray:
        read = made.read(site.matrix(x), encoded).astype(np.float32)
        return site.result(read @ weights, x)

    return multiply
