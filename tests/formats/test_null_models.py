"""Formulas of the null models against samples and against known figures."""

import numpy as np
import pytest

from tilewright.compiler.formats import named
from tilewright.compiler.formats.null_models import (
    blocks_dropped,
    n_of_m,
    rank_dropped,
    slices_kept,
)


@pytest.mark.parametrize(
    ("share", "elements", "lost"),
    [
        *((0.3, 1, 0.015), (0.5, 1, 0.071), (0.6, 1, 0.128), (0.7, 1, 0.216), (0.9, 1, 0.559)),
        *((0.5, 4, 0.237), (0.7, 4, 0.440), (0.9, 4, 0.746), (0.5, 16, 0.360), (0.9, 16, 0.828)),
    ],
)
def test_blocks(share, elements, lost):
    assert blocks_dropped(share, elements) == pytest.approx(lost, abs=2e-3)  # sampled figures


@pytest.mark.parametrize(("kept", "group", "lost"), [(2, 4, 0.132), (4, 8, 0.103)])
def test_n_of_m(kept, group, lost):
    assert n_of_m(kept, group) == pytest.approx(lost, abs=6e-4)


def test_n_of_m_of_samples():
    squares = np.sort(np.square(np.random.default_rng(0).standard_normal((1 << 17, 4))), axis=1)
    assert n_of_m(1, 4) == pytest.approx(squares[:, :3].sum() / squares.sum(), rel=0.01)


@pytest.mark.parametrize(
    ("rank", "k", "n", "lost"),
    [
        *((128, 1024, 1024, 0.625), (256, 1024, 1024, 0.377), (512, 1024, 1024, 0.106)),
        *((64, 512, 2048, 0.761), (128, 512, 2048, 0.573), (256, 2048, 512, 0.292)),
    ],
)
def test_rank(rank, k, n, lost):
    assert rank_dropped(rank, k, n) == pytest.approx(lost, abs=2e-3)


@pytest.mark.parametrize(("k", "n", "rank"), [(200, 300, 40), (64, 64, 16), (500, 100, 90)])
def test_rank_of_samples(k, n, rank):
    s = np.square(np.linalg.svd(np.random.default_rng(1).standard_normal((k, n)))[1])
    assert rank_dropped(rank, k, n) == pytest.approx(s[rank:].sum() / s.sum(), abs=0.01)


def test_slices():
    s = np.linalg.svd(np.random.default_rng(2).standard_normal((200, 32, 32)), compute_uv=False)
    s = np.square(s)
    assert slices_kept(32, 32) == pytest.approx(s[:, 0].sum() / s.sum(), rel=0.1)
    assert slices_kept(32, 32) == pytest.approx(4 / 32)


def test_nothing_dropped_is_nothing_lost():
    assert blocks_dropped(0.0, 4) == 0 == rank_dropped(8, 8, 20)
    assert blocks_dropped(1.0, 4) == pytest.approx(1)
    assert rank_dropped(0, 8, 20) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("r32-f32", "low rank"),
        ("bf16-s50", "zeros"),
        ("bf16-2in4", "2:4 zeros"),
        ("w8a8-b16x4-s70", "blocks of zeros"),
        ("m4r16-f32", "Monarch"),
    ],
)
def test_formats_lose_of_noise_what_they_say(name, structure):
    made = named(name)
    w = np.random.default_rng(4).standard_normal((256, 384)).astype(np.float32)
    lost = np.square(w - made.decode(made.encode(w))).sum() / np.square(w).sum()
    assert made.structure == structure
    assert lost == pytest.approx(made.chance(*w.shape), rel=0.03)


def test_codes_are_no_structure_and_corrected_codes_are_one():
    assert (named("w4-g64").structure, named("w4-g64").chance(64, 64)) == ("", None)
    assert named("w4-g64+r16").structure == "codes and low rank"
    assert named("blast4r32-bf16").structure == "BLAST"
