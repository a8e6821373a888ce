"""The epilogue program: every op as emitted against numpy, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir

from tilewright.backends.kernels.f32_matmul import FAMILY, MatmulSpec, packing
from tilewright.backends.kernels.family import evaluate as formula
from tilewright.backends.llvm.epilogue import ARITY, Epilogue, Extra, Step, evaluate
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.target import TARGETS, Target, runs_here

# No -0: the sum that makes the product starts at +0.
VALUES = np.array(
    [0.0, 1.5, -2.25, np.nan, np.inf, -np.inf, 1e-40, 88.0, -90.0, 3e-3, 7.0], np.float32
)
APART = ("constant", "where", "integer", "convert")
PLAIN = [op for op in ARITY if op not in APART]
GATES = ("gelu_erf", "gelu_tanh", "silu")
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal")
ROWS = [t for t in TARGETS.values() if runs_here(t)]


def program(op: str) -> Epilogue:
    """``op`` of the product and, for binary ops, of a full extra."""
    count, immediates = ARITY[op]
    step = Step(op, tuple(range(count)), (-1.0, 2.0)[:immediates])
    extras = (Extra("full"),)
    if op in COMPARISONS:
        return Epilogue(extras, (step, Step("where", (2, 0, 1))), 3)
    return Epilogue(extras, (step,), 2)


@pytest.mark.parametrize("target", ROWS, ids=lambda t: t.name)
def test_every_op_is_numpys(target: Target) -> None:
    # A product with the 1 x 1 identity is the value itself, NaN and infinities included.
    x = np.repeat(VALUES, len(VALUES))[:, None]
    y = np.tile(VALUES, len(VALUES))[:, None]
    module = ir.Module("ops")
    specs = {op: MatmulSpec(1, 1, program(op)) for op in PLAIN}
    for op, spec in specs.items():
        FAMILY.emit(module, spec, target, op)
    library = compile_module(module, target)
    for op, spec in specs.items():
        weights = packing.pack(np.ones((1, 1), np.float32), spec)
        out = np.zeros_like(x)
        dims = (len(x), 1, 1, 1)
        scratch = np.zeros(formula(FAMILY.scratch_bytes(spec), dims), np.uint8)
        ranges = [(0, formula(FAMILY.units(spec), dims))]
        assert call(library.kernel(op), [x, weights, y, out], dims, ranges, scratch) == 0
        with np.errstate(all="ignore"):
            wide = [x.astype(np.float64), y.astype(np.float64)]
            expected = evaluate(spec.epilogue, wide[0], wide[1:]).astype(np.float32)
        # Of -inf the formulas of the gates say -inf * 0, the emitters their limit 0.
        fixed = np.isneginf(x) if op in GATES else np.zeros(x.shape, bool)
        assert not np.any(out[fixed]), op
        np.testing.assert_allclose(out[~fixed], expected[~fixed], 1e-6, 1e-37, err_msg=op)


@pytest.mark.parametrize("target", ROWS, ids=lambda t: t.name)
def test_rounded_quotients_are_those_of_a_division(target: Target) -> None:
    """Of values whose quotients are near halves, where one unit of the last place decides."""
    rng = np.random.default_rng(5)
    divisors = [float(np.float32(d)) for d in (0.003921569, 0.1, 3.0, 1e-17, 7e15, 0.0317)]
    module = ir.Module("quotients")
    for i, divisor in enumerate(divisors):
        epilogue = Epilogue((), (Step("round_quotient", (0,), (divisor,)),), 1)
        FAMILY.emit(module, MatmulSpec(1, 1, epilogue), target, f"k{i}")
    library = compile_module(module, target)
    for i, divisor in enumerate(divisors):
        by = np.float32(divisor)
        halves = rng.integers(-300, 300, 4000) + 0.5
        x = (halves * divisor).astype(np.float32)
        x = np.concatenate((x, np.nextafter(x, np.float32(np.inf)), x * np.float32(0.77)))[:, None]
        spec = MatmulSpec(1, 1, Epilogue((), (Step("round_quotient", (0,), (divisor,)),), 1))
        out, dims = np.zeros_like(x), (len(x), 1, 1)
        scratch = np.zeros(formula(FAMILY.scratch_bytes(spec), dims), np.uint8)
        weights = packing.pack(np.ones((1, 1), np.float32), spec)
        ranges = [(0, formula(FAMILY.units(spec), dims))]
        assert call(library.kernel(f"k{i}"), [x, weights, out], dims, ranges, scratch) == 0
        np.testing.assert_array_equal(out, np.rint(x / by))


@pytest.mark.parametrize(
    ("extras", "steps", "result", "message"),
    [
        ((), (Step("softmax", (0,)),), 1, "unknown epilogue op 'softmax'; known ops: add, sub"),
        ((), (Step("add", (0,)),), 1, "'add' takes 2 operands and 0 immediates, got 1 and 0"),
        ((), (Step("neg", (1,)),), 1, "refers to a value that is not yet defined"),
        ((), (), 1, "epilogue result 1 is not one of its 1 values"),
        ((Extra("diagonal"),), (), 0, "unknown epilogue index map 'diagonal'"),
    ],
)
def test_malformed_programs_are_refused(
    extras: tuple[Extra, ...], steps: tuple[Step, ...], result: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Epilogue(extras, steps, result)
