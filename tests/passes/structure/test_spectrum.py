"""Spectra of matrices as they are and in the metric of their inputs."""

import numpy as np
import pytest
from support import planted_structures as plant

from tilewright.compiler.formats.inputs import Inputs
from tilewright.passes.lowrank.spectrum import half_rank, input_spectrum
from tilewright.passes.structure.scan import scan


def seen(x):
    """What calibration keeps of X [T, K]."""
    wide = x.astype(np.float64)
    return Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x[:8])


def in_subspace(rows, k, rank, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, k))


def dropped(spectrum, w, rank):
    basis = spectrum.vectors[:, :rank]
    return w @ basis @ basis.T


def test_full_rank_weights_whose_inputs_lie_in_a_subspace():
    """Rank k loses nothing of X W; of W itself the same rank loses nearly all, whatever basis."""
    k, n, rank = 96, 64, 6
    w, x = plant.gaussian(k, n).astype(np.float64), in_subspace(400, k, rank)
    spectrum = input_spectrum(w, x.T @ x)
    assert spectrum.rank() == rank
    cut = dropped(spectrum, w, rank)
    assert np.linalg.norm(x @ (w - cut)) <= 1e-6 * np.linalg.norm(x @ w)
    u, s, v = np.linalg.svd(w, full_matrices=False)
    plain = u[:, :rank] * s[:rank] @ v[:rank]
    assert np.linalg.norm(x @ (w - plain)) > 0.5 * np.linalg.norm(x @ w)


def test_it_is_structure_by_its_inputs_alone():
    w = plant.gaussian(96, 64)
    energies = {e.kind: e for e in scan(w, seen(in_subspace(400, 96, 6))).energies}
    by_inputs = energies["input spectrum"]
    assert by_inputs.better
    assert by_inputs.text == "rank 6 of X W"
    assert by_inputs.by_inputs
    assert not energies["spectrum"].better


def test_isotropic_inputs_add_nothing():
    w = plant.gaussian(96, 64)
    x = np.random.default_rng(3).standard_normal((4000, 96))
    energies = {e.kind: e for e in scan(w, seen(x)).energies}
    assert not energies["input spectrum"].better
    assert energies["input spectrum"].lost == pytest.approx(energies["spectrum"].lost, rel=0.1)


@pytest.mark.parametrize("rank", [0, 1, 7, 20, 32])
def test_loss_is_the_sum_of_dropped_eigenvalues(rank):
    rng = np.random.default_rng(4)
    w, x = rng.standard_normal((48, 32)), rng.standard_normal((200, 48)) * rng.uniform(0.1, 3, 48)
    spectrum = input_spectrum(w, x.T @ x)
    lost = np.linalg.norm(x @ (w - dropped(spectrum, w, rank))) ** 2
    assert lost == pytest.approx(spectrum.values[rank:].sum(), rel=1e-8, abs=1e-8)
    u, s, v = np.linalg.svd(w, full_matrices=False)
    plain = np.linalg.norm(x @ (w - u[:, :rank] * s[:rank] @ v[:rank])) ** 2
    assert lost <= plain * (1 + 1e-12)


def test_rank_of_half_the_bytes():
    for k, n in ((64, 64), (384, 1536), (33, 7)):
        rank = half_rank(k, n)
        assert rank * (k + n) <= k * n / 2 < (rank + 1) * (k + n)


def test_spectrum_of_large_matrices_is_that_of_a_sample():
    """A power law over 1200 singular values: half of the bytes lose what the formula says."""
    rng = np.random.default_rng(5)
    u, _ = np.linalg.qr(rng.standard_normal((1200, 1200)))
    v, _ = np.linalg.qr(rng.standard_normal((1200, 1200)))
    s = (1.0 + np.arange(1200)) ** -0.7
    w = (u * s @ v).astype(np.float32)
    found = {e.kind: e for e in scan(w).energies}["spectrum"]
    rank = half_rank(1200, 1200)
    lost = np.square(s[rank:]).sum() / np.square(s).sum()
    assert found.lost == pytest.approx(lost, rel=0.2)
    assert found.better
