"""What calibration saw of a contraction's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DAMP = 0.01
"""Share of the mean of the Gram matrix's diagonal that is added to it, as in GPTQ."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Statistics of X [T, K] over all calibration samples.

    rows: T. gram: X^T X over those rows by which weights are rounded, `fitted` of them, f64 [K, K].
    sample: some of the other rows, f32 [S, K], evenly chosen, by which errors are judged: on the
    rows that a rounding was fitted to it looks better than it is. absmax: greatest magnitude of
    each channel, f32 [K]. put_away: lets go of the memory of `gram` where it is in a file. fisher:
    Fisher information of what each channel is multiplied with, f64 [K], where the user gave it.
    """

    gram: np.ndarray
    fitted: int
    rows: int
    absmax: np.ndarray
    sample: np.ndarray
    put_away: Callable[[], None] | None = None
    fisher: np.ndarray | None = None

    @property
    def importance(self) -> np.ndarray:
        """Mean of x^2 of each channel, f64 [K]."""
        found: np.ndarray = np.diag(self.gram) / max(self.fitted, 1)
        return found

    @property
    def metric(self) -> np.ndarray:
        """What low rank weighs errors of channels by, f64 [K, K]: the Gram matrix; where Fisher
        information is given, that as a diagonal matrix (FWSVD, arXiv 2207.00112)."""
        return self.gram if self.fisher is None else np.diag(self.fisher)

    @cached_property
    def factor(self) -> np.ndarray:
        """Upper Cholesky factor of the inverse of the damped Gram matrix, f32 [K, K], channels in
        falling order of energy (`order`).

        Damping keeps the condition number below K / DAMP, for which f32 is enough. As large as the
        Gram matrix: `release` gives it back. Frantar et al., GPTQ, arXiv 2210.17323.
        """
        from scipy.linalg import cholesky, lapack

        # With channels reversed the Gram matrix is L L^T, so L^-1, reversed again, is the factor.
        back = self.order[::-1]
        damped = self.gram[np.ix_(back, back)]
        diagonal = np.einsum("kk->k", damped)
        diagonal[diagonal == 0] = 1.0
        diagonal += DAMP * diagonal.mean()
        scale = diagonal.mean()  # numbers near 1: squares of f32 values may be beyond f32
        gram = (damped / scale).astype(np.float32)
        del damped
        lower = cholesky(gram.T, lower=True, overwrite_a=True, check_finite=False)
        inverse, info = lapack.strtri(lower, lower=1, overwrite_c=1)
        assert info == 0, "the damped Gram matrix is positive definite"
        found: np.ndarray = np.ascontiguousarray(inverse[::-1, ::-1])
        return found

    @cached_property
    def in_order(self) -> np.ndarray:
        """`factor` with channels as they come, for patterns of neighbours."""
        return inverse_factor(self.gram)

    def release(self) -> None:
        """Give back the memory of `factor`, `in_order` and `gram`, which come again when they are
        asked for."""
        self.__dict__.pop("factor", None)
        self.__dict__.pop("in_order", None)
        if self.put_away is not None:
            self.put_away()

    @cached_property
    def order(self) -> np.ndarray:
        """Channels in falling order of energy: those are rounded first, so that the others can
        make up for their errors ("act-order")."""
        return np.argsort(-np.diag(self.gram), kind="stable")


def inverse_factor(gram: np.ndarray, damp: float = DAMP) -> np.ndarray:
    """U, upper triangular, f32 [K, K], with U^T U the inverse of the damped Gram matrix, channels
    as they come. Those that were always 0 get 1 on the diagonal."""
    from scipy.linalg import cholesky, lapack

    back = np.array(gram[::-1, ::-1], np.float64)
    diagonal = np.einsum("kk->k", back)
    diagonal[diagonal == 0] = 1.0
    diagonal += damp * diagonal.mean()
    scale = diagonal.mean()
    # Backwards the Gram matrix is L L^T, so L^-1, backwards again, is the factor.
    kind = np.float64 if damp < DAMP else np.float32
    lower = cholesky((back / scale).astype(kind), lower=True, check_finite=False)
    invert = lapack.dtrtri if kind is np.float64 else lapack.strtri
    inverse, info = invert(lower, lower=1)
    assert info == 0, "the damped Gram matrix is positive definite"
    found: np.ndarray = np.ascontiguousarray(inverse[::-1, ::-1] / np.sqrt(scale))
    return found
