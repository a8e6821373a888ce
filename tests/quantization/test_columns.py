"""Errors by some columns of the weights, beside those of all."""

import numpy as np
import pytest

from tilewright.compiler.formats import Inputs, formats, named
from tilewright.passes.quantization.columns import COLUMNS, Columns


def inputs(k, rows=700, fitted=500):
    random = np.random.default_rng(7)
    mixed = random.standard_normal((k, k)) * 0.05 + np.eye(k)
    x = (random.standard_normal((rows, k)) @ mixed * np.exp(random.standard_normal(k))).astype("f4")
    gram = x[:fitted].T.astype(np.float64) @ x[:fitted]
    return Inputs(gram, fitted, rows, np.abs(x).max(axis=0), x[fitted:])


@pytest.mark.parametrize("name", sorted(formats()))
def test_some_columns_say_what_all_make(name):
    random = np.random.default_rng(8)
    k, n = 160, 700
    sizes = np.exp(random.standard_normal(n))
    w = (random.standard_normal((k, n)) * 0.05 * sizes).astype(np.float32)
    made, x = named(name), inputs(k)
    if not made.supports(k, n):
        pytest.skip("the format has no such matrices")
    guess = Columns.of(w, x).error(made) if made.columnwise else made.foreseen(w, x, {})
    real = made.error(w, made.encode(w, x), x)
    far = 1.4 if name.startswith("glvq") else 1.25  # fewer columns share a fitted basis
    if "+r" in name:
        far = 2.0  # a correction takes the few columns whose weights, and errors, are large
    if name.startswith("m4r"):
        far = 2.0  # how far blocks make up for each other depends on the inputs
    assert real / far < guess < real * far


def test_columns_of_all_sizes_are_tried():
    w = np.tile(np.arange(1, 1001, dtype=np.float32), (96, 1))
    some = Columns.of(w, inputs(96))
    assert some.weights.shape == (96, COLUMNS)
    assert some.share == 1000 / COLUMNS
    np.testing.assert_allclose(np.diff(some.weights[0]), 1000 / COLUMNS, atol=1)
