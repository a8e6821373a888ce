"""Accuracy and special cases of our own exp, log, erf, ... against longer arithmetic."""

import ctypes
import warnings

import numpy as np
import pytest
import scipy.special
from llvmlite import binding, ir

from tilewright.backends import target
from tilewright.backends.llvm.emit.llvm_arith import LlvmArith
from tilewright.backends.llvm.emit.numpy_arith import NumpyArith
from tilewright.backends.llvm.jit import Library
from tilewright.backends.llvm.vecmath import UNARY, emit_pow, emit_unary
from tilewright.backends.llvm.vecmath_pow import pow_

WIDE = np.longdouble
POINTS = 1 << 16
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1.5, 2.0**-126, 3e38, -3e38]
SPECIAL += [1e-45, -1e-45, 1e-40, 88.72, 88.73, -87.3, -87.4, -103.9, -104.1, 127.9, 128.0, -149.5]

# Largest error in units of the last place, f32; the docstrings state the same bounds.
LIMITS_F32 = dict.fromkeys(UNARY, 0.6) | {
    "exp": 1.5, "exp2": 1.5, "log": 1.5, "tanh": 2.5, "erf": 2.5, "sigmoid": 2.5, "softplus": 2.0,
    "sin": 2.0, "cos": 2.0, "tan": 3.0,
}  # fmt: skip
LIMITS_F64 = dict.fromkeys(UNARY, 4.0) | {"exp": 1.5, "log": 1.5, "sin": 2.0, "cos": 2.0}
# Relative error against max(|result|, floor): the tails are far below what an activation adds to.
ONLY_CLOSE = {"gelu_erf": (1e-6, 0.01), "gelu_tanh": (1e-6, 0.01), "silu": (4e-7, 1e-29)}


def reference(name, x):
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(x))
        gate = np.where(x < 0, e, WIDE(1)) / (1 + e)
        if name == "sigmoid":
            return gate
        if name == "silu":
            return np.where(x == -np.inf, 0, x * gate)
        if name == "softplus":
            return np.maximum(x, 0) + np.log1p(e)
        if name == "erf":
            return scipy.special.erf(x.astype(np.float64)).astype(WIDE)
        if name == "gelu_erf":
            half = scipy.special.erfc((-x * np.sqrt(WIDE(0.5))).astype(np.float64)) / 2
            return np.where(x == -np.inf, 0, x * half)
        if name == "gelu_tanh":
            c = 2 * np.sqrt(2 / WIDE(np.pi))
            y = x / (1 + np.exp(-c * (x + WIDE(0.044715) * x**3)))
            return np.where(x == -np.inf, 0, y)
        names = {"acos": "arccos", "asin": "arcsin", "atan": "arctan"}
        names |= {"acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh"}
        return getattr(np, names.get(name, name))(x)


def arguments(dtype, trig=False):
    rng = np.random.default_rng(7)
    integers = np.int32 if dtype == np.float32 else np.int64
    info = np.iinfo(integers)
    anywhere = rng.integers(info.min, info.max, POINTS, dtype=integers).view(dtype)
    parts = [rng.normal(size=POINTS), rng.normal(size=POINTS) * 10, rng.uniform(-110, 110, POINTS)]
    parts += [1 + rng.normal(size=POINTS) * 0.01, rng.uniform(-1, 1, POINTS), np.array(SPECIAL)]
    parts.append(rng.uniform(-1e4, 1e4, POINTS))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = np.concatenate([anywhere, *(p.astype(dtype) for p in parts)])
    # f64 sine and cosine are stated for |x| <= 1e5.
    return x[~(np.abs(x) > 1e5) | np.isinf(x)] if trig and dtype == np.float64 else x


def ulps(got, want, dtype):
    """Error of finite results in ulp of ``want``, and whether all others agree."""
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        finite = np.isfinite(rounded)
        size = np.maximum(np.abs(np.where(finite, want, 1)), info.tiny)
        unit = np.exp2(np.floor(np.log2(size)) - info.nmant)
        error = np.where(finite, np.abs(got.astype(WIDE) - want) / unit, 0)
    rest = (np.isnan(rounded) & np.isnan(got)) | (rounded == got) | finite
    return error, rest


