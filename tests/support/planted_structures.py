"""Matrices with one planted structure each: f32 [K, N], of a seed."""

import numpy as np
from scipy.linalg import hadamard, toeplitz


def gaussian(k, n, seed=0):
    return np.random.default_rng(seed).standard_normal((k, n)).astype(np.float32)


def low_rank(k, n, r, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((k, r)) @ rng.standard_normal((r, n))
    return (w + noise * rng.standard_normal((k, n))).astype(np.float32)


def kronecker(a, b, terms=1, seed=0):
    rng = np.random.default_rng(seed)
    w = sum(np.kron(rng.standard_normal(a), rng.standard_normal(b)) for _ in range(terms))
    return w.astype(np.float32)


def walsh(n, permuted=True, seed=0):
    rng = np.random.default_rng(seed)
    w = hadamard(n).astype(np.float64)
    if permuted:
        w = w[rng.permutation(n)][:, rng.permutation(n)]
        w = w * rng.choice((-1.0, 1.0), n) * rng.uniform(0.5, 2.0, n)[:, None]
    return (w / np.sqrt(n)).astype(np.float32)


def monarch(k, i, l_, j, seed=0):
    """Inputs (k, i), outputs (l_, j): every slice of fixed (j, k) has rank 1."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((k, j, i)), rng.standard_normal((j, k, l_))
    w = np.einsum("jkl,kji->kilj", second, first)
    return w.reshape(k * i, l_ * j).astype(np.float32)


def blast(k, n, b, r, seed=0):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((b, k // b, r)), rng.standard_normal((b, r, n // b))
    w = np.einsum("ikr,ijr,jrn->ikjn", left, rng.standard_normal((b, b, r)), right)
    return w.reshape(k, n).astype(np.float32)


def n_of_m(k, n, kept, group, seed=0):
    rng = np.random.default_rng(seed)
    order = rng.random((k // group, group, n)).argsort(axis=1)
    return gaussian(k, n, seed) * (order < kept).reshape(k, n)


def blocks(k, n, r, c, share, seed=0):
    """Blocks of r outputs x c inputs, `share` of them present."""
    rng = np.random.default_rng(seed)
    present = np.zeros((k // c) * (n // r), bool)
    present[rng.permutation(present.size)[: round(share * present.size)]] = True
    mask = present.reshape(k // c, n // r).repeat(c, axis=0).repeat(r, axis=1)
    return gaussian(k, n, seed) * mask


def diagonals(k, n, seed=0):
    rng = np.random.default_rng(seed)
    return toeplitz(rng.standard_normal(k), rng.standard_normal(n)).astype(np.float32)


def circulant(n, seed=0):
    row = np.random.default_rng(seed).standard_normal(n)
    return np.stack([np.roll(row, i) for i in range(n)]).astype(np.float32)


def quasiseparable(t, lower, upper, seed=0):
    """A diagonal, and a state of `lower` below and `upper` above it, with decays of 0.8 to 0.95."""
    rng = np.random.default_rng(seed)
    w = np.diag(rng.standard_normal(t))
    for rank, turned in ((lower, False), (upper, True)):
        into, out = rng.standard_normal((t, rank)), rng.standard_normal((t, rank))
        decay = rng.uniform(0.8, 0.95, rank)
        state, side = np.zeros((rank, t)), np.zeros((t, t))
        for i in range(t):
            side[i] = out[i] @ state
            state = decay[:, None] * state
            state[:, i] = into[i]
        w += side.T if turned else side
    return w.astype(np.float32)


def sparse(k, n, density, seed=0):
    mask = np.random.default_rng(seed + 1).random((k, n)) < density
    return gaussian(k, n, seed) * mask


def block_diagonal(shapes, permuted=True, seed=0):
    rng = np.random.default_rng(seed)
    k, n = (sum(s[axis] for s in shapes) for axis in (0, 1))
    w, i, j = np.zeros((k, n), np.float32), 0, 0
    for height, width in shapes:
        w[i : i + height, j : j + width] = rng.standard_normal((height, width))
        i, j = i + height, j + width
    return w[rng.permutation(k)][:, rng.permutation(n)] if permuted else w
