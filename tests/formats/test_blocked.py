"""Monarch and BLAST formats: planted instances, errors against direct computations, metrics."""

import numpy as np
import pytest

from tilewright.compiler.formats import Inputs, blast, formats, monarch
from tilewright.compiler.formats.blast import Blast, fitted
from tilewright.compiler.formats.blocked import PARTS, BlockFactors
from tilewright.compiler.formats.monarch import Monarch
from tilewright.compiler.formats.plain import Float32
from tilewright.compiler.formats.truncation import spectrum

K, N, P = 160, 96, 4
FORMATS = (*monarch.FORMATS, *blast.FORMATS)
SMALL = [kind(P, rank, part) for kind, rank in ((Monarch, 6), (Blast, 24)) for part in PARTS]


def inputs_of(x):
    """What calibration would say of X."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)


def data(seed=3, rows=700, decay=25):
    """X with correlated channels whose energies fall, as those of models do, and W."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.standard_normal((K, K)))[0]
    x = random.standard_normal((rows, K)) * np.exp(-np.arange(K) / decay) @ turn
    return x.astype(np.float32), random.standard_normal((K, N)).astype(np.float32)


def planted_blast(k, n, p, rank, seed):
    random = np.random.default_rng(seed)
    left, middle, right = (
        random.standard_normal(s) for s in ((p, k // p, rank), (p, p, rank), (p, rank, n // p))
    )
    return np.einsum("ikr,ijr,jrn->ikjn", left, middle, right).reshape(k, n)


def planted_monarch(k, n, p, rank, seed):
    random = np.random.default_rng(seed)
    left, right = (random.standard_normal(s) for s in ((p, p, k // p, rank), (p, p, rank, n // p)))
    return np.einsum("ijkr,ijrn->ikjn", left, right).reshape(k, n)


def off(w, made):
    return np.linalg.norm(made - w) / np.linalg.norm(w)


def test_every_rank_is_a_format_of_each_part():
    assert {made.name for made in FORMATS} == {
        *(f"m4r{rank}-{part}" for rank in (8, 16, 32, 64, 128) for part in ("f32", "bf16")),
        *(f"blast4r{rank}-{part}" for rank in (32, 64, 128, 256, 512) for part in ("f32", "bf16")),
    }
    for made in FORMATS:
        assert formats()[made.name] == made
        assert made.calibrated
        assert not made.by_columns
        assert not made.columnwise


def test_only_what_divides_and_is_smaller_is_offered():
    for made in (Monarch(4, 8, Float32()), Blast(4, 32, Float32())):
        assert made.supports(128, 128)
        assert not made.supports(130, 128)
        assert not made.supports(128, 130)
        assert not made.supports(64, 64)  # as many numbers as there are
        assert not made.supports(0, 128)
    assert not Monarch(4, 24, Float32()).supports(1024, 80)  # more than a block has
    assert Monarch(4, 8, Float32()).bytes(128, 256) == 4 * 32 * 384
    assert Blast(4, 32, Float32()).bytes(128, 256) == 4 * (32 * 384 + 16 * 32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by_inputs", [False, True])
def test_planted_instances_are_exact(seed, by_inputs):
    gram = None
    if by_inputs:
        x = data(seed)[0].astype(np.float64)
        gram = x.T @ x
    w = planted_monarch(K, N, P, 3, seed)
    assert off(w, Monarch(P, 3, Float32()).factors(w, gram).dense) < 1e-12
    w = planted_blast(K, N, P, 18, seed)
    assert off(w, fitted(w, P, 18, gram).dense) < 1e-9


def test_monarch_of_weights_alone_is_the_best_of_each_block():
    w = data()[1].astype(np.float64)
    made = Monarch(P, 6, Float32()).factors(w, None).dense
    blocks = [b for rows in np.split(w - made, P) for b in np.split(rows, P, axis=1)]
    exact = [b for rows in np.split(w, P) for b in np.split(rows, P, axis=1)]
    for block, own in zip(blocks, exact, strict=True):
        tail = np.linalg.svd(own, compute_uv=False)[6:]
        assert np.linalg.norm(block) == pytest.approx(np.linalg.norm(tail), rel=1e-9)


def test_one_part_is_low_rank():
    x, w = data()
    gram = x.T.astype(np.float64) @ x
    best = spectrum(w, gram).tail(20)
    made = fitted(w.astype(np.float64), 1, 20, gram).dense
    assert np.linalg.norm(x.astype(np.float64) @ (made - w)) == pytest.approx(best, rel=1e-4)


def test_sweeps_of_least_squares_never_lose():
    w = data()[1].astype(np.float64)
    errors = [off(w, fitted(w, P, 24, None, sweeps).dense) for sweeps in (0, 1, 2, 4, 8, 40)]
    assert errors == sorted(errors, reverse=True)
    low_rank = np.linalg.svd(w, compute_uv=False)[24:]
    assert errors[0] == pytest.approx(np.linalg.norm(low_rank) / np.linalg.norm(w), rel=1e-9)
    assert errors[-1] < 0.97 * errors[0]


@pytest.mark.parametrize("made", SMALL, ids=lambda made: made.name)
def test_what_is_stored_is_what_all_factors_stand_for(made):
    x, w = data()
    for inputs in (None, inputs_of(x)):
        encoded = made.encode(w, inputs)
        left, right = (
            np.stack([made.part.decode(e).astype(np.float64) for e in side])
            for side in (made.lefts(encoded), made.rights(encoded))
        )
        middle = encoded["middle"] if made.mixed else None
        dense = BlockFactors(left, middle, right).dense
        np.testing.assert_allclose(made.decode(encoded), dense, 1e-6, 1e-6)
        exact = x.astype(np.float64) @ dense
        rounded = 1e-6 if made.part.activation.exact else 6e-3
        got = made.multiply(x, encoded)
        assert np.linalg.norm(got - exact) < rounded * np.linalg.norm(exact)
        lost = np.linalg.norm(got - x.astype(np.float64) @ w)
        assert made.error(w, encoded, inputs_of(x)) == pytest.approx(lost, rel=1e-5)


@pytest.mark.parametrize("made", SMALL, ids=lambda made: made.name)
def test_inputs_lower_the_error_and_it_is_foreseen(made):
    x, w = data()
    inputs, notes = inputs_of(x), {}
    plain, by_inputs = (made.error(w, made.encode(w, i), inputs) for i in (None, inputs))
    assert by_inputs < 0.8 * plain
    x, w = data(decay=80)
    inputs = inputs_of(x)
    by_inputs = made.error(w, made.encode(w, inputs), inputs)
    assert made.foreseen(w, inputs, notes) == pytest.approx(by_inputs, rel=0.35)
    assert made.foreseen(np.zeros_like(w), inputs, notes) == made.foreseen(w, inputs, {})


@pytest.mark.parametrize("made", SMALL, ids=lambda made: made.name)
def test_zeros_and_what_is_not_finite(made):
    x, w = data()
    for inputs in (None, inputs_of(x), inputs_of(0 * x)):
        assert np.all(made.decode(made.encode(0 * w, inputs)) == 0)
        assert made.foreseen(0 * w, inputs_of(x), {}) == 0
    assert off(w, made.decode(made.encode(w, inputs_of(0 * x)))) < 1
    for value in (np.nan, np.inf):
        w[3, 4] = value
        with pytest.raises(ValueError, match="weights have infinite or NaN elements"):
            made.encode(w)
