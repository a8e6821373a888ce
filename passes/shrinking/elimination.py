"""Which channels of X the others can stand in for in X W, and the weights with which they do.

Leaving out channel j of X [T, K] and changing the other rows of W [K, N] to make up for it as well
as they can adds tr(W_j^T (H_jj)^-1 W_j) to ||X W' - X W||^2, H being the inverse of the Gram matrix
X^T X; W and H of what is left follow in closed form. So channels go one by one, the least first.
That is optimal brain surgery of whole rows (Hassibi and Stork 1993; ZipLM, arXiv 2302.04089); its
result is the least-squares solution of MoDeGPT (2408.09632) and SlimGPT for the channels that stay.
"""

from __future__ import annotations

import numpy as np

DAMP = 1e-5
"""Share of the mean of the Gram matrix's diagonal that is added to it: above the rounding of its
sums. It draws the weights that stay to what they were."""

BATCH = 32
"""Channels go in so many steps, at most: in a step only those are looked at that were least at its
beginning, twice as many as go."""


class Elimination:
    """Channels that are left of a product, and their weights.

    gram: X^T X f64 [K, K], K being taps x C. w: f32 [taps, C, N]. left: numbers of channels that
    are left, in order.
    """

    def __init__(self, gram: np.ndarray, w: np.ndarray, damp: float = DAMP) -> None:
        taps, channels, n = w.shape
        self.taps, self.left = taps, np.arange(channels)
        rows = np.arange(taps * channels).reshape(taps, channels).T.reshape(-1)
        damped = np.array(gram[np.ix_(rows, rows)], np.float64)
        diagonal = np.einsum("kk->k", damped)
        self.scale = float(diagonal.mean()) or 1.0  # squares of f32 values may be beyond range
        damped /= self.scale
        self._inverse = _inverse(damped, damp)
        self._w = w.transpose(1, 0, 2).reshape(-1, n).astype(np.float64)
        self._batch = max(channels // BATCH, 1)

    @property
    def weights(self) -> np.ndarray:
        """Of the channels that are left, f32 [taps, left, N]."""
        found = self._w.reshape(len(self.left), self.taps, -1).transpose(1, 0, 2)
        return np.ascontiguousarray(found, np.float32)

    def drop(self, count: int) -> None:
        """Leave out so many more channels; one stays in any case."""
        count = min(count, len(self.left) - 1)
        while count > 0:
            some = min(count, self._batch)
            self._remove(self._least(some))
            count -= some

    def _scores(self, inverse: np.ndarray, w: np.ndarray) -> np.ndarray:
        """What each channel adds to the squared error, in units of `scale`."""
        t = self.taps
        channels = len(w) // t
        blocks = inverse.reshape(channels, t, channels, t)[range(channels), :, range(channels)]
        own = w.reshape(channels, t, -1)
        return np.asarray((own * np.linalg.solve(blocks, own)).sum(axis=(1, 2)))

    def _least(self, count: int) -> np.ndarray:
        """Places of channels to leave out: one by one, of those that are least now."""
        scores = self._scores(self._inverse, self._w)
        among = np.sort(np.argsort(scores, kind="stable")[: 2 * count])
        rows = self._rows(among)
        inverse, w = self._inverse[np.ix_(rows, rows)], self._w[rows]
        places = among
        gone = []
        for _ in range(count):
            at = int(np.argmin(self._scores(inverse, w)))
            gone.append(places[at])
            places = np.delete(places, at)
            inverse, w = _without(inverse, w, np.arange(at * self.taps, (at + 1) * self.taps))
        return np.sort(np.array(gone))

    def _remove(self, places: np.ndarray) -> None:
        self._inverse, self._w = _without(self._inverse, self._w, self._rows(places))
        self.left = np.delete(self.left, places)

    def _rows(self, places: np.ndarray) -> np.ndarray:
        """Rows of W of channels."""
        rows: np.ndarray = (places[:, None] * self.taps + np.arange(self.taps)).reshape(-1)
        return rows


def _inverse(gram: np.ndarray, damp: float) -> np.ndarray:
    """Of a Gram matrix with `damp` added to its diagonal, whose mean is 1; with more, where its
    sums were rounded so that it is not positive definite."""
    from scipy.linalg import cholesky, lapack

    diagonal = np.einsum("kk->k", gram)
    diagonal += damp
    try:
        lower = cholesky(gram, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        if damp >= 1:
            raise
        return _inverse(gram, 10 * damp)
    below, info = lapack.dpotri(lower, lower=1, overwrite_c=1)
    assert info == 0, "what has a Cholesky factor has an inverse"
    found: np.ndarray = below + np.tril(below, -1).T
    return found


def _without(inverse: np.ndarray, w: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of the Gram matrix without some channels, and the weights that make up for
    them."""
    from scipy.linalg import cho_factor, cho_solve

    others = np.delete(np.arange(len(w)), rows)
    factor = cho_factor(inverse[np.ix_(rows, rows)], check_finite=False)
    across = inverse[np.ix_(others, rows)]
    left = inverse[np.ix_(others, others)] - across @ cho_solve(factor, across.T)
    return left, w[others] - across @ cho_solve(factor, w[rows])
