"""Parameters of structures: what rewrites and kernels take from them."""

import numpy as np
import pytest
from scipy.linalg import hadamard
from support import planted_structures as plant

from tilewright.passes.lowrank.blast import swept
from tilewright.passes.structure.found import TOLERANCE
from tilewright.passes.structure.scan import scan
from tilewright.passes.structure.shared import find_shared


def found(w, kind):
    made = scan(np.asarray(w, np.float32), approximate=False).named(kind)
    assert made is not None, kind
    return made


def test_interpolative_form_keeps_columns_as_they_are():
    w = plant.low_rank(64, 80, 9)
    made = found(w, "low rank")
    assert made.rank == 9
    np.testing.assert_array_equal(made.basis, w[:, made.columns])
    np.testing.assert_array_equal(made.right[:, made.columns], np.eye(9))
    np.testing.assert_allclose(made.basis @ made.right, w, atol=1e-5)
    assert made.values == 9 * (64 + 80 - 9)
    assert np.abs(made.mix).max() < 20  # pivots bound it
    off = np.linalg.norm(made.dense() - w, 2) / np.linalg.norm(w)
    assert off <= made.bound <= TOLERANCE


def test_kronecker_factors():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((6, 10)), rng.standard_normal((8, 9))
    made = found(np.kron(a, b), "Kronecker")
    assert (made.outer.shape, made.inner.shape) == ((1, 6, 10), (1, 8, 9))
    ratio = made.outer[0] / a
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    assert made.work == min(6 * 8 * 9 + 6 * 10 * 9, 8 * 6 * 10 + 8 * 10 * 9)


@pytest.mark.parametrize("n", [4, 16, 128])
def test_codes_of_a_walsh_table_in_order_are_its_places(n):
    made = found(hadamard(n), "Hadamard")
    np.testing.assert_array_equal(made.rows, np.arange(n))
    np.testing.assert_array_equal(made.columns, np.arange(n))
    assert made.plain
    assert made.values == 1


def test_signs_that_are_no_group_are_no_hadamard():
    w = hadamard(32).astype(np.float32)
    w[5, 7] *= -1
    assert scan(w, approximate=False).named("Hadamard") is None
    paley = np.sign(plant.gaussian(32, 32))
    assert scan(paley, approximate=False).named("Hadamard") is None


def test_toeplitz_taps_and_reach():
    taps = np.zeros(48 + 64 - 1)
    taps[47:52] = [1, 2, 3, 4, 5]
    w = np.array([[taps[j - i + 47] for j in range(64)] for i in range(48)])
    made = found(w, "Toeplitz")
    np.testing.assert_array_equal(made.taps, taps)
    assert (made.reach, made.values, made.work) == (5, 5, 5 * 64)
    assert not made.circulant


def test_circulant_is_told_from_toeplitz():
    assert found(plant.circulant(32), "Toeplitz").circulant
    assert not found(plant.diagonals(32, 32), "Toeplitz").circulant


def test_parts_of_a_block_diagonal_cover_each_line_once():
    shapes = [(5, 9), (20, 13), (7, 18)]
    made = found(plant.block_diagonal(shapes), "block-diagonal")
    assert sorted(b.shape for _, _, b in made.parts) == sorted(shapes)
    rows = np.concatenate([r for r, _, _ in made.parts])
    columns = np.concatenate([c for _, c, _ in made.parts])
    assert sorted(rows) == list(range(32))
    assert sorted(columns) == list(range(40))
    assert not made.in_order


def test_factors_of_repeated_lines():
    w = plant.gaussian(24, 8)
    w = np.concatenate((w, -2 * w[:, 3:4], w[:, 5:6]), axis=1)
    made = found(w, "repeated lines")
    assert made.axis == 1
    assert list(made.of) == [0, 1, 2, 3, 4, 5, 6, 7, 3, 5]
    np.testing.assert_allclose(made.factors, [1, 1, 1, 1, 1, 1, 1, 1, -2, 1])
    assert made.factors[9] == 1
    np.testing.assert_array_equal(made.lines, w[:, :8])


def test_dead_lines_stand_for_themselves():
    w = plant.gaussian(24, 12)
    w[:, [2, 5, 7]] = 0
    w[:, 9] = w[:, 1]
    made = found(w, "repeated lines")
    assert list(made.distinct) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]


def test_permuted_blocks_go_back_to_the_original_count():
    w = plant.blocks(256, 256, 32, 32, 0.4, seed=3)
    count = np.count_nonzero(w.reshape(8, 32, 8, 32).any(axis=(1, 3)))
    order = np.random.default_rng(1).permutation(256)
    for axis, moved in ((0, w[order]), (1, w[:, order])):
        made = found(moved, "permuted blocks")
        assert made.axis == axis
        assert np.count_nonzero(made.blocks.present) == count == 26
        assert sorted(made.order) == list(range(256))


def test_sweeps_of_blast_never_lose():
    blocks = plant.gaussian(32, 32).astype(np.float64).reshape(4, 8, 4, 8)
    rng = np.random.default_rng(2)
    factors = [rng.standard_normal(s) for s in ((4, 8, 3), (4, 4, 3), (4, 3, 8))]
    losses = []
    for _ in range(12):
        factors = swept(blocks, *factors)
        made = np.einsum("ikr,ijr,jrn->ikjn", *factors)
        losses.append(np.linalg.norm(blocks - made))
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()
    assert losses[-1] < losses[0]


def test_shared_weights():
    a, b = plant.gaussian(16, 24, 1), plant.gaussian(16, 24, 2)
    shared = find_shared(
        {
            "first": a,
            "other": b,
            "equal": a.copy(),
            "scaled": np.float32(-0.5) * b,
            "turned": np.ascontiguousarray(a.T),
            "zero": np.zeros_like(a),
            "zero too": np.zeros_like(a),
            "nearly": a + np.float32(1e-4),
        }
    )
    assert {s.weight: s.text for s in shared} == {
        "equal": "first",
        "scaled": "-0.5 x other",
        "turned": "first transposed",
    }
