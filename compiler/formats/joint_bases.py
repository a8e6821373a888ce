"""Factors of exact BLAST matrices by joint diagonalization, which least squares come near to
slowly."""

from __future__ import annotations

import numpy as np


def diagonalized(
    blocks: np.ndarray, rank: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Factors of W as blocks [p, K/p, p, N/p] = B_i diag(s_ij) C_j whose rows and columns of blocks
    have rank r to a relative tolerance: left [p, K/p, r], middle [p, p, r], right [p, r, N/p]. None
    where they have not, or where eigenvectors are not real.

    With orthonormal bases Q_i of rows of blocks and P_j of columns, G_ij = Q_i^T W_ij P_j is
    X_i diag(s_ij) Y_j, so that G_11 G_21^-1 G_22 G_12^-1 has the eigenvectors X_1, from which all
    others follow.
    """
    b, height, _, width = blocks.shape
    rows = [np.linalg.svd(blocks[i].reshape(height, -1), full_matrices=False) for i in range(b)]
    columns = [
        np.linalg.svd(blocks[:, :, j].reshape(-1, width), full_matrices=False) for j in range(b)
    ]
    for _, s, _ in (*rows, *columns):
        if np.count_nonzero(s > tolerance * s[0]) != rank:
            return None
    q = [u[:, :rank] for u, _, _ in rows]
    p = [v[:rank].T for _, _, v in columns]
    core = np.stack([[q[i].T @ blocks[i, :, j] @ p[j] for j in range(b)] for i in range(b)])
    try:
        _, x = np.linalg.eig(loop(core[0, 0], core[1, 0], core[1, 1], core[0, 1]))
        if np.abs(x.imag).max() > 1e-6:
            return None
        first = x.real
        y = np.stack([np.linalg.solve(first, core[0, j]) for j in range(b)])
        y /= np.linalg.norm(y, axis=2, keepdims=True)
        x_all = np.stack([core[i, 0] @ np.linalg.inv(y[0]) for i in range(b)])
        x_all /= np.linalg.norm(x_all, axis=1, keepdims=True)
        middle = np.stack(
            [
                [
                    np.einsum(
                        "rk,kl,lr->r", np.linalg.inv(x_all[i]), core[i, j], np.linalg.inv(y[j])
                    )
                    for j in range(b)
                ]
                for i in range(b)
            ]
        )
    except np.linalg.LinAlgError:
        return None
    left = np.stack([q[i] @ x_all[i] for i in range(b)])
    right = np.stack([y[j] @ p[j].T for j in range(b)])
    return left, middle, right


def loop(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """a b^-1 c d^-1: of blocks with diagonal middles such products commute."""
    found: np.ndarray = a @ np.linalg.solve(b, c) @ np.linalg.inv(d)
    return found
