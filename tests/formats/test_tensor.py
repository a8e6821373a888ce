"""One step and zero point for a whole tensor of activations, beside 8-bit weights."""

import numpy as np
import pytest

from tilewright.compiler.formats import named
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.tensor import fitted, ranged

NAME = "w8a8-tensor"


def inputs_of(x):
    """What calibration would say of X."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)


@pytest.mark.parametrize("ends", [(0.0, 3.0), (-2.0, 0.0), (-1.0, 5.0), (-7.0, 0.5), (0.0, 1e-20)])
def test_a_range_is_read_within_half_a_step_and_zero_exactly(ends):
    low, high = ends
    codes = ranged(low, high)
    assert codes.step == pytest.approx((high - low) / 255, rel=1e-6)
    x = np.linspace(low, high, 1001, dtype=np.float32)[None]
    # The zero point is a whole code: one end may lie up to half a step further out.
    assert np.abs(codes.read(x) - x).max() <= 1.001 * float(codes.step)
    inner = x[(x > low + codes.step) & (x < high - codes.step)]
    assert np.abs(codes.read(inner) - inner).max() <= 0.5001 * float(codes.step)
    assert codes.read(np.zeros((1, 1))).item() == 0.0
    assert codes.codes(np.float32([[-1e30, 1e30]])).tolist() == [[-128, 127]]


def test_values_of_one_sign_have_steps_half_as_long():
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 16)).astype(np.float32)
    both, above = fitted(inputs_of(x)), fitted(inputs_of(np.maximum(x, 0)))
    assert above.zero == -128
    assert abs(both.zero) < 20
    assert above.step < 0.6 * both.step


def test_rare_great_values_are_cut_off():
    x = np.random.default_rng(0).uniform(0, 1, (512, 64)).astype(np.float32)
    x[0, 0] = 1.3
    cut, whole = fitted(inputs_of(x)), ranged(0, 1.3)
    assert cut.step < whole.step
    assert np.sum((cut.read(x) - x) ** 2) < np.sum((whole.read(x) - x) ** 2)


def test_what_the_sample_lacks_is_not_cut_off():
    """Values of 3 standard deviations are rare, and make most of the error where they are cut."""
    random = np.random.default_rng(0)
    every = random.standard_normal((20000, 8)).astype(np.float32)
    few = Inputs(every.T @ every, len(every), len(every), np.abs(every).max(axis=0), every[:40])
    others = random.standard_normal((20000, 8)).astype(np.float32)
    codes = fitted(few)
    assert every[:40].max() < 3.5 < 127 * float(codes.step)
    off = np.sqrt(np.mean((codes.read(others) - others) ** 2))
    assert off < 1.1 * float(codes.step) / np.sqrt(12)


def test_what_is_read_times_what_is_stored_is_the_integer_product():
    random = np.random.default_rng(1)
    x = np.maximum(random.standard_normal((50, 72)), -0.3).astype(np.float32)
    w = random.standard_normal((72, 9)).astype(np.float32)
    made = named(NAME)
    encoded = made.encode(w, inputs_of(x))
    step, zero = float(encoded["step"][0]), int(encoded["zero"][0])
    inverse = np.float32(1) / encoded["step"]
    codes = np.rint((x * inverse + np.float32(zero)).clip(-128, 127)).astype(np.int64)
    sums = (codes - zero) @ (encoded["codes"].astype(np.int64) - 128)
    want = sums * step * encoded["scales"].astype(np.float64)
    np.testing.assert_allclose(made.multiply(x, encoded), want, 1e-6, 1e-6)
    exact = x.astype(np.float64) @ w
    assert np.linalg.norm(want - exact) < 0.012 * np.linalg.norm(exact)
    assert made.calibrated
    assert made.bytes(72, 9) == 72 * 9 + 4 * 9 + 8


def test_without_calibration_a_usual_range_is_read():
    encoded = named(NAME).encode(np.ones((4, 2), np.float32))
    assert float(encoded["step"][0]) == pytest.approx(16 / 255)
    assert encoded["zero"].dtype == np.int32
