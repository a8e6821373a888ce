"""What a scan says of matrices without structure, and of ones at the edges."""

import numpy as np
import pytest
from support import planted_structures as plant

from tilewright.passes.structure.found import TOLERANCE
from tilewright.passes.structure.scan import detectors, gauges, scan


def silent(seed):
    k, n = np.random.default_rng([seed, 1]).integers(1, 129, 2)
    if seed % 4 == 0:
        k, n = 8 * (k // 8 + 1), 8 * (n // 8 + 1)  # many divisors
    found = scan(plant.gaussian(k, n, seed))
    assert found.exact == (), (seed, k, n, found)
    assert not any(e.better for e in found.energies), (seed, k, n, found)


def test_gaussian_matrices_have_no_structure():
    for seed in range(0, 1000, 5):
        silent(seed)


@pytest.mark.slow
def test_a_thousand_gaussian_matrices_have_no_structure():
    for seed in range(1000):
        silent(seed)


@pytest.mark.parametrize("shape", [(256, 1024), (768, 96), (500, 500)])
def test_energies_of_gaussian_matrices_are_those_of_their_null_models(shape):
    found = scan(plant.gaussian(*shape)).energies
    assert {e.kind for e in found} == {g.kind for g in gauges()} - {"input spectrum"}
    for energy in found:
        assert energy.lost == pytest.approx(energy.null, rel=0.08), energy


def test_quantized_gaussian_is_still_none():
    """A few levels make equal elements and zeros, but no structure."""
    w = np.round(plant.gaussian(64, 96) * 8) / 8
    assert {f.kind for f in scan(w.astype(np.float32)).exact} <= {"zeros"}


def test_every_detector_is_found_by_its_folder():
    assert [d.kind for d in detectors()] == [
        *("constant", "permutation", "Toeplitz", "Hadamard", "DCT", "DFT", "dead lines", "zeros"),
        *("N:M", "blocks", "band", "block-diagonal", "permuted blocks"),
        *("repeated lines", "repeated lines", "repeated blocks", "Kronecker", "Monarch"),
        *("low rank", "quasiseparable", "BLAST"),
    ]
    assert [g.kind for g in gauges()] == [
        *("2:4", "Monarch", "blocks", "input spectrum", "spectrum", "unstructured"),
    ]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_no_elements(shape):
    found = scan(np.zeros(shape, np.float32))
    assert (found.exact, found.energies, found.note) == ((), (), "no elements")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_numbers(value):
    w = plant.gaussian(16, 16)
    w[3, 5] = value
    found = scan(w)
    assert (found.exact, found.energies, found.note) == ((), (), "elements that are no numbers")


def test_greatest_and_least_numbers():
    w = plant.low_rank(24, 32, 2)
    for scale in (1e30, 1e-30):
        found = scan((w.astype(np.float64) * scale).astype(np.float32), approximate=False)
        assert found.named("low rank").text == "rank 2 of 24", scale
    tiny = np.full((4, 8), 1e-42, np.float32)  # denormal
    assert [f.kind for f in scan(tiny).exact] == ["constant"]


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (1, 1), (2, 2), (1, 2), (2, 1), (3, 5)])
def test_thin_matrices_have_none(shape):
    assert scan(plant.gaussian(*shape)).exact == ()


def texts(w):
    return {f.kind: f.text for f in scan(np.asarray(w, np.float32), approximate=False).exact}


def test_one_element():
    w = np.zeros((24, 40))
    w[5, 7] = 2.5
    found = texts(w)
    assert found["dead lines"] == "23 of 24 rows, 39 of 40 columns"
    assert found["low rank"] == "rank 1 of 24"
    assert texts(np.zeros((1, 1))) == {"constant": "all 0"}


def test_one_dense_row_among_empty_ones():
    w = np.zeros((32, 64))
    w[5] = plant.gaussian(1, 64)
    found = texts(w)
    assert found["dead lines"] == "31 of 32 rows"
    assert found["low rank"] == "rank 1 of 32"
    assert not {"blocks", "N:M"} & set(found)


def test_empty_rows_and_columns():
    w = plant.gaussian(48, 64)
    w[::3] = 0
    w[:, 60:] = 0
    assert texts(w) == {
        "dead lines": "16 of 48 rows, 4 of 64 columns",
        "zeros": "37.5% of the elements",
        "low rank": "rank 32 of 48",
    }


def test_negative_zeros_are_zeros():
    w = plant.gaussian(32, 32)
    w[4] = -0.0
    assert texts(w)["dead lines"] == "1 of 32 rows"


def test_element_types():
    w = plant.low_rank(40, 48, 5)
    assert scan(w.astype(np.float64)).named("low rank").text == "rank 5 of 40"
    assert scan(w[::-1, ::2]).named("low rank").residual <= TOLERANCE
    with pytest.raises(ValueError, match="a matrix has two axes, found 3"):
        scan(np.zeros((2, 3, 4), np.float32))
