"""Matrices of low rank by the error of their outputs: no other of that rank is nearer to X W.

For X with the Gram matrix G = X^T X, ||X (W - W')||_F is least, of all W' of rank r, for
W' = W V V^T, where V has the r eigenvectors of W^T G W with the greatest eigenvalues; its square is
the sum of the others. That is the optimum of SVD-LLM (arXiv 2403.07378) and Dobi-SVD (2502.02723)
without a Cholesky factor or an inverse, so that G may be singular: weights of full rank whose
inputs lie in k dimensions are exact at rank k.

Other weightings are other Gram matrices. None: the plain singular value decomposition of W. The
diagonal matrix of the rows' summed Fisher information: FWSVD (2207.00112). Of mean |x|: ASVD
(2312.05821).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Factors:
    """W' = left right, f64 [K, r] and [r, N]."""

    left: np.ndarray
    right: np.ndarray

    @property
    def product(self) -> np.ndarray:
        """W', f64 [K, N]."""
        found: np.ndarray = self.left @ self.right
        return found


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Directions of the outputs by their energy.

    basis: orthonormal columns f64 [N, min(K, N)]. energies: ||X W v||^2 of each, f64, falling.
    """

    basis: np.ndarray
    energies: np.ndarray

    @property
    def known(self) -> int:
        """How many of the directions have any energy: of the others the inputs say nothing."""
        if not len(self.energies):
            return 0
        least = len(self.energies) * np.finfo(np.float64).eps * self.energies[0]
        return int(np.count_nonzero(self.energies > least))

    def tail(self, rank: int) -> float:
        """||X (W - W')||_F for the best W' of a rank."""
        return float(np.sqrt(self.energies[rank:].sum()))


def spectrum(w: np.ndarray, gram: np.ndarray | None = None) -> Spectrum:
    """The spectrum of X W for W [K, N]; gram: X^T X [K, K], positive semidefinite; None: the
    identity."""
    wide = w.astype(np.float64)
    k, n = wide.shape
    if gram is not None and n <= k:
        # The scale keeps squares of large or small numbers in range.
        scale = np.abs(np.diag(gram)).max(initial=0) or 1.0
        small = wide.T @ (gram / scale) @ wide
        energies, basis = np.linalg.eigh((small + small.T) / 2)
        return Spectrum(basis[:, ::-1], np.maximum(energies[::-1], 0) * scale)
    if gram is not None:
        wide = _root(gram) @ wide
    _, values, rows = np.linalg.svd(wide, full_matrices=False)
    return Spectrum(rows.T, values**2)


def truncated(
    w: np.ndarray, rank: int, gram: np.ndarray | None = None, known: Spectrum | None = None
) -> Factors:
    """W [K, N] at a rank, with the least ||X (W - W')||_F.

    gram: as of `spectrum`; known: that spectrum, if it was computed before. Rank that is left where
    all directions that inputs reach are kept goes to what is left of W itself. Raises ValueError
    for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank {rank}: expected at least 1")
    wide = w.astype(np.float64)
    found = spectrum(wide, gram) if known is None else known
    rank = min(rank, *wide.shape)
    basis = found.basis[:, : min(rank, found.known)]
    if basis.shape[1] < rank:
        rest = wide - (wide @ basis) @ basis.T
        more = np.linalg.svd(rest, full_matrices=False)[2][: rank - basis.shape[1]].T
        # The rest has nothing along the basis, but its rows of zeros have any direction.
        basis = np.linalg.qr(np.concatenate([basis, more], axis=1))[0]
    return Factors(wide @ basis, np.ascontiguousarray(basis.T))


def refitted(w: np.ndarray, factors: Factors, gram: np.ndarray | None = None) -> np.ndarray:
    """The right factor f64 [r, N] with the least ||X (W - left right)||_F for the left one: of all
    that are as good the nearest to the right one of ``factors``. gram: as of `spectrum`."""
    left, right = factors.left, factors.right
    seen = left if gram is None else gram @ left
    rest = seen.T @ (w.astype(np.float64) - left @ right)
    found: np.ndarray = right + np.linalg.lstsq(left.T @ seen, rest, rcond=None)[0]
    return found


def _root(gram: np.ndarray) -> np.ndarray:
    """R [K, K] with R^T R = gram, of any positive semidefinite one."""
    energies, directions = np.linalg.eigh((gram + gram.T) / 2)
    found: np.ndarray = np.sqrt(np.maximum(energies, 0))[:, None] * directions.T
    return found
