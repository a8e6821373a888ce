"""Filters rounded to bf16 with balanced errors."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bf16_conv.rounding import balanced
from tilewright.backends.kernels.bf16_matmul.packing import round_to_bf16, widen


def test_sums_are_kept_and_errors_hardly_grow() -> None:
    filters = np.random.default_rng(0).standard_normal((8, 576)).astype(np.float32)
    near, kept = widen(round_to_bf16(filters)), balanced(filters)
    np.testing.assert_array_equal(widen(round_to_bf16(kept)), kept)
    sums = [np.abs((x - filters.astype(np.float64)).sum(1)).mean() for x in (near, kept)]
    assert sums[1] < sums[0] / 4
    squares = [np.square(x - filters.astype(np.float64)).sum() for x in (near, kept)]
    assert squares[1] < 1.01 * squares[0]


def test_exact_and_special_values_stay() -> None:
    filters = np.array([[np.inf, -np.inf, np.nan, 0.0, 1.5, -0.375]], np.float32)
    np.testing.assert_array_equal(balanced(filters), filters)
    assert balanced(np.full((1, 1), 3e-41, np.float32)) == 0