@pytest.mark.parametrize("fused", [True, False], ids=["fma", "no-fma"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", sorted(UNARY))
def test_error_is_within_the_stated_bound(name, dtype, fused):
    x = arguments(dtype, trig=name in ("sin", "cos", "tan"))
    with np.errstate(all="ignore"):
        got = UNARY[name](NumpyArith(fused), x)
        want = reference(name, x.astype(WIDE))
    error, rest = ulps(got, want, dtype)
    assert rest.all(), (x[~rest][:5], got[~rest][:5], want[~rest][:5])
    if name in ONLY_CLOSE:
        limit, floor = ONLY_CLOSE[name] if dtype == np.float32 else (1e-13, 0.01)
        with np.errstate(all="ignore"):
            finite = np.isfinite(want.astype(dtype))
            close = np.abs(got - want) / np.maximum(np.abs(want), WIDE(floor))
        i = np.argmax(np.where(finite, close, 0))
        assert close[i] <= limit, (x[i], got[i], want[i], float(close[i]))
        return
    limit = (LIMITS_F32 if dtype == np.float32 else LIMITS_F64)[name]
    i = np.argmax(error)
    assert error[i] <= limit, (x[i], got[i], want[i], float(error[i]))
    zero = (x == 0) & ~np.isnan(got)
    assert (np.signbit(got[zero]) == np.signbit(want[zero])).all()


def test_pow_of_f32_is_within_one_ulp_with_all_special_cases():
    rng = np.random.default_rng(3)
    specials = np.array([*SPECIAL, 2, -2, 3, -3, 4, 1 / 3, 2.0**24 + 2, 16777217, -5], np.float32)
    x, y = (g.ravel() for g in np.meshgrid(specials, specials))
    n = 1 << 18
    x = np.concatenate([x, np.abs(rng.normal(size=n)), rng.normal(size=n) * 100])
    y = np.concatenate([y, rng.normal(size=n) * 10, np.rint(rng.normal(size=n) * 8)])
    x, y = x.astype(np.float32), y.astype(np.float32)
    with np.errstate(all="ignore"):
        got = pow_(NumpyArith(), x, y)
        want = np.power(x.astype(WIDE), y.astype(WIDE))
    error, rest = ulps(got, want, np.float32)
    bad = ~rest
    assert rest.all(), list(zip(x[bad], y[bad], got[bad], want[bad], strict=True))[:5]
    i = np.argmax(error)
    assert error[i] <= 1, (x[i], y[i], got[i], want[i])
    with np.errstate(all="ignore"):
        zeros = want.astype(np.float32) == 0
    assert (np.signbit(got[zeros]) == np.signbit(want[zeros])).all()


def test_huge_f32_arguments_of_sine_use_all_the_bits_of_pi():
    x = np.float32([1e8, 2.0**27 + 16, 1e20, 3.4e38, -7.7e30, 2.0**127])
    got = UNARY["sin"](NumpyArith(), x)
    # sin of the exact values, from 200-digit arithmetic
    want = np.sin(x.astype(WIDE))
    assert np.abs(got - want).max() < 1e-7


def compiled(emit, dtype, lanes, row, arity=1):
    """``emit`` as a callable over arrays of ``lanes`` elements, compiled for target ``row``."""
    element = ir.FloatType() if dtype == np.float32 else ir.DoubleType()
    typ = ir.VectorType(element, lanes) if lanes else element
    module = ir.Module()
    module.triple = row.triple
    pointers = [ir.PointerType()] * (arity + 1)
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), "f")
    b = ir.IRBuilder(fn.append_basic_block())
    align = np.dtype(dtype).itemsize
    loads = [b.load(p, typ=typ, align=align) for p in fn.args[:-1]]
    b.store(emit(b, *loads), fn.args[-1], align=align)
    b.ret_void()
    machine = target.target_machine(row)
    parsed = binding.parse_assembly(str(module))
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    assert "call" not in assembly, "a libm call"
    library = Library(machine.emit_object(parsed))
    proto = ctypes.CFUNCTYPE(None, *([ctypes.c_void_p] * (arity + 1)))
    call = proto(library.address("f"))

    def run(*arrays):
        out = np.empty_like(arrays[0])
        step = lanes or 1
        for i in range(0, len(out), step):
            call(*(a[i:].ctypes.data for a in arrays), out[i:].ctypes.data)
        return out

    run.keep = library
    return run


@pytest.mark.parametrize("row", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", sorted(UNARY))
def test_llvm_code_gives_the_bits_of_the_numpy_steps(name, row):
    row = target.lookup(row)
    if not target.runs_here(row):
        pytest.skip(f"this machine lacks {sorted(set(row.required_flags) - target.cpu_flags())}")
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=471) * 4, np.array(SPECIAL), [1e9, 3e20, -2e38, 1e5]])
    x = x[: len(x) // row.lanes_f32 * row.lanes_f32].astype(np.float32)
    run = compiled(lambda b, v: emit_unary(b, name, v, fma=row.fma), np.float32, row.lanes_f32, row)
    with np.errstate(all="ignore"):
        want = UNARY[name](NumpyArith(row.fma), x)
    got = run(x)
    # The long double fma of the oracle rounds twice now and then, so f64 steps may differ by 1.
    same = (got.view(np.int32) == want.view(np.int32)) | (np.isnan(got) & np.isnan(want))
    near = np.abs(got.view(np.int32) - want.view(np.int32)) <= 1
    assert (same | near).all(), (x[~same][:4], got[~same][:4], want[~same][:4])
    assert same.mean() > 0.99


@pytest.mark.parametrize("lanes", [0, 8])
def test_pow_and_f64_compile_without_calls(lanes):
    row = target.detect()
    x = np.linspace(0.1, 30, 64)
    y = np.linspace(-3, 3, 64)
    run = compiled(lambda b, u, v: emit_pow(b, u, v, row.fma), np.float64, lanes, row, arity=2)
    assert np.allclose(run(x, y), x**y, rtol=1e-14, atol=0)
    for name in ("exp", "log", "erf", "tanh", "sin"):
        f = compiled(lambda b, v, n=name: emit_unary(b, n, v, row.fma), np.float64, lanes, row)
        want = reference(name, x.astype(WIDE)).astype(np.float64)
        assert np.allclose(f(x), want, rtol=1e-14, atol=1e-15)


def test_targets_without_fma_never_get_the_intrinsic():
    module = ir.Module()
    typ = ir.VectorType(ir.FloatType(), 4)
    fn = ir.Function(module, ir.FunctionType(typ, [typ]), "f")
    b = ir.IRBuilder(fn.append_basic_block())
    b.ret(UNARY["exp"](LlvmArith(b, fma=False), fn.args[0]))
    assert "llvm.fma" not in str(module)
