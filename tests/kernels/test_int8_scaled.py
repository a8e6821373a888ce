"""The 8-bit matmul with scales: formats of activations, and what its weight formats promise."""

import ml_dtypes
import numpy as np
import pytest
from llvmlite import ir

from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.int8_scaled_matmul import FAMILY, ScaledMatmulSpec
from tilewright.backends.kernels.int8_scaled_matmul.spec import REWRITES
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.llvm.normalization import Norm
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.formats import Encoded, Inputs, named

TARGETS_HERE = [t for t in TARGETS.values() if FAMILY.supports and FAMILY.supports(t)]


def inputs_of(x: np.ndarray) -> Inputs:
    """What calibration would say of X."""
    gram = x.astype(np.float64).T @ x
    return Inputs(gram, len(x), len(x), np.abs(x).max(axis=0), x)


def outlying(rows: int, k: int) -> np.ndarray:
    """X with some channels far greater than the others."""
    rng = np.random.default_rng(k)
    x = rng.standard_normal((rows, k)).astype(np.float32)
    x[:, ::17] *= 20
    return x


@pytest.mark.parametrize("target", TARGETS_HERE, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "apart",
    [{}, {"outliers": 32}, {"copies": 64}, *({"rewrite": kind} for kind in REWRITES)],
    ids=str,
)
def test_activations_and_results_in_bf16(target, apart) -> None:
    if not runs_here(target):
        pytest.skip(f"{target.name} code does not run on this machine")
    k, n = (128 if apart.get("rewrite") == "rotate" else 130), 70
    spec = ScaledMatmulSpec(k, n, a="bf16", c="bf16", **apart)
    module = ir.Module("bf16")
    FAMILY.emit(module, spec, target, "kernel")
    kernel = compile_module(module, target).kernel("kernel")
    weights = np.random.default_rng(0).standard_normal((k, n)).astype(np.float32)
    encoded = spec.format.encode(weights, inputs_of(outlying(64, k)))
    packed = FAMILY.pack(encoded, spec)
    for m in (1, 5, 40):
        x = outlying(m, k).astype(ml_dtypes.bfloat16)
        if m > 1:
            x[1, 1] = np.nan
        got = np.zeros((m, n), ml_dtypes.bfloat16)
        dims = (m, k, n)
        scratch = np.zeros(evaluate(FAMILY.scratch_bytes(spec), dims) + 64, np.uint8)
        scratch = scratch[-scratch.ctypes.data % 64 :]
        units = evaluate(FAMILY.units(spec), dims)
        arrays = [x.view(np.uint16), packed, got.view(np.uint16)]
        assert call(kernel, arrays, dims, [(0, units)], scratch) == 0
        (expected,) = FAMILY.reference(spec, (x, packed), dims)
        # A rounding that falls to the other side of a tie is one bit of bf16.
        most = float(np.nanmax(np.abs(expected)))
        np.testing.assert_allclose(got.astype(np.float64), expected, 2.0**-8, 1e-5 * most)
        assert np.isnan(expected[1]).all() if m > 1 else np.isfinite(expected).all()


def test_what_a_spec_cannot_be() -> None:
    kinds = "'', 'range', 'smooth', 'rotate', 'static', alone"
    for wrong in ({"rewrite": "other"}, {"rewrite": "range", "copies": 64}):
        with pytest.raises(ValueError, match=kinds):
            ScaledMatmulSpec(128, 8, **wrong)
    with pytest.raises(ValueError, match="100 columns are rotated: expected a multiple of 64"):
        ScaledMatmulSpec(100, 8, rewrite="rotate")
    with pytest.raises(ValueError, match="rows to normalize are f32 and not empty"):
        ScaledMatmulSpec(128, 8, a="bf16", norm=Norm("rms", 1e-6))


def error(name: str, weights: np.ndarray, x: np.ndarray) -> float:
    made = named(name)
    encoded = made.encode(weights, inputs_of(x))
    exact = x.astype(np.float64) @ weights
    return float(np.linalg.norm(made.multiply(x, encoded) - exact) / np.linalg.norm(exact))


def test_outliers_cost_accuracy_only_where_they_share_a_scale() -> None:
    x = outlying(200, 192)
    weights = np.random.default_rng(1).standard_normal((192, 40)).astype(np.float32)
    weights[::17] /= 20
    plain = error("w8a8-sym", weights, x)
    assert error("w8a8-o32", weights, x) < plain / 3
    assert error("w8a8-d64", weights, x) < plain / 2


def test_copies_add_up_to_the_code() -> None:
    """x = s q with one q for all copies, whatever the row."""
    made = named("w8a8-d64")
    x = outlying(50, 80)
    encoded = made.encode(np.ones((80, 3), np.float32), inputs_of(x))
    channels = encoded["channels"]
    assert len(channels) == 64
    assert (np.diff(channels) >= 0).all()
    times = 1 + np.bincount(channels, minlength=80)
    scale = (np.abs(x) / times).max(axis=1, keepdims=True) / 127
    codes = made.read(x, encoded) / scale
    assert np.abs(codes - np.rint(codes)).max() < 1e-3
    assert (np.abs(np.rint(codes)) <= 127 * times).all()
    assert np.abs(made.read(x, encoded) - x).max() <= scale.max() * 0.501


def test_the_bf16_tail_is_the_rounded_product_of_its_channels() -> None:
    """Changing an outlier moves the result by its rounded change times its weights alone."""
    made = named("w8a8-o32")
    x = outlying(20, 192)
    weights = np.random.default_rng(2).standard_normal((192, 7)).astype(np.float32)
    encoded: Encoded = made.encode(weights, inputs_of(x))
    channel = int(encoded["channels"][0])
    moved = x.copy()
    moved[:, channel] = 64.0
    rounded = x[:, channel].astype(ml_dtypes.bfloat16).astype(np.float64)
    step = made.multiply(moved, encoded) - made.multiply(x, encoded)
    wanted = np.outer(64.0 - rounded, made.decode(encoded)[channel].astype(np.float64))
    np.testing.assert_allclose(step, wanted, 1e-9, 1e-9)
