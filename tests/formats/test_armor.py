"""ARMOR: every step is an exact minimum, and what it starts from is plain 2:4."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from tilewright.compiler.formats.armor import armor, lefts, loss, plain, regrouped, rights

K, N, D = 64, 96, 16


def data(seed=0):
    """W, and inputs with correlated channels."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.standard_normal((K, K)))[0]
    x = random.standard_normal((400, K)) * np.exp(-np.arange(K) / 25) @ turn
    return random.standard_normal((K, N)), x


def kept(core):
    return (core.reshape(K // 4, 4, N) != 0).sum(axis=1)


def test_ones_around_it_are_plain_groups():
    w, x = data()
    h = np.square(x).mean(axis=0)
    made = plain(w, h, D)
    np.testing.assert_array_equal(made.dense, made.core)
    best = np.sort((np.square(w) * h[:, None]).reshape(K // 4, 4, N), axis=1)
    assert loss(w, h, made) == pytest.approx(best[:, :2].sum())
    assert (kept(made.core) == 2).all()
    assert made.bytes == K * N * 9 // 8 + 2 * D * (K + N)


def test_no_step_loses_and_groups_gain_what_they_say():
    w, x = data()
    h = np.square(x).mean(axis=0)
    made = plain(w, h, D)
    now = loss(w, h, made)
    for turn in range(3):
        made, lowered = regrouped(w, h, made)
        assert min(lowered) >= 0
        assert loss(w, h, made) == pytest.approx(now - sum(lowered), rel=1e-9)
        assert (sum(lowered) > 0.01 * now) == (turn > 0)  # as it starts, groups are the best
        assert (kept(made.core) <= 2).all()
        for fitted in (
            lambda m: replace(m, right=rights(w, np.diag(h), m)),
            lambda m: replace(m, left=lefts(w, m)),
        ):
            before = loss(w, h, made)
            made = fitted(made)
            now = loss(w, h, made)
            assert now < before


def test_a_group_is_the_best_of_all_pairs():
    """Of one block, by least squares over each pair of places."""
    random = np.random.default_rng(2)
    w, h = random.standard_normal((4, 4)), random.uniform(0.5, 2, 4)
    made = plain(w, h, 4)
    made = replace(made, left=random.standard_normal((1, 4, 4)))
    made = replace(made, right=random.standard_normal((1, 4, 4)))
    last = 3  # the group that is chosen after all others
    found, _ = regrouped(w, h, made)
    root = np.sqrt(h)[:, None]
    others = found.core.copy()
    others[:, last] = 0
    target = (root * (w - replace(found, core=others).dense)).reshape(-1)
    best = []
    for pair in combinations(range(4), 2):
        basis = [np.outer(root[:, 0] * made.left[0, :, i], made.right[0, last]) for i in pair]
        columns = np.stack([b.reshape(-1) for b in basis], axis=1)
        fit = np.linalg.lstsq(columns, target, rcond=None)[0]
        best.append(np.square(columns @ fit - target).sum())
    assert loss(w, h, found) == pytest.approx(min(best), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_outputs_are_nearer_than_without_wrappers(seed):
    w, x = data(seed)
    gram = x.T @ x
    exact = np.linalg.norm(x @ w)
    alone = np.linalg.norm(x @ (plain(w, np.diag(gram), D).dense - w)) / exact
    fitted, diagonal = (
        np.linalg.norm(x @ (armor(w, gram, D, last=last).dense - w)) / exact
        for last in (True, False)
    )
    assert fitted < diagonal < 0.7 * alone


def test_weights_that_are_of_the_form_stay():
    w, x = data()
    w = w * np.tile([True, False, False, True], K // 4)[:, None]
    made = armor(w, x.T @ x, D)
    np.testing.assert_allclose(made.dense, w, 0, 1e-9)
    zeros = armor(0 * w, 0 * (x.T @ x), D)
    assert not zeros.dense.any()


@pytest.mark.parametrize(("shape", "block"), [((64, 96), 6), ((60, 96), 16), ((64, 90), 16)])
def test_sizes_that_do_not_fit(shape, block):
    with pytest.raises(ValueError) as error:
        armor(np.zeros(shape), np.eye(shape[0]), block)
    text = f"blocks of {block} do not fit {shape[0]} x {shape[1]}, or hold no groups of 4"
    assert str(error.value) == text
