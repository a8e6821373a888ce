"""Low rank by rows and columns of the matrix itself: CUR, and the interpolative form."""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from tilewright.compiler.formats.truncation import Factors


def deim(basis: np.ndarray) -> np.ndarray:
    """Rows of a basis [M, r] with independent columns, int64 [r], one after another where the
    interpolation of the next vector by the rows so far is worst.

    Discrete empirical interpolation: Sorensen and Embree, arXiv 1407.5516.
    """
    chosen: list[int] = []
    for i, vector in enumerate(basis.T):
        left = vector
        if i:
            fit = np.linalg.solve(basis[chosen, :i], vector[chosen])
            left = vector - basis[:, :i] @ fit
        size = np.abs(left)
        size[chosen] = -1
        chosen.append(int(size.argmax()))
    return np.asarray(chosen, np.int64)


def curing(
    w: np.ndarray, rank: int, importance: np.ndarray | None = None, gram: np.ndarray | None = None
) -> Factors:
    """W [K, N] as (C U) R: C some of its columns, R some of its rows, U folded into C.

    importance: mean x^2 of each row's input [K]; rows and columns are those that `deim` takes of
    the singular vectors of |W| times its root (CURing, arXiv 2501.04211); None: of W itself. U is
    the best one for the weights, or with gram = X^T X for the outputs.
    """
    wide = w.astype(np.float64)
    scored = wide
    if importance is not None:
        scored = np.abs(wide) * np.sqrt(importance)[:, None]
    lefts, _, rights = np.linalg.svd(scored, full_matrices=False)
    rows, columns = deim(lefts[:, :rank]), deim(rights[:rank].T)
    c, r = wide[:, columns], wide[rows]
    if gram is None:
        middle = np.linalg.lstsq(c, wide, rcond=None)[0]
    else:
        middle = np.linalg.lstsq(c.T @ gram @ c, c.T @ gram @ wide, rcond=None)[0]
    u = np.linalg.lstsq(r.T, middle.T, rcond=None)[0].T
    return Factors(c @ u, r)


def interpolative(w: np.ndarray, rank: int, gram: np.ndarray | None = None) -> Factors:
    """W [K, N] as ``rank`` of its columns, and how the others are made of these: the right factor
    has a column of the identity for each of them.

    By pivoted QR of W, or of X W with gram = X^T X. Exact where W has that rank (Voronin and
    Martinsson, arXiv 1412.8447).
    """
    wide = w.astype(np.float64)
    seen = wide
    if gram is not None:
        energies, directions = np.linalg.eigh((gram + gram.T) / 2)
        seen = np.sqrt(np.maximum(energies, 0))[:, None] * (directions.T @ wide)
    upper, order = qr(seen, mode="r", pivoting=True)
    rest = np.linalg.lstsq(upper[:rank, :rank], upper[:rank, rank:], rcond=None)[0]
    right = np.empty((rank, wide.shape[1]))
    right[:, order[:rank]] = np.eye(rank)
    right[:, order[rank:]] = rest
    return Factors(wide[:, order[:rank]], right)
