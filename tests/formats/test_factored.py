"""Formats of two factors: round trips, errors against direct computations, what they are for."""

import numpy as np
import pytest

from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.factored import FORMATS, PARTS, RANKS, Factored, joined, parts
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.truncation import truncated

K, N = 160, 120


def inputs_of(x):
    """What calibration would say of X."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)


def data(k=K, n=N, rows=600):
    """X with correlated channels whose energies fall, as those of models do, and W."""
    random = np.random.default_rng(3)
    turn = np.linalg.qr(random.standard_normal((k, k)))[0]
    x = random.standard_normal((rows, k)) * np.exp(-np.arange(k) / 25) @ turn
    return x.astype(np.float32), random.standard_normal((k, n)).astype(np.float32)


def relative(made, x, w, encoded):
    exact = x.astype(np.float64) @ w
    return np.linalg.norm(made.multiply(x, encoded) - exact) / np.linalg.norm(exact)


def test_every_rank_is_a_format_of_each_part():
    assert [made.name for made in FORMATS[: len(RANKS)]] == [f"r{rank}-f32" for rank in RANKS]
    assert {made.part.name for made in FORMATS} == {"f32", "bf16", "w8-g32-sym", "w4-g32"}
    for made in FORMATS:
        assert formats()[made.name] == made
        assert not made.by_columns
        assert not made.columnwise
        assert made.calibrated


def test_only_ranks_at_which_factors_are_smaller_are_offered():
    for made in FORMATS:
        rank = made.rank
        assert made.supports(2 * rank + 1, 2 * rank + 1) == made.part.supports(rank, 4)
        assert not made.supports(2 * rank, 2 * rank)
        assert made.bytes(3 * rank, 4 * rank) == (
            made.part.bytes(3 * rank, rank) + made.part.bytes(rank, 4 * rank)
        )
    assert named("r64-f32").bytes(300, 200) == 4 * 64 * 500
    assert named("r64-bf16").bytes(300, 200) == 2 * 64 * 500


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_what_is_stored_is_the_product_of_what_both_factors_stand_for(part):
    x, w = data()
    made = Factored(48, part)
    for inputs in (None, inputs_of(x)):
        encoded = made.encode(w, inputs)
        left, right = parts(encoded)
        assert (left.shape, right.shape) == ((K, 48), (48, N))
        again = joined(left, right)
        assert all(again[name] is array for name, array in encoded.arrays.items())
        product = part.decode(left).astype(np.float64) @ part.decode(right)
        np.testing.assert_allclose(made.decode(encoded), product, 1e-6, 1e-6)
        middle = part.read(x, left) @ part.decode(left).astype(np.float64)
        want = part.read(middle.astype(np.float32), right) @ part.decode(right).astype(np.float64)
        np.testing.assert_array_equal(made.multiply(x, encoded), want)
        off = np.linalg.norm(want - x.astype(np.float64) @ w)
        assert made.error(w, encoded, inputs_of(x)) == pytest.approx(off, rel=1e-5)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
@pytest.mark.parametrize("rank", [48, 64])
def test_what_is_foreseen_is_about_what_encoding_makes(part, rank):
    x, w = data()
    inputs, made, notes = inputs_of(x), Factored(rank, part), {}
    found = made.error(w, made.encode(w, inputs), inputs)
    foreseen = made.foreseen(w, inputs, notes)
    assert foreseen == pytest.approx(found, rel=0.02 if part.name == "f32" else 0.3)
    assert made.foreseen(np.zeros_like(w), inputs, notes) == foreseen  # of the notes alone


def test_inputs_lower_the_error_of_every_part():
    x, w = data()
    for part in PARTS:
        made = Factored(48, part)
        fitted = relative(made, x, w, made.encode(w, inputs_of(x)))
        assert fitted < 0.7 * relative(made, x, w, made.encode(w))


def test_inputs_of_few_dimensions_need_no_more_rank():
    """The weights are of full rank; a decomposition of them alone would lose most of them."""
    random = np.random.default_rng(5)
    mixing = random.standard_normal((48, K))
    x, held = ((random.standard_normal((300, 48)) @ mixing).astype(np.float32) for _ in range(2))
    w = random.standard_normal((K, N)).astype(np.float32)
    made = named("r48-f32")
    assert relative(made, held, w, made.encode(w, inputs_of(x))) < 1e-6
    assert relative(made, held, w, made.encode(w)) > 0.1
    assert relative(named("r32-f32"), held, w, named("r32-f32").encode(w, inputs_of(x))) > 0.1
    assert made.foreseen(w, inputs_of(x), {}) < 1e-6 * np.linalg.norm(x.astype(np.float64) @ w)
    # Where inputs say nothing more, all of the weights that fits is kept.
    wide = named("r64-f32")
    assert np.linalg.norm(wide.decode(wide.encode(w, inputs_of(x))) - w) < np.linalg.norm(
        made.decode(made.encode(w, inputs_of(x))) - w
    )


def test_f32_factors_are_those_of_the_truncation():
    x, w = data()
    exact = truncated(w, 48, inputs_of(x).gram)
    left, right = parts(named("r48-f32").encode(w, inputs_of(x)))
    np.testing.assert_array_equal(left["values"], exact.left.astype(np.float32))
    np.testing.assert_array_equal(right["values"], exact.right.astype(np.float32))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_zeros_and_what_is_not_finite(part):
    x, w = data()
    made = Factored(48, part)
    for inputs in (None, inputs_of(x), inputs_of(0 * x)):
        assert np.all(made.decode(made.encode(0 * w, inputs)) == 0)
    assert relative(made, x, w, made.encode(w, inputs_of(0 * x))) < 1  # as without inputs
    for value in (np.nan, np.inf):
        w[3, 4] = value
        with pytest.raises(ValueError, match="weights have infinite or NaN elements"):
            made.encode(w)
