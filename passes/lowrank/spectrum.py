"""Spectra: how much of a matrix a rank of half its bytes loses, as it is and in the metric of its
inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigvalsh

from tilewright.compiler.formats.null_models import rank_dropped
from tilewright.passes.structure.found import NEGLIGIBLE, Energy, Gauge
from tilewright.passes.structure.matrix import Matrix

LARGEST = 1024
"""Lines of the shorter side beyond which a sample of the columns stands for all (the spectrum of a
1024 x 1024 matrix takes a tenth of a second)."""


def half_rank(k: int, n: int) -> int:
    """The rank at which two factors have half of the bytes of W."""
    return k * n // (2 * (k + n))


def singular_energies(w: np.ndarray) -> np.ndarray:
    """Squares of singular values, falling, f64 (of f32 Gram matrices from 1e-6 of the greatest)."""
    short = w if w.shape[0] <= w.shape[1] else w.T
    gram = short @ short.T
    found: np.ndarray = np.maximum(eigvalsh(gram, check_finite=False)[::-1], 0.0)
    return found.astype(np.float64)


def measure_spectrum(matrix: Matrix) -> Energy | None:
    """What is lost at the rank of half the bytes."""
    rank = half_rank(matrix.k, matrix.n)
    if min(matrix.k, matrix.n) < 32 or not matrix.energy:
        return None
    w, share = matrix.w, rank / min(matrix.k, matrix.n)
    rng = np.random.default_rng(10)
    if matrix.k > LARGEST and matrix.n > LARGEST:
        w = w[:, np.sort(rng.choice(matrix.n, LARGEST, replace=False))]
    elif max(w.shape) > 4 * LARGEST:  # rows or columns of the long side
        axis = int(matrix.n > matrix.k)
        w = np.take(w, np.sort(rng.choice(w.shape[axis], 4 * LARGEST, replace=False)), axis)
    rank = int(share * min(w.shape))
    energies = singular_energies(w)
    lost = float(energies[rank:].sum() / max(energies.sum(), 1e-300))
    null = rank_dropped(rank, *sorted(w.shape))
    return Energy("spectrum", f"rank {half_rank(matrix.k, matrix.n)}", lost, null)


@dataclass(frozen=True, eq=False)
class InputSpectrum:
    """Eigenvalues of W^T C W, falling, and eigenvectors [N, N]: what X W does, with C = X^T X.

    W' = W U_r U_r^T of the first r eigenvectors has the least ||X (W - W')|| of all of rank r; its
    square is the sum of the other eigenvalues; no inverse is taken, so C may be singular.
    """

    values: np.ndarray
    vectors: np.ndarray

    def rank(self, lost: float = NEGLIGIBLE) -> int:
        """The least rank that loses at most this share of ||X W||^2."""
        total = self.values.sum()
        tail = np.append(np.cumsum(self.values[::-1])[::-1], 0.0)
        return int(np.argmax(tail <= lost * total))


def input_spectrum(w: np.ndarray, gram: np.ndarray) -> InputSpectrum:
    """Of W [K, N] and C [K, K]: eigh of W^T C W in f64."""
    wide = w.astype(np.float64)
    metric = wide.T @ (gram @ wide)
    values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    return InputSpectrum(np.maximum(values[::-1], 0.0), vectors[:, ::-1])


def measure_input_spectrum(matrix: Matrix) -> Energy | None:
    """As `measure_spectrum`, of X W. The null model is a Gaussian matrix of the shape under the
    same inputs, so that what the inputs alone bring is not counted; where the rank of X W is that
    of X and small, nothing is lost and it is structure all the same."""
    if matrix.inputs is None or min(matrix.k, matrix.n) < 16:
        return None
    rank = half_rank(matrix.k, matrix.n)
    gram = matrix.inputs.gram
    found = input_spectrum(matrix.w, gram).values
    if not found.sum():
        return None
    lost = float(found[rank:].sum() / found.sum())
    gaussian = np.random.default_rng(11).standard_normal((matrix.k, matrix.n))
    chance = input_spectrum(gaussian, gram).values
    null = float(chance[rank:].sum() / chance.sum())
    exact = InputSpectrum(found, np.empty((0, 0))).rank()
    text = f"rank {exact if exact <= rank else rank} of X W"
    return Energy("input spectrum", text, lost, null, by_inputs=True)


GAUGES = (
    Gauge("spectrum", measure_spectrum),
    Gauge("input spectrum", measure_input_spectrum),
)
