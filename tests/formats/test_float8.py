"""Weights as 8-bit floats."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tilewright.compiler.formats import Inputs, formats, named
from tilewright.compiler.formats.float8 import GREATEST, Float8
from tilewright.compiler.formats.float8_rows import Float8Rows

TYPES = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}


@pytest.mark.parametrize("kind", TYPES)
def test_all_finite_numbers_are_kept(kind: str) -> None:
    numbers = np.arange(256, dtype=np.uint8).view(TYPES[kind]).astype(np.float32)
    numbers = numbers[np.isfinite(numbers)][:, None]
    made = Float8(kind)
    encoded = made.encode(numbers * np.float32(0.25))
    np.testing.assert_array_equal(made.decode(encoded), numbers * np.float32(0.25))
    assert float(np.abs(numbers).max()) == GREATEST[kind]


@pytest.mark.parametrize(("kind", "bits"), [("e4m3", 3), ("e5m2", 2)])
def test_rounding_is_to_nearest(kind: str, bits: int) -> None:
    w = np.random.default_rng(0).standard_normal((200, 7)).astype(np.float32)
    made = Float8(kind)
    encoded = made.encode(w)
    normal = np.abs(w) > encoded["scales"] * 2.0**-6
    off = np.abs(made.decode(encoded) - w) / np.abs(w)
    assert off[normal].max() <= 2.0 ** -(bits + 1) * 1.0001
    assert made.bytes(200, 7) == 200 * 7 + 28


def test_calibration_makes_errors_smaller() -> None:
    rng = np.random.default_rng(1)
    mixed = rng.standard_normal((96, 96)) / 8 + np.eye(96)
    x = (rng.standard_normal((800, 96)) @ mixed).astype(np.float32)
    wide = x[:400].astype(np.float64)
    seen = Inputs(wide.T @ wide, 400, 800, np.abs(x).max(axis=0), x[400:])
    w = rng.standard_normal((96, 40)).astype(np.float32)
    made = Float8("e4m3")
    best = made.error(w, made.encode(w, seen), seen)
    assert best < 0.9 * made.error(w, made.encode(w), seen)


def test_columns_of_zeros_and_tiny_ones() -> None:
    w = np.zeros((40, 3), np.float32)
    w[:, 1] = np.float32(1e-20)
    w[:, 2] = np.float32(3e38)
    made = Float8("e4m3")
    found = made.decode(made.encode(w))
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1:], w[:, 1:], rtol=0.07)


def test_names() -> None:
    assert {"f8e4m3", "f8e5m2"} <= set(formats())
    assert named("f8e4m3a32").activation.exact
    assert named("f8e4m3a32").stored == named("f8e4m3")


def test_rows_are_rounded_with_a_scale_each() -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((40, 64)) * 10.0 ** rng.integers(-6, 7, (40, 1))).astype(np.float32)
    made = named("f8e4m3a8e4m3")
    assert made.activation == Float8Rows()
    off = np.abs(made.activation.read(x) - x)
    largest = np.abs(x).max(axis=1, keepdims=True)
    # Of numbers, and of the steps of the least ones.
    assert (off <= np.maximum(np.abs(x) * 2.0**-4, largest * 2.0**-10 / 448) * 1.0001).all()
    assert (off > np.abs(x) * 2.0**-6).any()
    codes, scales = Float8Rows().quantize(np.array([[0, 0], [1e-39, 0], [-3e38, 3e38]], "f4"))
    np.testing.assert_array_equal(codes.astype("f4"), [[0, 0], [0, 0], [-448, 448]])
    np.testing.assert_array_equal(scales[:, 0], np.float32([0, 0, np.float32(3e38) / 448]))
