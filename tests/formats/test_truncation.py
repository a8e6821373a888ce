"""Low rank by the error of outputs: against closed forms, other methods, and random search."""

import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular

from tilewright.compiler.formats.selected_rows import curing, deim, interpolative
from tilewright.compiler.formats.truncation import Factors, refitted, spectrum, truncated

SHAPES = ((24, 17), (17, 24), (20, 20), (1, 9), (9, 1), (1, 1))


def data(k, n, rows=200, seed=0):
    """X with channels that are correlated and of different sizes, and W."""
    random = np.random.default_rng([k, n, seed])
    mixed = random.standard_normal((k, k)) * np.exp(random.standard_normal(k))
    return random.standard_normal((rows, k)) @ mixed, random.standard_normal((k, n))


def off(x, w, factors):
    return float(np.linalg.norm(x @ (factors.product - w)))


@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_the_error_is_that_of_the_directions_that_are_left_out(k, n):
    x, w = data(k, n)
    gram, found = x.T @ x, spectrum(w, x.T @ x)
    whole = np.linalg.norm(x @ w)
    assert found.basis.shape == (n, min(k, n))
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(min(k, n)), atol=1e-12)
    values = np.linalg.svd(x @ w, compute_uv=False)[: min(k, n)]
    np.testing.assert_allclose(found.energies, values**2, atol=1e-10 * whole**2)
    for rank in range(1, min(k, n) + 1):
        factors = truncated(w, rank, gram)
        assert factors.left.shape == (k, rank)
        assert factors.right.shape == (rank, n)
        assert off(x, w, factors) == pytest.approx(found.tail(rank), abs=1e-7 * whole)
    assert off(x, w, truncated(w, min(k, n) + 5, gram)) < 1e-7 * whole


@pytest.mark.parametrize(("k", "n"), [(24, 17), (17, 24)])
def test_it_is_the_optimum_of_whitening_by_a_cholesky_factor(k, n):
    """SVD-LLM: W' = L^-T (L^T W)_r with X^T X = L L^T."""
    x, w = data(k, n)
    lower = cholesky(x.T @ x, lower=True)
    u, s, v = np.linalg.svd(lower.T @ w, full_matrices=False)
    for rank in (1, 5, 11):
        white = solve_triangular(lower.T, (u[:, :rank] * s[:rank]) @ v[:rank])
        np.testing.assert_allclose(truncated(w, rank, x.T @ x).product, white, rtol=1e-7, atol=1e-8)


def test_nothing_of_that_rank_errs_less():
    """Neither random factors, nor any near it, nor other methods, nor alternating least squares
    from random starts."""
    x, w = data(12, 10)
    gram, rank = x.T @ x, 3
    best = truncated(w, rank, gram)
    least = off(x, w, best)
    random = np.random.default_rng(1)
    for trial in range(300):
        left, right = random.standard_normal((12, rank)), random.standard_normal((rank, 10))
        if trial % 2:
            size = 10.0 ** -random.integers(1, 7)
            left, right = best.left + size * left, best.right + size * right
        assert off(x, w, Factors(left, refitted(w, Factors(left, right), gram))) >= least * (
            1 - 1e-9
        )
        assert off(x, w, Factors(left, right)) >= least * (1 - 1e-9)
    others = (
        truncated(w, rank),
        curing(w, rank, np.diag(gram), gram),
        interpolative(w, rank, gram),
    )
    assert all(off(x, w, other) > 1.001 * least for other in others)
    left = random.standard_normal((12, rank))
    for _ in range(200):
        right = np.linalg.lstsq(x @ left, x @ w, rcond=None)[0]
        left = w @ np.linalg.pinv(right)
    assert off(x, w, Factors(left, right)) == pytest.approx(least, rel=1e-6)


def test_inputs_in_a_subspace_make_any_weights_exact_at_its_dimension():
    """Weights of full rank: what a decomposition of weights alone cannot see."""
    for k, n in ((80, 60), (60, 80)):
        random = np.random.default_rng(k)
        x = random.standard_normal((300, 7)) @ random.standard_normal((7, k))
        w = random.standard_normal((k, n))
        whole = np.linalg.norm(x @ w)
        gram = x.T @ x
        assert off(x, w, truncated(w, 7, gram)) <= 1e-6 * whole
        assert off(x, w, interpolative(w, 7, gram)) <= 1e-6 * whole
        assert off(x, w, truncated(w, 6, gram)) > 0.05 * whole
        assert off(x, w, truncated(w, 7)) > 0.5 * whole
        # More rank than inputs have goes to the weights, and costs nothing.
        more = truncated(w, 20, gram)
        assert off(x, w, more) <= 1e-6 * whole
        assert np.linalg.norm(more.product - w) < np.linalg.norm(truncated(w, 7, gram).product - w)


