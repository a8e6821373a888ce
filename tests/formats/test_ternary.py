"""Ternary weights: exact where they are so, and what rounding them promises."""

import numpy as np
import pytest

from tilewright.compiler.formats import named
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.ternary import Ternary, fit, is_ternary

MADE = named("t158")


def ternary(k=200, n=30, seed=0):
    """Ternary weights, one scale a column."""
    random = np.random.default_rng(seed)
    scales = random.uniform(0.001, 10, n).astype(np.float32)
    return (random.integers(-1, 2, (k, n)) * scales).astype(np.float32)


def data(rows=500, k=96, n=20):
    """Correlated inputs, weights, and the inputs' statistics."""
    random = np.random.default_rng(0)
    mixed = random.standard_normal((rows, k)) @ (random.standard_normal((k, k)) / 4 + np.eye(k))
    x = mixed.astype(np.float32)
    w = (random.standard_normal((k, n)) * 0.05).astype(np.float32)
    wide = x.astype(np.float64)
    return w, Inputs(wide.T @ wide, rows, rows, np.abs(x).max(axis=0), x[::3])


def test_the_name_and_the_bytes():
    assert isinstance(MADE, Ternary)
    assert MADE.activation.name == "a8"
    assert MADE.bytes(900, 10) == 100 * 2 * 10 + 40


@pytest.mark.parametrize("energy", [np.ones(200), np.geomspace(1e-6, 1e6, 200)])
def test_ternary_weights_are_kept(energy):
    w = ternary()
    w[:, 3] = 0
    w[1:, 4] = 0
    assert is_ternary(w)
    np.testing.assert_array_equal(MADE.decode(MADE.encode(w)), w)
    np.testing.assert_array_equal(fit(w, energy), np.abs(w).max(axis=0))
    x = np.random.default_rng(1).standard_normal((300, 200)).astype(np.float32)
    inputs = Inputs(x.astype(np.float64).T @ x, 300, 300, np.abs(x).max(axis=0), x)
    np.testing.assert_array_equal(MADE.decode(MADE.encode(w, inputs)), w)


def test_what_is_ternary():
    w = ternary()
    for change in (0.123, np.nan, np.inf):
        other = w.copy()
        other[150, 2] = change
        assert not is_ternary(other)
    assert is_ternary(np.sign(ternary()))
    assert not is_ternary(np.zeros((0, 4), np.float32))
    assert not is_ternary(np.random.default_rng(0).standard_normal((64, 4)))


def test_scales_and_codes_are_the_best_for_each_other():
    w = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float32)
    encoded = MADE.encode(w)
    signs, scales = encoded["codes"].astype(np.float32) - 1, encoded["scales"]
    nearest = np.abs(w[None] - np.array([-1, 0, 1])[:, None, None] * scales).min(axis=0)
    np.testing.assert_allclose(np.abs(w - signs * scales), nearest, atol=1e-6)
    best = (w * signs).sum(axis=0) / np.abs(signs).sum(axis=0)
    np.testing.assert_allclose(scales, best, 0.02)
    # The ternary quantizer of least error for normal weights leaves 0.19 of their energy.
    assert np.square(w - MADE.decode(encoded)).sum() < 0.2 * np.square(w).sum()


def test_calibration_lowers_the_error():
    w, inputs = data()
    found = MADE.error(w, MADE.encode(w, inputs), inputs)
    assert found < 0.9 * MADE.error(w, MADE.encode(w), inputs)


def test_weights_that_are_not_finite_are_refused():
    w = ternary()
    w[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinite or NaN"):
        MADE.encode(w)
