"""Pruning against its definitions and direct solutions, and the formats made of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tilewright.compiler.formats import Inputs, formats, named
from tilewright.compiler.formats.inputs import DAMP, inverse_factor
from tilewright.compiler.formats.pruning import (
    Blocks,
    Groups,
    Unstructured,
    sparsegpt,
    wanda_scores,
)
from tilewright.compiler.formats.sparse import FORMATS, Sparse, compressed, expanded

NAMES = [made.name for made in FORMATS]
UNDAMPED = 1e-12


def data(k=64, n=10, rows=500, seed=3, alike=0.0):
    """alike: how much all channels have in common."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((k, k)) / np.sqrt(k) + np.eye(k)
    mixed[0] += alike
    x = (random.standard_normal((rows, k)) @ mixed).astype(np.float32)
    return x, random.standard_normal((k, n)).astype(np.float32)


def inputs_of(x):
    wide = x.astype(np.float64)
    half = wide[: len(x) // 2]
    return Inputs(half.T @ half, len(half), len(x), np.abs(x).max(axis=0), x[len(x) // 2 :])


def best_values(x, w, mask):
    """Of a mask, the weights with the least ||X (W - W')||, column by column by least squares."""
    found = np.zeros(w.shape)
    for n in range(w.shape[1]):
        kept = mask[:, n]
        found[kept, n] = np.linalg.lstsq(x[:, kept], x @ w[:, n].astype(np.float64), rcond=None)[0]
    return found


def off(x, w, values):
    return np.linalg.norm(x.astype(np.float64) @ (w - values))


def test_wanda_scores_are_weights_times_norms_of_inputs():
    x, w = data()
    found = wanda_scores(w, (x.astype(np.float64) ** 2).mean(axis=0))
    for k, n in itertools.product(range(0, 64, 9), range(10)):
        norm = np.linalg.norm(x[:, k].astype(np.float64)) / np.sqrt(len(x))
        assert found[k, n] == pytest.approx((abs(float(w[k, n])) * norm) ** 2, rel=1e-6)


def test_patterns_keep_the_largest_sums():
    scores = np.random.default_rng(0).random((10, 21))
    mask = Unstructured(30).whole(scores)
    assert mask.sum() == 10 * 21 * 70 // 100 == Unstructured(30).kept(10, 21)
    assert scores[mask].min() > scores[~mask].max()
    mask = Groups(2, 4).whole(scores)
    for k, n in itertools.product(range(0, 10, 4), range(21)):
        group = scores[k : k + 4, n]
        best = max(itertools.combinations(range(len(group)), 2), key=lambda c: group[list(c)].sum())
        assert set(np.flatnonzero(mask[k : k + 4, n])) == set(best)
    pattern = Blocks(50, deep=4, wide=16)
    mask = pattern.whole(scores)
    sums = {(k, n): scores[k : k + 4, n : n + 16].sum() for k in range(0, 10, 4) for n in (0, 16)}
    kept = sorted(sums, key=sums.__getitem__)[-3:]
    wanted = np.zeros_like(mask)
    for k, n in kept:
        wanted[k : k + 4, n : n + 16] = True
    np.testing.assert_array_equal(mask, wanted)
    assert pattern.kept(10, 21) == 3 * 4 * 16


def test_wanda_leaves_out_the_same_share_of_every_output():
    x, w = data(k=300, n=7)
    scores = wanda_scores(w, (x.astype(np.float64) ** 2).mean(axis=0))
    mask = Unstructured(50).by_scores(scores)
    for n in range(7):
        lost, kept = scores[~mask[:, n], n], scores[mask[:, n], n]
        assert len(lost) == len(kept) == 150
        assert lost.max() < kept.min()
    values = named("bf16-s50").decode(named("bf16-s50").nearest(w, inputs_of(x)))
    assert (np.count_nonzero(values, axis=0) == 150).all()


def test_factor_is_that_of_the_inverse():
    x, _ = data()
    gram = x.astype(np.float64).T @ x
    damped = gram + np.eye(64) * DAMP * np.diag(gram).mean()
    factor = inverse_factor(gram).astype(np.float64)
    np.testing.assert_array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(factor.T @ factor @ damped, np.eye(64), atol=2e-4)


@pytest.mark.parametrize("pattern", [Unstructured(50), Groups(2, 4), Blocks(50, 4, 5)])
def test_sparsegpt_is_near_the_best_values_of_its_mask(pattern):
    """Little more than the best values of the same mask, never less, and less than without making
    up for what is left out."""
    x, w = data()
    gram = x.astype(np.float64).T @ x
    values, mask = sparsegpt(w, gram, pattern, factor=inverse_factor(gram, UNDAMPED))
    assert mask.sum() == pattern.kept(*w.shape)
    assert not values[~mask].any()
    found = off(x, w, values)
    least = off(x, w, best_values(x.astype(np.float64), w, mask))
    assert least <= found * (1 + 1e-6)
    assert found < 1.25 * least
    assert found < 0.9 * off(x, w, np.where(mask, w, 0))


def test_sparsegpt_of_one_pruned_channel_is_the_least_squares_solution():
    """Everything after a channel makes up for it: one that is left out first is made up for as well
    as it can be."""
    x, w = data(k=12, n=4)
    mask = np.ones(w.shape, bool)
    mask[0] = False
    gram = x.astype(np.float64).T @ x
    values, _ = sparsegpt(w, gram, mask, factor=inverse_factor(gram, UNDAMPED))
    np.testing.assert_allclose(values, best_values(x.astype(np.float64), w, mask), atol=2e-5)


def test_masks_of_groups_are_chosen_on_updated_weights():
    """With them chosen by the weights as they were, the loss is greater."""
    x, w = data(k=128, n=40, rows=900)
    gram = x.astype(np.float64).T @ x
    turn, _ = sparsegpt(w, gram, Groups(2, 4))
    loss = np.diag(inverse_factor(gram))[:, None].astype(np.float64)
    before = Groups(2, 4).whole((w / loss) ** 2)
    first, _ = sparsegpt(w, gram, before)
    assert off(x, w, turn) < 0.98 * off(x, w, first)


def test_a_channel_without_inputs_is_left_out():
    x, w = data()
    x[:, 5] = 0
    values, _ = sparsegpt(w, x.astype(np.float64).T @ x, Unstructured(30))
    assert not values[5].any()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", NAMES)
def test_encoding_keeps_as_many_as_it_says(name):
    x, w = data(k=130, n=37)
    w[np.random.default_rng(1).random(w.shape) < 0.6] = 0
    made = named(name)
    for encoded in (made.encode(w), made.encode(w, inputs_of(x)), made.nearest(w, inputs_of(x))):
        values = made.decode(encoded)
        assert values.dtype == np.float32
        if made.pattern is None:
            np.testing.assert_array_equal(values[w == 0], 0)
        else:
            assert np.count_nonzero(values) <= made.kept(130, 37)
        if isinstance(made.pattern, Groups | Blocks):
            assert not np.any(encoded["codes"][~made.pattern.whole(values.astype(float) ** 2)])
    plain = made.encode(w)
    there = (plain["codes"] != 0) & (np.abs(plain["codes"].astype(np.int32)) != 127)
    steps = plain["scales"] if made.bits == 8 else np.abs(w) * 2.0**-7
    off = np.abs(made.decode(plain) - w) / np.maximum(steps, 1e-30)
    assert there.any()
    assert off[there].max() <= 0.501


@pytest.mark.parametrize("name", ["bf16-s50", "w8a8-s50", "bf16-2in4", "w8a8-b16x4-s70"])
def test_calibration_lowers_the_error(name):
    x, w = data(k=128, n=48, rows=1200, alike=2.0)
    made, seen = named(name), inputs_of(x)
    best = made.error(w, made.encode(w, seen), seen)
    assert best < 0.95 * made.error(w, made.nearest(w, seen), seen)


def test_sizes():
    assert named("bf16-s50").bytes(384, 1024) == 384 * 1024 + 384 * 1024 // 8
    assert Sparse(8, Groups(2, 4)).bytes(64, 32) == 64 * 32 // 2 + 64 * 32 // 8 + 4 * 32
    assert named("w8a8-b16x4-s90").bytes(128, 64) == 12 * (64 + 2) + 4 * 64
    assert set(NAMES) <= set(formats())


def test_zeros_of_the_model_stay_and_others_are_rounded_to_8_bits():
    _, w = data()
    w[::2] = 0
    made = named("w8a8-zeros")
    values = made.decode(made.encode(w))
    assert np.abs(values - w).max() <= 0.51 * np.abs(w).max() / 127
    assert not values[::2].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    w = np.ones((64, 32), np.float32)
    w[3, 3] = value
    with pytest.raises(ValueError, match="weights have infinite or NaN elements"):
        named("bf16-s50").encode(w)


def test_two_of_four_as_sparse_tensor_cores_take_them():
    """Every set of at most two places of a group; those of groups with fewer are in order too."""
    sets = [s for r in range(3) for s in itertools.combinations(range(4), r)]
    codes = np.zeros((4, len(sets)), np.int8)
    for n, places in enumerate(sets):
        codes[list(places), n] = np.arange(1, len(places) + 1)
    values, places = compressed(codes)
    assert values.shape == (2, len(sets))
    assert places.shape == (1, len(sets))
    assert np.all((places & 3) < places >> 2)
    np.testing.assert_array_equal(expanded(values, places, 4), codes)
    _, w = data(k=70)
    kept = named("bf16-2in4").encode(w)["codes"]
    np.testing.assert_array_equal(expanded(*compressed(kept), 70), kept)
    with pytest.raises(ValueError, match="more than two of four channels are not zero"):
        compressed(np.ones((4, 1), np.int8))
