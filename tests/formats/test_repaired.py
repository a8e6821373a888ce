"""Codes with a correction of low rank: what it takes of their error, and that nothing is lost."""

import numpy as np
import pytest

from tilewright.compiler.formats import Inputs, named
from tilewright.compiler.formats.null_models import rank_dropped
from tilewright.compiler.formats.repaired import FORMATS, Repaired, joined, parts


def inputs_of(x):
    """What calibration would say of X."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)


def data(k=160, n=140):
    random = np.random.default_rng(3)
    mixed = random.standard_normal((k, k)) / np.sqrt(2 * k) + np.eye(k)
    x = (random.standard_normal((900, k)) @ mixed).astype(np.float32)
    return x, (random.standard_normal((k, n)) * 0.05).astype(np.float32)


def relative(made, x, w, encoded):
    exact = x.astype(np.float64) @ w
    return np.linalg.norm(made.multiply(x, encoded) - exact) / np.linalg.norm(exact)


def test_names_bytes_and_what_is_offered():
    assert [made.name for made in FORMATS] == ["w4-g64+r16", "w4-g64+r32", "w4-g64+r64"]
    made = named("w4-g64+r32")
    assert made.bytes(640, 512) == named("w4-g64").bytes(640, 512) + 2 * 32 * (640 + 512)
    assert made.supports(640, 512)
    assert not made.supports(64, 64)


def test_the_correction_takes_what_noise_has_in_its_rank():
    """Errors of codes are nearly white, and so are weights without structure: little of either is
    of low rank."""
    x, w = data()
    inputs = inputs_of(x)
    plain = named("w4-g64")
    before = relative(plain, x, w, plain.encode(w, inputs))
    last = before
    for made in FORMATS:
        if not made.supports(*w.shape):
            continue
        after = relative(made, x, w, made.encode(w, inputs))
        assert after < 0.99 * last
        assert after > 0.9 * before * rank_dropped(made.rank, *w.shape)
        guess = made.foreseen(w, inputs, {})
        found = made.error(w, made.encode(w, inputs), inputs)
        assert guess == pytest.approx(found, rel=0.35)
        last = after


def test_weights_of_a_grid_and_of_low_rank_are_found_again():
    """Codes alone err; codes and factors hardly."""
    x, w = data()
    random = np.random.default_rng(5)
    low = random.standard_normal((160, 4)) @ random.standard_normal((4, 140))
    w = (w * 0.05 + low).astype(np.float32)
    made = named("w4-g64+r16")
    fitted = relative(made, x, w, made.encode(w, inputs_of(x)))
    codes = named("w4-g64")
    assert fitted < 0.1 * relative(codes, x, w, codes.encode(w, inputs_of(x)))


def test_the_best_round_of_either_start_is_kept():
    """Against the errors of all rounds by hand, with and without inputs."""
    x, w = data(96, 80)
    made = named("w4-g64+r16")
    for inputs in (None, inputs_of(x)):

        def error(encoded, inputs=inputs):
            if inputs is None:
                return np.linalg.norm(made.decode(encoded) - w)
            return made.error(w, encoded, inputs)

        found = []
        for low in (np.zeros_like(w), made.factors.decode(made.factors.encode(w, inputs))):
            errors = [np.inf]
            for _ in range(3):
                codes = made.base.encode(w - low, inputs)
                factors = made.factors.encode(w - made.base.decode(codes), inputs)
                low = made.factors.decode(factors)
                errors.append(error(joined(codes, factors)))
            falls = next((i for i in range(1, 4) if errors[i] >= errors[i - 1]), 4)
            found += errors[1:falls]
        assert error(made.encode(w, inputs)) == pytest.approx(min(found))


def test_what_is_stored_is_the_sum():
    x, w = data()
    made = Repaired(named("w4-g64"), 20)
    encoded = made.encode(w)
    codes, factors = parts(encoded)
    assert {*joined(codes, factors).arrays} == {*encoded.arrays}
    both = made.base.decode(codes) + made.factors.decode(factors)
    np.testing.assert_array_equal(made.decode(encoded), both)
    total = made.base.multiply(x, codes) + made.factors.multiply(x, factors)
    np.testing.assert_array_equal(made.multiply(x, encoded), total)


@pytest.mark.parametrize(("k", "n"), [(400, 400), (300, 900), (900, 300)])
def test_the_null_model_is_the_spectrum_of_gaussian_matrices(k, n):
    values = np.linalg.svd(np.random.default_rng(1).standard_normal((k, n)), compute_uv=False) ** 2
    for part in (0.02, 0.125, 0.25, 0.5, 0.9):
        rank = int(part * min(k, n))
        left = values[rank:].sum() / values.sum()
        assert rank_dropped(rank, k, n) == pytest.approx(left, abs=0.01)
    assert rank_dropped(min(k, n), k, n) == 0


def test_weights_that_are_not_finite_are_refused():
    _, w = data()
    w[0, 0] = np.inf
    with pytest.raises(ValueError, match="weights have infinite or NaN elements"):
        named("w4-g64+r16").encode(w)