def test_without_any_inputs_it_is_the_plain_decomposition():
    _, w = data(9, 12)
    u, s, v = np.linalg.svd(w)
    plain = (u[:, :4] * s[:4]) @ v[:4]
    for gram in (None, np.eye(9), np.zeros((9, 9))):
        np.testing.assert_allclose(truncated(w, 4, gram).product, plain, atol=1e-9)


def test_weights_of_fisher_information():
    """FWSVD: D W = U S V^T with D the root of the rows' importance; the error is that of S."""
    _, w = data(9, 12)
    importance = np.random.default_rng(5).uniform(0.1, 4, 9)
    weighted = np.sqrt(importance)[:, None] * w
    u, s, v = np.linalg.svd(weighted, full_matrices=False)
    expected = (u[:, :3] * s[:3]) @ v[:3] / np.sqrt(importance)[:, None]
    found = truncated(w, 3, np.diag(importance)).product
    np.testing.assert_allclose(found, expected, atol=1e-9)
    left = np.sqrt(importance)[:, None] * (found - w)
    assert np.sum(left**2) == pytest.approx(np.sum(s[3:] ** 2))


def test_zeros_and_sizes_beyond_the_squares_of_floats():
    assert np.all(truncated(np.zeros((5, 4)), 2, np.eye(5)).product == 0)
    x, w = data(8, 6)
    for size in (1e-30, 1e30):
        found = truncated(w * size, 2, x.T @ x)
        assert off(x, w * size, found) == pytest.approx(size * off(x, w, truncated(w, 2, x.T @ x)))
    with pytest.raises(ValueError, match="rank 0: expected at least 1"):
        truncated(w, 0)


def test_a_right_factor_that_is_fitted_again_makes_up_for_a_rounded_left_one():
    x, w = data(30, 20)
    gram = x.T @ x
    best = truncated(w, 6, gram)
    rough = Factors(np.round(best.left, 1), best.right)
    fitted = Factors(rough.left, refitted(w, rough, gram))
    assert off(x, w, best) <= off(x, w, fitted) < off(x, w, rough)
    slope = (x @ fitted.left).T @ (x @ (fitted.product - w))  # no right factor is better
    assert np.abs(slope).max() < 1e-7 * np.linalg.norm(x @ fitted.left) * np.linalg.norm(x @ w)
    np.testing.assert_allclose(refitted(w, best, gram), best.right, atol=1e-7)


@pytest.mark.parametrize(("k", "n"), [(24, 17), (17, 24)])
def test_rows_and_columns_of_a_matrix_of_that_rank_are_all_of_it(k, n):
    random = np.random.default_rng(3)
    w = random.standard_normal((k, 5)) @ random.standard_normal((5, n))
    x, _ = data(k, n)
    for found in (
        curing(w, 5),
        curing(w, 5, np.diag(x.T @ x)),
        curing(w, 5, np.diag(x.T @ x), x.T @ x),
        interpolative(w, 5),
        interpolative(w, 5, x.T @ x),
    ):
        np.testing.assert_allclose(found.product, w, atol=1e-6)


def test_the_factors_of_a_selection_are_parts_of_the_matrix():
    x, w = data(24, 17)
    found = curing(w, 6, np.diag(x.T @ x))
    assert {tuple(row) for row in found.right} <= {tuple(row) for row in w}
    columns = interpolative(w, 6)
    assert {tuple(c) for c in columns.left.T} <= {tuple(c) for c in w.T}
    identity = [np.flatnonzero((columns.right == np.eye(6)[:, [i]]).all(axis=0)) for i in range(6)]
    assert all(len(found) == 1 for found in identity)
    # The best for these rows and columns: nothing of what is left lies in both.
    rights = np.linalg.svd(w)[2][:6]
    columns = w[:, deim(rights.T)]
    taken = curing(w, 6)
    assert np.abs(columns.T @ (taken.product - w) @ taken.right.T).max() < 1e-9


def test_interpolation_points_are_where_the_next_vector_is_worst_interpolated():
    basis = np.linalg.qr(np.random.default_rng(2).standard_normal((30, 5)))[0]
    rows = deim(basis)
    assert len(set(rows)) == 5
    for i in range(5):
        chosen = list(rows[:i])
        fit = np.linalg.pinv(basis[chosen, :i]) @ basis[chosen, i] if i else np.zeros(0)
        left = np.abs(basis[:, i] - basis[:, :i] @ fit)
        assert left[rows[i]] == pytest.approx(left.max())
