"""Leaving out channels, against least squares and against trying all."""

from itertools import combinations

import numpy as np
import pytest

from tilewright.passes.shrinking.elimination import DAMP, Elimination

RANDOM = np.random.default_rng(7)


def data(rows, taps, channels, n):
    x = RANDOM.standard_normal((rows, taps, channels))
    w = RANDOM.standard_normal((taps, channels, n)).astype(np.float32)
    flat = x.reshape(rows, -1)
    return flat, flat.T @ flat, w


def error(x, w, state):
    taps, channels, n = w.shape
    kept = x.reshape(len(x), taps, channels)[:, :, state.left].reshape(len(x), -1)
    return np.linalg.norm(kept @ state.weights.reshape(-1, n) - x @ w.reshape(-1, n))


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("gone", [1, 5, 23])
def test_what_is_left_is_the_least_squares_solution(taps, gone):
    x, gram, w = data(300, taps, 24, 10)
    state = Elimination(gram, w)
    state.drop(gone)
    kept = x.reshape(300, taps, 24)[:, :, state.left].reshape(300, -1)
    target = x @ w.reshape(-1, 10) - kept @ w[:, state.left].reshape(-1, 10)
    damp = np.sqrt(DAMP * np.diag(gram).mean()) * np.eye(kept.shape[1])
    stacked = np.concatenate([kept, damp]), np.concatenate([target, np.zeros((len(damp), 10))])
    change = np.linalg.lstsq(*stacked, rcond=None)[0]
    wanted = change.reshape(taps, -1, 10) + w[:, state.left]
    np.testing.assert_allclose(state.weights, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("taps", [1, 2])
def test_one_channel_is_the_best_of_all(taps):
    x, gram, w = data(100, taps, 9, 4)
    state = Elimination(gram, w)
    state.drop(1)
    others = (np.delete(np.arange(9), i) for i in range(9))
    errors = [best(x, w, keep) for keep in others]
    assert error(x, w, state) == pytest.approx(min(errors), rel=1e-4)


def best(x, w, keep):
    """The least error with some channels."""
    taps, channels, n = w.shape
    kept = x.reshape(len(x), taps, channels)[:, :, keep].reshape(len(x), -1)
    y = x @ w.reshape(-1, n)
    return np.linalg.norm(y - kept @ np.linalg.lstsq(kept, y, rcond=None)[0])


def test_several_are_near_the_best_of_all():
    """Going one by one is no search; of 20 problems the worst is 1.1 times the best subset's."""
    for _ in range(20):
        x, gram, w = data(60, 1, 8, 3)
        state = Elimination(gram, w)
        state.drop(3)
        least = min(best(x, w, np.array(keep)) for keep in combinations(range(8), 5))
        assert error(x, w, state) <= 1.25 * least


@pytest.mark.parametrize("taps", [1, 9])
def test_combinations_of_others_go_without_error(taps):
    """40 of 64 channels are linear combinations of the others, of which inputs say nothing more."""
    x = RANDOM.standard_normal((2000, taps, 24))
    mix = RANDOM.standard_normal((24, 40))
    order = RANDOM.permutation(64)
    wide = np.concatenate([x, x @ mix], axis=2)[:, :, order].reshape(2000, -1)
    w = RANDOM.standard_normal((taps, 64, 16)).astype(np.float32)
    state = Elimination(wide.T @ wide, w, damp=1e-10)
    state.drop(40)
    size = np.linalg.norm(wide @ w.reshape(-1, 16))
    assert error(wide, w, state) <= 1e-6 * size
    state.drop(1)
    assert error(wide, w, state) >= 1e-2 * size


def test_copies_do_not_go_together():
    """Each of two equal channels can go, but not both: in one step of several."""
    x = RANDOM.standard_normal((500, 64))
    x[:, 1::2] = x[:, ::2]
    w = RANDOM.standard_normal((1, 64, 8)).astype(np.float32)
    state = Elimination(x.T @ x, w)
    state.drop(32)
    assert sorted(state.left // 2) == list(range(32))
    assert error(x, w, state) <= 1e-4 * np.linalg.norm(x @ w[0])


def test_silent_channels_go_first():
    x, _, w = data(200, 1, 16, 4)
    x[:, [3, 11]] = 0
    state = Elimination(x.T @ x, w)
    state.drop(2)
    assert set(range(16)) - set(state.left) == {3, 11}
    assert error(x, w, state) <= 1e-5 * np.linalg.norm(x @ w[0])


@pytest.mark.parametrize("size", [0.0, 1e-15, 1e15])
def test_any_size_of_inputs(size):
    x, _, w = data(50, 1, 16, 4)
    x *= size
    state = Elimination(x.T @ x, w)
    state.drop(100)
    assert len(state.left) == 1
    assert np.isfinite(state.weights).all()


def test_sums_that_were_rounded():
    """A Gram matrix that is not positive definite by more than what is added to its diagonal."""
    x, _, w = data(500, 1, 16, 4)
    x[:, 8:] = x[:, :8]
    gram = x.T @ x
    state = Elimination(gram - 1e-3 * gram[0, 0] * np.eye(16), w)
    state.drop(8)
    assert sorted(state.left % 8) == list(range(8))
    assert error(x, w, state) <= 0.05 * np.linalg.norm(x @ w[0])


def test_no_inputs():
    """Without a single row all channels are as good, and the weights of the rest stay."""
    w = RANDOM.standard_normal((1, 16, 4)).astype(np.float32)
    state = Elimination(np.zeros((16, 16)), w)
    state.drop(4)
    np.testing.assert_allclose(state.weights, w[:, state.left], rtol=1e-6)
