"""Rewritten products: the transform is exact, and what it does to the error of rounding."""

import numpy as np
import pytest
from scipy.linalg import hadamard

from tilewright.compiler.formats import named
from tilewright.compiler.formats.activations import Int8, Ranged
from tilewright.compiler.formats.hadamard import rotated
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.migration import factors, fixed_factors

NAMES = ("w8a8-smooth", "w8a8-h64", "w8a8-static")


def inputs_of(x):
    """What calibration would say of X."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)


def data(rows=300, k=128, n=40):
    """X with a few channels that are far greater than the others, and W."""
    random = np.random.default_rng(7)
    x = random.standard_normal((rows, k)).astype(np.float32)
    x[:, ::31] *= 30
    return x, (random.standard_normal((k, n)) * 0.05).astype(np.float32)


def relative(name, x, w, held):
    made = named(name)
    encoded = made.encode(w, inputs_of(x))
    exact = held.astype(np.float64) @ w
    return np.linalg.norm(made.multiply(held, encoded) - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("block", [1, 2, 16, 64])
def test_a_rotation_is_the_product_with_a_hadamard_matrix_and_its_own_inverse(block):
    x = np.random.default_rng(0).standard_normal((5, 128))
    matrix = np.kron(np.eye(128 // block), hadamard(block))
    np.testing.assert_allclose(rotated(x, block), x @ matrix, 1e-13, 1e-13)
    np.testing.assert_allclose(rotated(rotated(x, block), block), block * x, 1e-13, 1e-13)
    assert rotated(x.astype(np.float32), block).dtype == np.float32


@pytest.mark.parametrize("block", [1, 64])
def test_without_rounding_the_rewritten_product_is_the_product(block):
    """(X A) (A^-1 W) in float64, A = diag(m) diag(H, .., H)."""
    x, w = (a.astype(np.float64) for a in data())
    m = factors(w.astype(np.float32), inputs_of(x.astype(np.float32)), block).astype(np.float64)
    left = rotated(x * m, block)
    right = rotated(np.ascontiguousarray((w / m[:, None]).T), block).T / block
    np.testing.assert_allclose(left @ right, x @ w, 1e-9, 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_times_what_is_stored_is_what_kernels_compute(name):
    x, w = data()
    made = named(name)
    encoded = made.encode(w, inputs_of(x))
    product = made.read(x, encoded) @ made.decode(encoded).astype(np.float64)
    scale = np.abs(product).max()
    np.testing.assert_allclose(made.multiply(x, encoded), product, 1e-4, 1e-5 * scale)
    inputs = inputs_of(x)
    off = np.linalg.norm(product - x.astype(np.float64) @ w)
    assert made.error(w, encoded, inputs) == pytest.approx(off, rel=1e-3)


def test_outlying_channels_cost_rewritten_products_less():
    x, w = data()
    held = data(rows=500)[0][300:]
    plain = relative("w8a8-sym", x, w, held)
    assert relative("w8a8-smooth", x, w, held) < 0.8 * plain
    assert relative("w8a8-h64", x, w, held) < 0.6 * plain


def test_no_factors_where_none_lower_the_error():
    """Channels alike: every row's greatest value is as likely in one as in another."""
    x = np.sign(np.random.default_rng(1).standard_normal((200, 64))).astype(np.float32)
    w = np.sign(np.random.default_rng(2).standard_normal((64, 8))).astype(np.float32)
    np.testing.assert_array_equal(factors(w, inputs_of(x)), 1)


def test_factors_depend_on_nothing_but_the_inputs_and_survive_zeros():
    x, w = data()
    inputs = inputs_of(x)
    np.testing.assert_array_equal(factors(w, inputs, 64), factors(w, inputs, 64))
    for made in (factors(w, inputs_of(0 * x)), fixed_factors(w, inputs_of(0 * x))):
        np.testing.assert_array_equal(made, 1)
    x[:, 5] = 0
    few = factors(w, inputs_of(x))
    assert np.isfinite(few).all()
    assert few.max() / few.min() < 1e4  # a channel that wakes up must not decide the scale


def test_fixed_steps_bring_what_calibration_saw_to_the_codes():
    x, w = data()
    m = fixed_factors(w, inputs_of(x))
    assert np.abs(x * m).max() * 1.001 >= 127
    assert np.abs(x * m).max() <= 2 * 127 * 1.001
    codes = np.rint(x * m).clip(-128, 127)
    encoded = named("w8a8-static").encode(w, inputs_of(x))
    stored = (encoded["codes"].astype(np.int64) - 128) * encoded["scales"].astype(np.float64)
    np.testing.assert_allclose(
        named("w8a8-static").multiply(x, encoded), codes @ stored, 1e-6, 1e-6
    )


def test_fixed_steps_cut_off_only_what_costs_less_than_it_brings():
    """Against the error on the rows themselves of steps that cut nothing off."""
    x, w = data()
    x = np.sign(x) * np.abs(x) ** 2  # long tails
    inputs, exact = inputs_of(x), x.astype(np.float64) @ w

    def error(m):
        stored = np.rint((x * m).clip(-127, 127)) / m
        return np.linalg.norm(stored @ w - exact)

    found = fixed_factors(w, inputs)
    whole = found * np.float32(127 / np.abs(x * found).max())
    assert error(found) <= 1.02 * error(whole)


def test_codes_between_the_ends_of_a_row_halve_the_error_of_one_sided_values():
    x = np.maximum(np.random.default_rng(3).standard_normal((50, 200)), -0.17).astype(np.float32)
    off = [np.linalg.norm(reads.read(x) - x) for reads in (Int8(), Ranged())]
    assert off[1] < 0.6 * off[0]
    codes, scales, middles = Ranged().quantize(x)
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all()
    assert np.abs(codes * scales.astype(np.float64) + middles - x).max() <= 0.501 * scales.max()


def test_rows_of_one_value_are_kept():
    x = np.array([[3.5] * 9, [0.0] * 9, [-1e-40] * 9], np.float32)
    codes, scales, middles = Ranged().quantize(x)
    np.testing.assert_array_equal(codes, 0)
    np.testing.assert_array_equal(scales, 0)
    np.testing.assert_array_equal(middles[:2, 0], [3.5, 0])
