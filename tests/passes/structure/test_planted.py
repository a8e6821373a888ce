"""Every planted structure is found with its parameters, and no other one."""

import numpy as np
import pytest
from scipy.fft import dct
from support import planted_structures as plant

from tilewright.passes.structure.found import TOLERANCE
from tilewright.passes.structure.scan import detectors, scan

BLOCK_KINDS = {"blocks", "permuted blocks", "block-diagonal"}
RANK_KINDS = {"low rank", "Monarch", "Kronecker", "BLAST"}
ALL = {
    *("constant", "permutation", "dead lines", "zeros", "N:M", "band", "Toeplitz", "Hadamard"),
    *("DCT", "DFT", "repeated lines", "repeated blocks", "quasiseparable"),
    *(BLOCK_KINDS | RANK_KINDS),
}


def permuted(n, seed=0):
    return np.random.default_rng(seed).permutation(n)


def stft(n, window):
    angle = 2 * np.pi * np.outer(np.arange(n), np.arange(n // 2 + 1)) / n
    return (window[:, None] * np.hstack((np.cos(angle), -np.sin(angle)))).astype(np.float32)


def proportional(seed=0):
    rng = np.random.default_rng(seed)
    rows = plant.gaussian(16, 64)[rng.integers(0, 16, 64)]
    return (rows * rng.uniform(0.5, 2, (64, 1))).astype(np.float32)


def of_two_blocks():
    a, b, c = (plant.gaussian(32, 32, seed) for seed in (1, 2, 3))
    return np.block([[a, b], [-2 * b, c]])


def dead():
    w = plant.gaussian(32, 64)
    w[3] = 0
    w[:, ::5] = 0
    return w


CASES = {
    # name: (matrix, {kind: parameters}); other kinds must be silent
    "gaussian": (plant.gaussian(96, 128), {}),
    "low rank": (plant.low_rank(96, 128, 12), {"low rank": "rank 12 of 96"}),
    "low rank, noise": (plant.low_rank(96, 128, 12, 1e-7), {"low rank": "rank 12 of 96"}),
    "half rank, noise": (plant.low_rank(128, 128, 64, 1e-7), {"low rank": "rank 64 of 128"}),
    "rank 1": (
        plant.low_rank(24, 40, 1),
        {"low rank": "rank 1 of 24", "repeated lines": "1 of 40 columns distinct up to factors"},
    ),
    "Kronecker": (
        plant.kronecker((8, 8), (16, 16)),
        {
            "Kronecker": "8 x 8 (x) 16 x 16",
        },
    ),
    "PHM": (plant.kronecker((4, 4), (24, 16), 4), {"Kronecker": "4 terms 4 x 4 (x) 24 x 16"}),
    "Hadamard": (plant.walsh(64, False), {"Hadamard": "of 64"}),
    "Hadamard, permuted": (plant.walsh(64), {"Hadamard": "of 64, permuted or scaled"}),
    "Hadamard, part": (plant.walsh(64)[:40], {"Hadamard": "of 64, permuted or scaled"}),
    "DCT": (
        dct(np.eye(48), axis=0, norm="ortho").astype(np.float32)[permuted(48)],
        {"DCT": "of 48, 48 rows"},
    ),
    "DCT, columns": (
        dct(np.eye(64), axis=0)[permuted(64)].T.astype(np.float32),
        {"DCT": "of 64, 64 columns"},
    ),
    "DFT": (stft(64, np.ones(64))[:, permuted(66)], {"DFT": "of 64, 66 lines"}),
    "STFT": (stft(80, np.hamming(81)[:-1]), {"DFT": "of 80, 82 lines, windowed"}),
    "Monarch": (
        plant.monarch(8, 16, 8, 12),
        {"Monarch": "slices of rank 1, inputs 8 x 16, outputs 8 x 12"},
    ),
    "Monarch, square": (
        plant.monarch(8, 8, 8, 8),
        {"Monarch": "slices of rank 1, inputs 8 x 8, outputs 8 x 8"},
    ),
    "BLAST": (plant.blast(64, 64, 8, 8), {"BLAST": "8 x 8 blocks, rank 8"}),
    "2:4": (
        plant.n_of_m(64, 96, 2, 4),
        {"N:M": "2:4", "zeros": "50.0% of the elements"},
    ),
    "1:2": (plant.n_of_m(64, 96, 1, 2), {"N:M": "1:2", "zeros": "50.0% of the elements"}),
    "4:8": (plant.n_of_m(64, 96, 4, 8), {"N:M": "4:8", "zeros": "50.0% of the elements"}),
    "unstructured": (plant.sparse(96, 96, 0.5), {"zeros": "50.6% of the elements"}),
    "4 x 1": (
        plant.blocks(128, 128, 4, 1, 0.5),
        {"blocks": "4 x 1, 50.0% of the blocks", "zeros": "50.0% of the elements"},
    ),
    "16 x 1": (
        plant.blocks(128, 128, 16, 1, 0.4, seed=6),
        {"blocks": "16 x 1, 40.0% of the blocks", "zeros": "60.0% of the elements"},
    ),
    "4 x 4": (
        plant.blocks(128, 128, 4, 4, 0.3),
        {"blocks": "4 x 4, 30.0% of the blocks", "zeros": "70.0% of the elements"},
    ),
    "16 x 16": (
        plant.blocks(256, 256, 16, 16, 0.3),
        {"blocks": "16 x 16, 30.1% of the blocks", "zeros": "69.9% of the elements"},
    ),
    "64 x 64": (
        plant.blocks(512, 512, 64, 64, 0.5, seed=1),
        {"blocks": "64 x 64, 50.0% of the blocks", "zeros": "50.0% of the elements"},
    ),
    "permuted 32 x 32": (
        plant.blocks(256, 256, 32, 32, 0.4, seed=3)[permuted(256)],
        {
            "permuted blocks": "32 x 32, 26 instead of 64 blocks by permuted rows",
            "blocks": "16 x 1, 40.6% of the blocks",  # whose other side is one row
            "zeros": "59.4% of the elements",
        },
    ),
    "Toeplitz": (plant.diagonals(48, 64), {"Toeplitz": "Toeplitz, 111 taps"}),
    "circulant": (plant.circulant(64), {"Toeplitz": "circulant, 127 taps"}),
    "Hankel": (plant.diagonals(48, 64)[::-1], {"Toeplitz": "Hankel, 111 taps"}),
    "quasiseparable": (
        plant.quasiseparable(64, 3, 2),
        {"quasiseparable": "states of 3 below, 2 above the diagonal"},
    ),
    "band": (
        np.triu(np.tril(plant.gaussian(64, 64), 3), -2),
        {
            "band": "2 below, 3 above the diagonal",
            "zeros": "90.8% of the elements",
            "blocks": "4 x 1, 13.6% of the blocks",
        },
    ),
    "block-diagonal": (
        plant.block_diagonal([(16, 24)] * 4),
        {
            "block-diagonal": "4 blocks of 16 x 24, permuted",
            "zeros": "75.0% of the elements",
        },
    ),
    "block-diagonal, in order": (
        plant.block_diagonal([(16, 24), (9, 11), (30, 28)], permuted=False),
        {
            "block-diagonal": "3 blocks",
            "zeros": "61.8% of the elements",
            "blocks": "8 x 1, 42.3% of the blocks",
        },
    ),
    "dead lines": (
        dead(),
        {"dead lines": "1 of 32 rows, 13 of 64 columns", "zeros": "22.8% of the elements"},
    ),
    "repeated columns": (
        np.repeat(plant.gaussian(64, 16), 2, axis=1)[:, permuted(32)],
        {"repeated lines": "16 of 32 columns distinct", "low rank": "rank 16 of 32"},
    ),
    "proportional rows": (
        proportional(),
        {
            "repeated lines": "14 of 64 rows distinct up to factors",
            "low rank": "rank 14 of 64",
        },
    ),
    "repeated blocks": (
        of_two_blocks(),
        {"repeated blocks": "3 of 4 blocks of 32 x 32 distinct"},
    ),
    "identity": (3 * np.eye(32), {"permutation": "3 x identity"}),
    "diagonal": (np.diag(plant.gaussian(1, 32)[0]), {"permutation": "diagonal"}),
    "permutation": (np.eye(32)[permuted(32)], {"permutation": "permutation"}),
    "constant": (np.full((8, 9), 2.0), {"constant": "all 2"}),
    "zero": (np.zeros((8, 9)), {"constant": "all 0"}),
}


@pytest.mark.parametrize("name", CASES)
def test_planted(name):
    w, wanted = CASES[name]
    w = np.ascontiguousarray(w, np.float32)
    found = scan(w)
    assert {f.kind: f.text for f in found.exact} == wanted
    assert {d.kind for d in detectors()} == ALL
    for one in found.exact:
        off = np.linalg.norm(one.dense() - w) / max(np.linalg.norm(w), 1e-30)
        assert off <= TOLERANCE
        assert abs(off - one.residual) <= 1e-9
        assert one.values < w.size or one.kind in ("zeros", "N:M")


@pytest.mark.parametrize("name", CASES)
def test_noise_of_a_thousandth_hides_it(name):
    w, _ = CASES[name]
    rng = np.random.default_rng(5)
    noisy = (w + 1e-3 * rng.standard_normal(w.shape)).astype(np.float32)
    assert scan(noisy, approximate=False).exact == ()


@pytest.mark.parametrize("name", ["Kronecker", "Monarch", "quasiseparable", "rank 1"])
def test_rounding_of_f32_does_not(name):
    """Other roundings of the same matrix, by 2^-25 of each element."""
    w, wanted = CASES[name]
    rng = np.random.default_rng(6)
    noisy = (w * (1 + 2.0**-25 * rng.uniform(-1, 1, w.shape))).astype(np.float32)
    assert {f.kind: f.text for f in scan(noisy).exact} == wanted


def test_monarch_at_no_other_pair():
    """Of the divisor pairs of 64 x 64 the planted one has slices of rank 1, and those that cut its
    slices into smaller ones, which have more values."""
    from tilewright.passes.lowrank.monarch import slices
    from tilewright.passes.structure.divisors import pairs

    w = plant.monarch(8, 8, 8, 8)
    flat = []
    for k, i in pairs(64):
        for l_, j in pairs(64):
            if min(i, l_) < 2:
                continue
            s = np.linalg.svd(slices(w, (k, i, l_, j), False, False), compute_uv=False)
            if np.square(s[..., 1:]).sum() < 1e-10 * np.square(s).sum():
                flat.append((k, i, l_, j))
    cut = [(k, i, l_, j) for k, i in pairs(64) for l_, j in pairs(64) if not (k % 8 or j % 8)]
    assert flat == cut
    assert len(cut) == 9
    found = scan(w).named("Monarch")
    assert found is not None
    assert found.split == (8, 8, 8, 8)


def test_blast_beats_svd_of_the_same_bytes():
    w = plant.blast(256, 256, 16, 16)
    found = scan(w, approximate=False)
    assert [(f.kind, f.text) for f in found.exact] == [("BLAST", "16 x 16 blocks, rank 16")]
    rank = found.exact[0].values // (256 + 256)
    energies = np.square(np.linalg.svd(w, compute_uv=False))
    assert energies[rank:].sum() > 0.4 * energies.sum()
    assert found.exact[0].residual < 1e-4
