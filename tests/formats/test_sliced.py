"""Codes whose upper bits are codes of fewer bits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tilewright.compiler.formats import Encoded, Inputs, formats, named
from tilewright.compiler.formats.gptq import gptq
from tilewright.compiler.formats.grids import Grid
from tilewright.compiler.formats.joint import PULL, choose, common, joint, middle, refine
from tilewright.compiler.formats.sliced import Sliced, every


def inputs(k: int, rows: int = 512) -> Inputs:
    """Of channels that go together and differ in size."""
    rng = np.random.default_rng(k)
    mixed = rng.standard_normal((k, k)) / np.sqrt(4 * k) + np.eye(k)
    x = rng.standard_normal((2 * rows, k)) @ mixed * np.exp(rng.standard_normal(k))
    x = x.astype(np.float32)
    fitted = x[:rows].astype(np.float64)
    return Inputs(fitted.T @ fitted, rows, 2 * rows, np.abs(x).max(axis=0), x[rows:])


def weights(k: int, n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((k, n)).astype(np.float32) / 8


def test_a_slice_is_what_the_papers_round() -> None:
    """S_r(q') = clip(round-half-up(q' / 2^(8-r))) for q' = q - 2^(7-r), which clips nothing."""
    q = np.arange(256)
    for bits in (2, 3, 4, 6):
        step = 2 ** (8 - bits)
        shifted = q - step // 2
        papers = np.clip(np.floor(shifted / step + 0.5), 0, 2**bits - 1)
        np.testing.assert_array_equal(q >> (8 - bits), papers)
        # It stands for the mean of all codes that begin so.
        for f in range(2**bits):
            own = q[q >> (8 - bits) == f]
            assert np.unique(middle(own, bits, 8)).tolist() == [own.mean()]


