"""Binary coding: scales and signs, powers of two, and what they promise."""

import numpy as np
import pytest

from tilewright.compiler.formats import Encoded, formats, named
from tilewright.compiler.formats.binary import Levels, fit, refitted
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.planes import Planes

NAMES = sorted(name for name, made in formats().items() if isinstance(made, Planes))


def data(rows=600, k=192, n=40, seed=0):
    """Correlated inputs, weights, and the inputs' statistics."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((rows, k)) @ (random.standard_normal((k, k)) / 4 + np.eye(k))
    x = mixed.astype(np.float32)
    w = (random.standard_normal((k, n)) * 0.05).astype(np.float32)
    wide = x.astype(np.float64)
    return x, w, Inputs(wide.T @ wide, rows, rows, np.abs(x).max(axis=0), x[::3])


def same(scales: np.ndarray) -> np.ndarray:
    return scales.astype(np.float32)


def test_names():
    assert "bcq2-g64" in NAMES
    assert "bcq3" in NAMES
    assert "shift2-g128" in NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("k", "n"), [(130, 7), (192, 33)])
def test_codes_are_the_nearest_sums_of_their_scales(name, k, n):
    made = named(name)
    assert isinstance(made, Planes)
    w = np.random.default_rng(k).standard_normal((k, n)).astype(np.float32)
    encoded = made.encode(w)
    assert encoded["codes"].dtype == np.uint8
    assert encoded["codes"].max() < 2**made.bits
    assert encoded["scales"].shape == (made.groups(k), made.bits, n)
    signs = np.array([[1 if c >> i & 1 else -1 for i in range(made.bits)] for c in range(16)])
    groups = np.arange(k) // (made.group or k)
    every = np.einsum("ci,kin->ckn", signs[: 2**made.bits], encoded["scales"][groups])
    decoded = made.decode(encoded)
    np.testing.assert_allclose(np.abs(decoded - w), np.abs(every - w).min(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("shift")])
def test_scales_are_powers_of_two(name):
    for inputs in (None, data()[2]):
        scales = named(name).encode(data()[1], inputs)["scales"]
        mantissas = np.frexp(scales)[0]
        assert np.isin(mantissas, [0.0, 0.5]).all()
        assert (mantissas == 0.5).any()


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_integers_are_a_special_case(bits):
    """s (q - z) is that of s 2^i / 2 for the bits of q, and one plane of ones for the middle."""
    kind = Integers(bits, 64)
    w = np.random.default_rng(bits).standard_normal((128, 5)).astype(np.float32)
    encoded = kind.encode(w)
    steps, zeros = encoded["scales"], encoded["zeros"].astype(np.float32)
    planes = [steps * np.float32(2.0 ** (i - 1)) for i in range(bits)]
    planes.append(steps * (np.float32((2**bits - 1) / 2) - zeros))
    codes = encoded["codes"] | np.uint8(1 << bits)
    coded = Encoded((128, 5), {"codes": codes, "scales": np.stack(planes, axis=1)})
    np.testing.assert_allclose(Planes(bits + 1, 64).decode(coded), kind.decode(encoded), 0, 1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_sums_of_scales_are_found_again(bits):
    random = np.random.default_rng(bits)
    scales = np.array([1.0, 0.55, 0.26, 0.12], np.float32)[:bits, None] * np.ones(6, np.float32)
    codes = random.integers(0, 2**bits, (256, 6)).astype(np.uint8)
    made = Planes(bits)
    w = made.decode(Encoded(codes.shape, {"codes": codes, "scales": scales[None]}))
    np.testing.assert_allclose(made.decode(made.encode(w)), w, 1e-5, 1e-6)


def test_a_plane_is_the_mean_magnitude():
    w = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    energy = np.arange(1.0, 65.0)
    (scale,) = fit(w, 1, energy, same)
    np.testing.assert_allclose(scale, energy @ np.abs(w) / energy.sum(), 1e-5)


def test_turns_never_make_greedy_planes_worse():
    w = np.random.default_rng(0).standard_normal((64, 50)).astype(np.float32)
    left, greedy = w, []
    for _ in range(3):
        greedy.append(np.abs(left).mean(axis=0))
        left = left - np.where(left < 0, -greedy[-1], greedy[-1])
    made = Planes(3, 64)

    def error(scales: np.ndarray) -> np.ndarray:
        codes = Levels.of(scales).codes(w)
        decoded = made.decode(Encoded(w.shape, {"codes": codes, "scales": scales[None]}))
        found: np.ndarray = np.square(decoded - w).sum(axis=0)
        return found

    first, last = error(np.stack(greedy)), error(fit(w, 3, np.ones(64), same))
    assert (last <= first * 1.0001).all()
    assert last.sum() < 0.8 * first.sum()


@pytest.mark.parametrize("made", [Planes(2, 64), Planes(3, 64), Planes(2, 64, shift=True)])
def test_scales_through_the_gram_matrix_lower_the_error(made):
    _, w, inputs = data()
    encoded = made.encode(w)
    codes, scales = encoded["codes"], encoded["scales"]
    new = refitted(w, codes, scales, inputs.gram, made.rounded)

    def error(scales: np.ndarray) -> np.ndarray:
        off = made.decode(Encoded(w.shape, {"codes": codes, "scales": scales})) - w
        found: np.ndarray = np.einsum("kn,kl,ln->n", off, inputs.gram, off)
        return found

    before, after = error(scales), error(new)
    assert (after <= before * 1.001).all()
    assert after.sum() < 0.97 * before.sum() or made.shift
    np.testing.assert_array_equal(new, made.rounded(new))


@pytest.mark.parametrize("name", ["bcq1-g64", "bcq2-g64", "bcq3", "shift2-g64"])
def test_calibration_lowers_the_error(name):
    made = named(name)
    _, w, inputs = data()
    assert made.error(w, made.encode(w, inputs), inputs) < 0.95 * made.error(
        w, made.encode(w), inputs
    )


def test_two_planes_are_better_than_two_bits_on_normal_weights():
    _, w, inputs = data()
    planes, integers = Planes(2, 128), Integers(2, 64)
    assert planes.bytes(192, 40) < integers.bytes(192, 40)
    found = [f.error(w, f.encode(w, inputs), inputs) for f in (planes, integers)]
    assert found[0] < found[1]


def test_bytes_count_codes_and_scales():
    assert Planes(2, 64).bytes(128, 10) == 128 * 10 // 4 + 2 * 10 * 2 * 2
    assert Planes(3, 64, shift=True).bytes(128, 10) == 128 * 10 * 3 // 8 + 2 * 10 * 3
    assert Planes(1).bytes(130, 3) == 49 + 3 * 4


def test_columns_of_zeros_and_great_weights_are_kept():
    w = np.zeros((64, 3), np.float32)
    w[:, 1] = 1e6
    np.testing.assert_array_equal(Planes(2, 64).decode(Planes(2, 64).encode(w))[:, ::2], 0)
    np.testing.assert_allclose(Planes(1).decode(Planes(1).encode(w))[:, 1], 1e6)
    assert np.isfinite(Planes(2, 64).decode(Planes(2, 64).encode(w))).all()
    shifted = Planes(2, 64, shift=True)
    np.testing.assert_array_equal(shifted.decode(shifted.encode(w))[:, ::2], 0)


def test_weights_that_are_not_finite_are_refused():
    w = np.ones((128, 2), np.float32)
    w[3, 1] = np.nan
    with pytest.raises(ValueError, match="infinite or NaN"):
        Planes(2, 64).encode(w)
