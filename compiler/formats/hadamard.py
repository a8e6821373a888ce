"""Products with a Hadamard matrix, blocks of channels apart."""

from __future__ import annotations

import numpy as np


def rotated(x: np.ndarray, block: int) -> np.ndarray:
    """X [.., K] diag(H, .., H) in X's type; H: Sylvester's Hadamard matrix of ``block`` rows, a
    power of two that divides K, all entries 1 or -1, H H = block I.

    As kernels add: neighbours first, then at distances 2, 4, .., block / 2, so f32 has their bits.
    """
    found, other = np.array(x, copy=True), np.empty_like(x)
    distance = 1
    while distance < block:
        shape = (*x.shape[:-1], x.shape[-1] // (2 * distance), 2, distance)
        pairs, out = found.reshape(shape), other.reshape(shape)
        np.add(pairs[..., 0, :], pairs[..., 1, :], out=out[..., 0, :])
        np.subtract(pairs[..., 0, :], pairs[..., 1, :], out=out[..., 1, :])
        found, other = other, found
        distance *= 2
    return found
