"""Integer formats: codes, scales, GPTQ, and what they promise."""

import numpy as np
import pytest

from tilewright.compiler.errors import UserError
from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.activations import Int8, Rounded
from tilewright.compiler.formats.gptq import gptq
from tilewright.compiler.formats.grids import fit
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers


def data(rows=700, k=96, n=40, seed=0):
    """Correlated inputs with an outlier channel, weights, and the inputs' statistics."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((rows, k)) @ (random.standard_normal((k, k)) / 4 + np.eye(k))
    x = mixed.astype(np.float32)
    x[:, 3] *= 20
    w = (random.standard_normal((k, n)) * 0.05).astype(np.float32)
    wide = x.astype(np.float64)
    return x, w, Inputs(wide.T @ wide, rows, rows, np.abs(x).max(axis=0), x[::3])


@pytest.mark.parametrize(
    "name", sorted(n for n, made in formats().items() if isinstance(made, Integers))
)
@pytest.mark.parametrize(("k", "n"), [(130, 7), (129, 1), (192, 33)])
def test_stored_values_stay_within_half_a_step(name, k, n):
    made = named(name)
    assert isinstance(made, Integers)
    w = np.random.default_rng(k).standard_normal((k, n)).astype(np.float32)
    encoded = made.encode(w)
    size = made.group or k
    step = np.repeat(encoded["scales"], size, axis=0)[:k]
    codes = encoded["codes"]
    inside = (codes > 0) & (codes < 2**made.bits - 1)
    off = np.abs(made.decode(encoded) - w)
    assert codes.dtype == np.uint8
    assert codes.max() < 2**made.bits
    assert (off[inside] <= step[inside] * 0.5001 + 1e-7).all()
    assert encoded["scales"].shape == (-(-k // size), n)


def test_bytes_count_codes_scales_and_zeros():
    assert Integers(4, 64).bytes(128, 10) == 128 * 10 // 2 + 2 * 10 * 2 + 2 * 10
    assert Integers(8, symmetric=True).bytes(128, 10) == 128 * 10 + 10 * 4
    assert Integers(3, 32).bytes(33, 1) == 13 + 2 * 2 + 2


def test_columns_of_zeros_and_weights_on_the_grid_are_kept():
    w = np.zeros((64, 3), np.float32)
    w[:, 1] = np.tile(np.arange(-8, 8, dtype=np.float32), 4) * 0.5
    for made in (Integers(4, 64), Integers(8, 64)):
        decoded = made.decode(made.encode(w))
        np.testing.assert_array_equal(decoded[:, [0, 2]], 0)
        np.testing.assert_allclose(decoded[:, 1], w[:, 1], atol=0.5 * 0.03)


def test_weights_that_are_not_finite_are_refused():
    w = np.ones((64, 2), np.float32)
    w[3, 1] = np.inf
    with pytest.raises(ValueError, match="infinite or NaN"):
        Integers(4, 64).encode(w)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_calibration_never_makes_the_error_on_its_inputs_worse(bits):
    _, w, inputs = data()
    made = Integers(bits, 32)
    plain, better = made.encode(w), made.encode(w, inputs)
    assert made.error(w, better, inputs) <= made.error(w, plain, inputs)


def test_gptq_halves_the_error_of_rounding_on_correlated_inputs():
    x, w, inputs = data()
    made = Integers(4, 32)
    wide = x.astype(np.float64)
    exact = wide @ w
    off = [
        np.linalg.norm(wide @ made.decode(made.encode(w, seen)) - exact) for seen in (None, inputs)
    ]
    assert off[1] < 0.7 * off[0]


@pytest.mark.parametrize("block", [1, 7, 128, 1000])
def test_the_block_of_gptq_does_not_change_the_codes(block):
    _, w, inputs = data(k=150)
    grid = fit(w, 4, symmetric=False, half=False)

    def rounding(channel, values):
        codes = grid.codes(values)
        return codes, grid.values(codes)

    np.testing.assert_array_equal(gptq(w, inputs, rounding, block), gptq(w, inputs, rounding, 150))


def test_gptq_follows_the_plain_column_loop():
    """Against the textbook form: invert the remaining Gram matrix after every channel."""
    _, w, inputs = data(k=24, n=5)
    grid = fit(w, 3, symmetric=True, half=False)
    gram = inputs.gram + np.eye(24) * 0.01 * np.trace(inputs.gram) / 24
    left, want = w.astype(np.float64), np.empty((24, 5), np.int32)
    todo = list(inputs.order)
    while todo:
        inverse = np.linalg.inv(gram[np.ix_(todo, todo)])
        k = todo[0]
        want[k] = grid.codes(left[k])
        error = left[k] - grid.values(want[k])
        left[todo] -= np.outer(inverse[:, 0] / inverse[0, 0], error)
        todo.pop(0)

    def rounding(channel, values):
        codes = grid.codes(values)
        return codes, grid.values(codes)

    np.testing.assert_array_equal(gptq(w, inputs, rounding), want)


def test_errors_on_inputs_are_those_of_the_products():
    x, w, _ = data()
    wide = x.astype(np.float64)
    inputs = Inputs(wide.T @ wide, len(x), len(x), np.abs(x).max(axis=0), x)
    for reads in (Rounded(), Int8(), Int8(32)):
        made = Integers(4, 32, reads=reads)
        encoded = made.encode(w)
        off = reads.read(x) @ made.decode(encoded).astype(np.float64) - wide @ w
        assert made.error(w, encoded, inputs) == pytest.approx(np.linalg.norm(off), rel=1e-4)


def test_eight_bit_activations_take_the_nearest_of_255_values_of_each_row():
    x = np.array(
        [[1.0, -127.0, 0.5, 1.5], [0, 0, 0, 0], [1e-35, -2e-35, 0, 0], [1e-40, 1e-38, 0, 0]],
        np.float32,
    )
    codes, scales = Int8().quantize(x)
    np.testing.assert_array_equal(codes[0], [1, -127, 0, 2])
    np.testing.assert_array_equal(codes[1], 0)
    assert scales[1] == 0
    assert codes[2, 1] == -127
    assert scales[3] == 0
    np.testing.assert_array_equal(codes[3], 0)
    blocks, steps = Int8(2).quantize(x)
    np.testing.assert_array_equal(blocks[0], [1, -127, 42, 127])
    assert steps.shape == (4, 2)


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UserError) as caught:
        named("w4-g63")
    assert str(caught.value) == (
        "format 'w4-g63': there is no such format\n  try: did you mean 'w4-g64'?"
    )
