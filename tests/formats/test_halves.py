"""2-bit weights whose zero-points are multiples of a half."""

import numpy as np
import pytest

from tilewright.compiler.formats import named
from tilewright.compiler.formats.halves import FORMATS, fit
from tilewright.compiler.formats.inputs import Inputs


def inputs_of(x):
    """What calibration would say of X."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)


def data(k=192, n=48):
    random = np.random.default_rng(3)
    mixed = random.standard_normal((k, k)) / np.sqrt(2 * k) + np.eye(k)
    x = (random.standard_normal((900, k)) @ mixed).astype(np.float32)
    return x, (random.standard_normal((k, n)) * 0.05).astype(np.float32)


def test_a_code_is_worth_its_distance_from_half_of_the_zero_point():
    made = named("w2h-g64")
    _, w = data(130)
    encoded = made.encode(w)
    q, s, z = (encoded[name].astype(np.float64) for name in ("codes", "scales", "zeros"))
    want = [[s[k // 64, n] * (q[k, n] - z[k // 64, n] / 2) for n in range(48)] for k in range(130)]
    np.testing.assert_array_equal(made.decode(encoded), np.float32(want))
    assert encoded["codes"].max() == 3
    assert set(np.unique(encoded["zeros"])) <= set(range(7))
    assert (encoded["zeros"] % 2 == 1).any()
    assert encoded["scales"].dtype == np.float32
    np.testing.assert_array_equal(encoded["scales"].astype(np.float16), encoded["scales"])
    assert made.bytes(130, 48) == 130 * 48 // 4 + 3 * 3 * 48


def test_symmetric_levels_are_met_exactly():
    w = np.float32([[-1.5], [-0.5], [0.5], [1.5]]) * 0.25
    scales, zeros = fit(w, np.ones(4))
    assert (scales[0], zeros[0]) == (0.25, 1.5)
    above = np.float32([[0], [1], [2], [3]]) * 0.25
    scales, zeros = fit(above, np.ones(4))
    assert (scales[0], zeros[0]) == (0.25, 0)


def test_the_fit_is_the_best_of_all_that_are_tried():
    """No zero-point and no share of the range that is tried has less error, by brute force."""
    random = np.random.default_rng(1)
    w = random.standard_normal((64, 5)).astype(np.float32)
    weight = random.uniform(0.1, 1, 64)
    scales, zeros = fit(w, weight)
    codes = np.rint(w / scales + zeros).clip(0, 3)
    own = weight @ ((codes - zeros) * scales - w) ** 2
    for share in np.arange(0.55, 1.01, 0.05):
        for column in range(5):
            c = w[:, column]
            s = np.float32(np.float16(2 * np.abs(c).max() * share / 3))
            q = np.rint(c / s + 1.5).clip(0, 3)
            assert own[column] <= weight @ ((q - 1.5) * s - c) ** 2 * (1 + 1e-5)


@pytest.mark.parametrize("made", FORMATS, ids=lambda f: f.name)
def test_less_error_than_whole_zero_points_in_the_same_bytes(made):
    x, w = data()
    whole = named(made.name.replace("w2h", "w2"))
    assert made.bytes(*w.shape) == whole.bytes(*w.shape)
    seen = inputs_of(x)
    errors = [f.error(w, f.stored.encode(w, seen), seen) for f in (made, whole)]
    assert errors[0] < 0.97 * errors[1]
    assert made.error(w, made.encode(w, seen), seen) < made.error(w, made.encode(w), seen)


def test_columns_of_zeros_stay_zeros():
    made = named("w2h-g64")
    w = np.zeros((130, 3), np.float32)
    np.testing.assert_array_equal(made.decode(made.encode(w)), w)
