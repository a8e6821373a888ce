"""Activations for results of 16 bits: their errors over dense grids, with the least accurate
special functions that NVIDIA's manual permits."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from scipy.special import erf, expit, ndtr
from support.emulated_products import COMPILER, without_ptx

from tilewright.backends.cuda import activations, epilogue
from tilewright.backends.llvm.epilogue import Epilogue, Step

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

INSTRUCTIONS = """
static double slack;
static float epilogue_power(float x) { return exp2f(x); }
static float epilogue_inverse(float x) { return 1.0f / x; }
static float epilogue_tanh(float x) {
  const double t = tanh((double)x) * (1 + slack);
  return (float)(t > 1 ? 1 : t < -1 ? -1 : t);
}
"""
"""In place of the functions that are one instruction of PTX."""

SLACKS = (-(2.0**-11), 0.0, 2.0**-11)
"""Relative errors of the tangent."""

GATES = {
    "gelu_erf": lambda x: x * ndtr(x),
    "gelu_tanh": lambda x: x * expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
    "silu": lambda x: x * expit(x),
}


def grid():
    """Every 2^-16 from -16 to 16, and magnitudes from 2^-140 to 2^60."""
    far = np.exp2(np.linspace(-140, 60, 40001))
    return np.concatenate((np.arange(-(2**20), 2**20) / 2.0**16, far, -far)).astype(np.float32)


@cache
def library(op):
    """The operation as kernels with results of 16 bits have it, for this CPU."""
    text = epilogue.declare(Epilogue((), (Step(op, (0,)),), 1), fast=True)
    folder = Path(mkdtemp(prefix="tw-activation-"))
    try:
        (folder / "a.cpp").write_text(
            f'#include "{Path(__file__).parents[1] / "support" / "device_numbers.h"}"\n'
            f"{INSTRUCTIONS}{without_ptx(text)}"
            'extern "C" void run(const float *x, float *y, long n, double error) {\n'
            "  slack = error;\n"
            "  for (long i = 0; i < n; i++) y[i] = epilogue(Extras{}, x[i], 0, i);\n}\n"
        )
        options = "-std=c++17 -O2 -ffp-contract=off -mfma -mf16c -w -fPIC -shared -o"
        command = [COMPILER, *options.split(), str(folder / "a.so"), str(folder / "a.cpp")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
        return ctypes.CDLL(str(folder / "a.so")).run
    finally:
        shutil.rmtree(folder)


def evaluate(op, x, slack):
    y = np.empty_like(x)
    places = [ctypes.c_void_p(v.ctypes.data) for v in (x, y)]
    library(op)(*places, ctypes.c_long(len(x)), ctypes.c_double(slack))
    return y


@pytest.mark.parametrize("slack", SLACKS)
@pytest.mark.parametrize("op", GATES)
def test_gates_err_by_a_part_of_what_rounding_their_operand_changes(op, slack):
    x = grid()
    with np.errstate(over="ignore"):
        exact = GATES[op](x.astype(np.float64))
    error = np.abs(evaluate(op, x, slack) - exact)
    # Half a step of the least positive number: below the normal ones nothing is relative.
    assert np.all(error <= 2**-11.3 * np.abs(x) + 2.0**-149)


def test_the_formula_of_gelu_is_nearer_to_the_normal_distribution_than_the_usual_one():
    """Without errors of instructions."""
    x = grid()
    x = x[np.abs(x) > 1e-3]
    wide = x.astype(np.float64)
    ours, usual = (
        np.max(np.abs(evaluate(op, x, 0.0) - wide * ndtr(wide)) / np.abs(wide))
        for op in ("gelu_erf", "gelu_tanh")
    )
    assert ours < 1.41e-4
    assert usual > 1.7e-4


@pytest.mark.parametrize("op", GATES)
def test_specials_of_gates(op):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 100.0, -100.0], np.float32)
    y = evaluate(op, x, 0.0)
    # The gate of -inf is 0, and -inf * 0 is not a number; so say the formulas of the exact class.
    expected = [np.inf, np.nan, np.nan, 0.0, 0.0, 3e38, 0.0, 100.0, 0.0]
    np.testing.assert_array_equal(y, np.array(expected, np.float32))


@pytest.mark.parametrize("slack", SLACKS)
def test_results_in_bf16_are_those_of_the_exact_function_or_next_to_them(slack):
    """Where a gate's result is of the size of its operand."""
    x = grid()
    x = x[(x > -1) & (np.abs(x) > 1e-30) & (x < 1e18)]
    for op, exact in GATES.items():
        got, want = (bf16_steps(v) for v in (evaluate(op, x, slack), exact(x.astype(np.float64))))
        assert np.max(np.abs(got - want)) <= 1
        assert np.mean(got != want) < 0.09


def bf16_steps(x):
    """Numbers of bf16 in their order."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.int64)
    rounded = bits + 0x7FFF + (bits >> 16 & 1) >> 16
    return np.where(rounded & 0x8000, 0x8000 - rounded, rounded)


@pytest.mark.parametrize("slack", SLACKS)
def test_tangents_err_relative_to_themselves(slack):
    x = grid()
    exact = np.tanh(x.astype(np.float64))
    assert np.all(
        np.abs(evaluate("tanh", x, slack) - exact) <= 2**-10.9 * np.abs(exact) + 2.0**-149
    )
    ends = np.array([np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(
        evaluate("tanh", ends, 0.0), np.array([1, -1, np.nan], np.float32)
    )


@pytest.mark.parametrize(("op", "exact"), [("sigmoid", expit), ("erf", erf)])
def test_sigmoids_and_error_functions_err_absolutely(op, exact):
    x = grid()
    with np.errstate(over="ignore"):
        assert np.max(np.abs(evaluate(op, x, 0.0) - exact(x.astype(np.float64)))) < 5e-7


def test_every_text_names_functions_that_are_there():
    for text in activations.FAST.values():
        assert f" {text[: text.index('(')]}(float" in activations.HELPERS


def test_operations_of_epilogues_are_those_of_the_texts_that_they_get():
    both = Epilogue((), (Step("gelu_erf", (0,)), Step("add", (1, 0))), 2)
    assert activations.operations(both, fast=False) == 24 + 1
    assert activations.operations(both, fast=True) == 7 + 1
    assert activations.OPERATIONS.keys() == activations.FAST.keys()
