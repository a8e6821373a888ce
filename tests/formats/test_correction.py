"""Scales fitted to codes, against a direct least squares fit."""

import numpy as np
import pytest

from tilewright.compiler.formats import named
from tilewright.compiler.formats.correction import corrected
from tilewright.compiler.formats.gptq import gptq
from tilewright.compiler.formats.grids import fit
from tilewright.compiler.formats.inputs import DAMP, Inputs
from tilewright.compiler.formats.integers import nearest


def data(k, n=6, rows=400):
    random = np.random.default_rng(11)
    x = (
        random.standard_normal((rows, k)) @ (np.eye(k) + 0.2 * random.standard_normal((k, k)))
    ).astype(np.float32)
    w = (random.standard_normal((k, n)) * 0.1).astype(np.float32)
    return x, w, x.astype(np.float64).T @ x


@pytest.mark.parametrize(("k", "size"), [(96, 32), (80, 32), (50, 50)])
def test_scales_are_those_of_the_least_squares_fit(k, size):
    """Of the rows of X and, for what damping adds, of rows of its root's."""
    x, w, gram = data(k)
    random = np.random.default_rng(12)
    count = -(-k // size)
    steps = random.integers(-7, 8, w.shape).astype(np.float32)
    w = (steps * 0.03 + w * 0.3).astype(np.float32)
    scales = np.full((count, w.shape[1]), 0.05, np.float32)
    found = corrected(w, steps, scales, size, gram, lambda s: s)
    damped = np.concatenate([x, np.eye(k) * np.sqrt(DAMP * np.mean(np.diag(gram)))])
    for column in range(w.shape[1]):
        parts = np.zeros((k, count))
        for g in range(count):
            parts[g * size : (g + 1) * size, g] = steps[g * size : (g + 1) * size, column]
        wanted = np.linalg.lstsq(damped @ parts, damped @ w[:, column], rcond=None)[0]
        np.testing.assert_allclose(found[:, column], wanted, 2e-4)


def test_columns_keep_scales_that_are_no_worse():
    _, w, gram = data(64)
    steps = np.zeros_like(w)
    scales = np.full((2, w.shape[1]), 0.25, np.float32)
    np.testing.assert_array_equal(corrected(w, steps, scales, 32, gram, lambda s: s), scales)
    steps = np.rint(w * 40).astype(np.float32)
    coarse = corrected(w, steps, scales, 32, gram, lambda s: np.full_like(s, 100))
    np.testing.assert_array_equal(coarse, scales)


@pytest.mark.parametrize("name", ["w2-g64", "w3-g64", "w4-g64"])
def test_encoding_is_no_worse_than_gptq_alone(name):
    x, w, gram = data(192, n=40)
    inputs = Inputs(gram, len(x), len(x), np.abs(x).max(axis=0), x)
    made = named(name)
    grids = [
        fit(w[i : i + 64], made.bits, False, True, inputs.importance[i : i + 64] + 1e-12)
        for i in range(0, 192, 64)
    ]
    alone = gptq(w, inputs, nearest(grids, 64))
    values = np.concatenate([grids[i].values(alone[64 * i : 64 * i + 64]) for i in range(3)])
    exact = x.astype(np.float64) @ w
    off = [
        np.linalg.norm(x @ stored.astype(np.float64) - exact)
        for stored in (values, made.decode(made.encode(w, inputs)))
    ]
    assert off[1] < 0.997 * off[0]
