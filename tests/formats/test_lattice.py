"""Weights on lattices: Babai's rounding, bases, and the product that is folded."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.compiler.formats import Encoded, Inputs, formats, named
from tilewright.compiler.formats.lattice import SIZE, Lattice, folded, turned


def inputs(k: int, rows: int = 600) -> Inputs:
    rng = np.random.default_rng(k)
    mixed = rng.standard_normal((k, k)) / np.sqrt(4 * k) + np.eye(k)
    x = (rng.standard_normal((2 * rows, k)) @ mixed).astype(np.float32)
    fitted = x[:rows].astype(np.float64)
    return Inputs(fitted.T @ fitted, rows, 2 * rows, np.abs(x).max(axis=0), x[rows:])


def weights(k: int, n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((k, n)).astype(np.float32) / 16


@pytest.fixture
def skewed() -> Encoded:
    rng = np.random.default_rng(0)
    return Encoded(
        (160, 20),
        {
            "codes": rng.integers(0, 4, (160, 20)).astype(np.uint8),
            "scales": rng.random((2, 20)).astype(np.float16).astype(np.float32),
            "bases": (np.eye(SIZE) + rng.standard_normal((2, SIZE, SIZE)) / 4).astype(np.float32),
        },
    )


def test_decoding_is_the_formula(skewed: Encoded) -> None:
    found = Lattice(2).decode(skewed)
    for first in range(0, 160, SIZE):
        g = first // 128
        z = skewed["codes"][first : first + SIZE] - 1.5
        expected = skewed["scales"][g] * (skewed["bases"][g] @ z)
        np.testing.assert_allclose(found[first : first + SIZE], expected, atol=1e-5)


def test_the_folded_product_is_that_of_the_decoded_weights(skewed: Encoded) -> None:
    x = np.random.default_rng(1).standard_normal((7, 160))
    fold = folded(x, skewed["bases"].astype(np.float64)) @ Lattice(2)._steps(skewed)
    plain = x @ Lattice(2).decode(skewed).astype(np.float64)
    np.testing.assert_allclose(fold, plain, rtol=1e-5, atol=1e-5)
    # Rounding in between is that of bf16.
    rounded = Lattice(2).product(x.astype(np.float32), skewed)
    assert np.linalg.norm(rounded - plain) < 4e-3 * np.linalg.norm(plain)
    read = Lattice(2).multiply(x.astype(np.float32), skewed)
    np.testing.assert_allclose(read, rounded, rtol=1e-4, atol=1e-4)


def test_a_cubic_lattice_is_uniform_rounding() -> None:
    w = weights(256, 30)
    made = Lattice(2)
    encoded = made.encode(w)
    np.testing.assert_array_equal(encoded["bases"], np.tile(np.eye(SIZE), (2, 1, 1)))
    steps = np.repeat(encoded["scales"], 128, axis=0)
    nearest = np.clip(np.rint(w / steps + 1.5), 0, 3)
    np.testing.assert_array_equal(encoded["codes"], nearest)


def test_babai_stays_within_half_a_step_of_the_lattice() -> None:
    """Without correlated inputs ||B^-1 (v - B z)||_inf <= 1/2 where nothing is cut."""
    k, n = 160, 40
    w, rng = weights(k, n), np.random.default_rng(2)
    bases = (np.eye(SIZE) + rng.standard_normal((2, SIZE, SIZE)) / 8).astype(np.float32)
    made = Lattice(3)
    # The inputs whose Gram matrix is the identity in the coordinates of the lattice.
    back = turned(np.eye(k, dtype=np.float64), np.linalg.inv(bases.astype(np.float64)))
    seen = Inputs(back.T @ back, k, k, np.ones(k, np.float32), back.astype(np.float32))
    found = made._rounded(w, seen, bases, made._scales(w))
    inside = (found["codes"] > 0) & (found["codes"] < 7)
    off = turned(w - made.decode(found), np.linalg.inv(bases.astype(np.float64)))
    steps = np.repeat(found["scales"], 128, axis=0)[:k]
    assert inside.mean() > 0.7
    assert (np.abs(off) <= 0.52 * steps)[inside].all()


def test_lattices_err_less_than_groups_of_as_many_bits() -> None:
    seen, w = inputs(256), weights(256, 128)
    made, plain = Lattice(2), named("w2-g128")
    error = made.error(w, made.encode(w, seen), seen)
    assert error < 0.97 * plain.error(w, plain.encode(w, seen), seen)
    assert made.bytes(256, 4096) < plain.bytes(256, 4096)


def test_fitted_bases_make_less_error_for_the_same_codes() -> None:
    seen, w = inputs(128 + 32), weights(160, 64)
    made = Lattice(2)
    before = made.encode(w)
    after = Encoded(before.shape, {**before.arrays, "bases": made._fitted(w, before, seen)})

    def error(encoded: Encoded) -> float:
        off = w - made.decode(encoded)
        return float(np.sum(off * (seen.gram @ off)))

    assert error(after) < 0.99 * error(before)


def test_which_matrices_have_lattices() -> None:
    assert {"glvq2-g128", "glvq3-g128"} <= set(formats())
    assert Lattice(2).supports(144, 1)
    assert not Lattice(2).supports(136, 1)
    assert not Lattice(2).supports(128, 1)
    w = weights(144, 3)
    w[:, 1] = 0
    assert (Lattice(2).decode(Lattice(2).encode(w))[:, 1] == 0).all()