def test_decoding_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "codes": rng.integers(0, 256, (100, 5)).astype(np.uint8),
        "scales": rng.random((2, 5)).astype(np.float16).astype(np.float32),
        "zeros": rng.integers(0, 256, (2, 5)).astype(np.uint8),
    }
    encoded = Encoded((100, 5), arrays)
    groups = np.arange(100) // 64
    for bits in (4, 8):
        steps = 2 ** (8 - bits)
        scales = arrays["scales"].astype(np.float64)[groups] / 16
        expected = scales * (
            steps * (arrays["codes"] // steps + 0.5) - 0.5 - arrays["zeros"][groups].astype(float)
        )
        found = Sliced(bits, (4, 8)).decode(encoded)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_slice_is_gptq() -> None:
    seen, w = inputs(128), weights(128, 24)
    grids = [common(w[i : i + 64], (4,), np.ones(64)) for i in (0, 64)]

    def rounding(channel: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        grid = grids[channel // 64]
        codes = np.clip(np.rint(values / grid.scales.astype(np.float64) + grid.zeros), 0, 15)
        return codes, (codes - grid.zeros) * grid.scales

    alone = gptq(w, seen, rounding)
    np.testing.assert_array_equal(joint(w, seen, grids, 64, (4,)), alone)


def test_blocks_change_nothing() -> None:
    seen, w = inputs(128), weights(128, 24)
    grids = [common(w[i : i + 64], (4, 8), np.ones(64)) for i in (0, 64)]
    one = joint(w, seen, grids, 64, (4, 8), block=1)
    many = joint(w, seen, grids, 64, (4, 8))
    assert np.mean(one != many) < 1e-3  # ties


@pytest.mark.parametrize("slices", [(4, 8), (2, 4), (3, 6)])
def test_two_slices_take_the_best_of_all_codes(slices: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    top = 2 ** slices[-1]
    narrow = rng.uniform(-8, top + 8, 4000)
    wide = narrow + rng.normal(0, 2 ** (slices[1] - slices[0]) / 2, 4000)
    codes = np.arange(top)
    cost = sum(
        PULL**i * (want - middle(codes, bits, slices[-1])[:, None]) ** 2
        for i, (want, bits) in enumerate(zip((narrow, wide), slices, strict=True))
    )
    found = choose([narrow, wide], slices)
    reached = np.take_along_axis(cost, found[None].astype(np.int64), axis=0)[0]
    best = cost.min(axis=0)
    assert np.mean(reached > best * (1 + 1e-9)) < 0.02
    assert (reached <= 1.2 * best + 1e-9).all()


@pytest.mark.parametrize("k", [128, 200])
def test_a_slice_errs_as_its_own_format(k: int) -> None:
    seen, w = inputs(k), weights(k, 96)
    encoded = Sliced(8, (4, 8)).encode(w, seen)
    errors = {r: Sliced(r, (4, 8)).error(w, encoded, seen) for r in (4, 8)}
    alone = named("w4-g64")
    own = alone.error(w, alone.encode(w, seen), seen)
    assert errors[4] <= 1.05 * own
    assert errors[8] <= 0.4 * own


def test_further_bits_are_refined_within_their_cells() -> None:
    seen, w = inputs(128), weights(128, 24)
    grids = [common(w[i : i + 64], (2, 4, 8), np.ones(64)) for i in (0, 64)]
    before = joint(w, seen, grids, 64, (2, 4, 8))
    after = refine(w, before, seen.gram, grids, 64, (2, 4, 8))
    np.testing.assert_array_equal(before >> 6, after >> 6)
    scales, zeros = (
        np.repeat(np.stack([getattr(g, name) for g in grids]), 64, axis=0)
        for name in ("scales", "zeros")
    )

    def error(codes: np.ndarray, bits: int) -> float:
        off = w - (middle(codes, bits, 8) - zeros) * scales
        return float(np.sum(off * (seen.gram @ off)))

    for bits, least in ((4, 0.99), (8, 0.9)):
        assert error(after, bits) < least * error(before, bits)
    again = refine(w, after, seen.gram, grids, 64, (2, 4, 8), block=16)
    assert error(again, 8) <= error(after, 8) * 1.01


def test_every_slice_errs_less_than_the_narrower_one() -> None:
    seen, w = inputs(128), weights(128, 64)
    slices = (2, 3, 4, 6, 8)
    encoded = Sliced(8, slices).encode(w, seen)
    errors = [Sliced(r, slices).error(w, encoded, seen) for r in slices]
    assert all(b < 0.75 * a for a, b in pairwise(errors[:4]))
    assert errors[4] < errors[3]
    size = float(np.linalg.norm(seen.sample @ w) * np.sqrt(2))
    assert errors[0] < 0.5 * size


def test_without_samples_codes_are_nearest() -> None:
    w = weights(128, 16)
    encoded = Sliced(8, (4, 8)).encode(w)
    for bits in (4, 8):
        made = Sliced(bits, (4, 8))
        steps = np.repeat(encoded["scales"], 64, axis=0) * 2.0 ** (4 - bits)
        off = np.abs(made.decode(encoded) - w) / steps
        assert np.median(off) < 0.3


def test_tiny_weights_and_columns_of_zeros_are_kept() -> None:
    w = weights(128, 4)
    w[:, 0] *= 1e-4
    w[:, 1] = 0
    made = Sliced(8, (2, 8))
    found = made.decode(made.encode(w))
    assert np.linalg.norm(found[:, 0] - w[:, 0]) < 0.2 * np.linalg.norm(w[:, 0])
    assert (found[:, 1] == 0).all()


def test_names() -> None:
    assert Sliced(4, (4, 8)).name == "w4of84-g64"
    assert named("w4of84a8b64-g64").activation.name == "a8b64"
    assert len({made.name for made in every()}) == len(every())
    for made in every():
        assert named(made.name) == made
        assert made.name not in formats()
    assert {made.stored for made in every() if made.slices == (4, 8)} == {Sliced(8, (4, 8))}
    with pytest.raises(ValueError, match="no such slices"):
        Sliced(4, (2, 8))
    assert Sliced(4, (4, 8)).bytes(128, 10) == 128 * 10 + 3 * 2 * 10
    assert not Sliced(4, (4, 8)).supports(64, 10)


def test_the_grid_leaves_the_narrowest_slice_its_own() -> None:
    w = weights(64, 50)
    grid = common(w, (4, 8), np.ones(64))
    assert isinstance(grid, Grid)
    wide = np.clip(np.rint(w / grid.scales + grid.zeros), 0, 255)
    beyond = np.abs(w / grid.scales + grid.zeros - wide) > 0.5
    assert beyond.mean() < 0.1
