"""Elementwise fallback kernels and casts, on every element type, against the reference."""

import zlib

import ml_dtypes  # noqa: F401 - registers the narrow types with numpy
import numpy as np
import pytest
from support.irregular_runner import check

from tilewright.compiler.ir.core import OPS, Region, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, control, leaf, shape, unary
from tilewright.compiler.ir.types import DType, TensorType

FLOATS = (DType.F64, DType.F32, DType.F16, DType.BF16)
INTS = (DType.I64, DType.I32, DType.I16, DType.I8, DType.I4, DType.U64, DType.U8, DType.U4)
NARROW = (
    *(DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F8E8M0),
    DType.F4E2M1,
)
SPECIALS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, np.inf, -np.inf, np.nan, 1e-30, 3.7, -2.5, 88.0]


def value(dtype: DType, *dims: object) -> Value:
    return Value(TensorType(dtype, dims))  # type: ignore[arg-type]


def samples(dtype: DType, shape: tuple[int, ...], seed: str) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    if dtype == DType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_float:
        x = rng.normal(size=shape) * rng.choice([0.1, 1.0, 30.0], size=shape)
        flat = x.reshape(-1)
        some = SPECIALS[: max(0, flat.size - 2)]
        flat[: len(some)] = some
        with np.errstate(all="ignore"):
            return x.astype(np.float32).astype(dtype.numpy)
    low = -(2 ** (dtype.bits - 1)) if dtype.kind == "int" else 0
    high = 2 ** (dtype.bits - (dtype.kind == "int")) - 1
    x = rng.integers(max(low, -100), min(high, 100), shape, endpoint=True)
    flat = x.reshape(-1)
    edges = [low, high, 0, 1, -1 if low else 1, low]
    if flat.size >= len(edges) and dtype != DType.U64:
        flat[: len(edges)] = edges
    return x.astype(dtype.numpy)


TOLERANCE = {DType.F64: 1e-13, DType.F32: 1e-6, DType.F16: 2e-3, DType.BF16: 1.6e-2}
FLOAT_UNARY = sorted(
    name
    for name, cls in OPS.items()
    if cls.__module__ == unary.__name__ and name not in ("not", "bit_not", "cast", "bitcast")
)
# vecmath's own bounds for f32: relative to 1 for the periodic functions.
WIDE = {"tan": 1e-4, "sin": 1e-4, "cos": 1e-4, "gelu": 3e-6, "gelu_tanh": 1e-5, "silu": 1e-5}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", FLOAT_UNARY)
def test_float_unary(name: str, dtype: DType) -> None:
    x = value(dtype, 37)
    data = samples(dtype, (37,), name)
    loose = WIDE.get(name, 0.0) if dtype == DType.F32 else 0.0
    op = OPS[name](x=x)  # type: ignore[call-arg]
    check(op, [data], rtol=max(TOLERANCE[dtype], loose), atol=1e-7 if loose else 1e-15)


@pytest.mark.parametrize("dtype", INTS, ids=str)
@pytest.mark.parametrize("name", ["neg", "abs", "sign", "relu", "bit_not"])
def test_integer_unary(name: str, dtype: DType) -> None:
    x = value(dtype, 3, 7)
    check(OPS[name](x=x), [samples(dtype, (3, 7), name)])  # type: ignore[call-arg]


NUMBER = ("add", "sub", "mul", "div", "mod", "fmod", "min", "max", "eq", "lt", "le", "gt", "ge")
INTEGER = ("bit_and", "bit_or", "bit_xor", "shift_left", "shift_right")


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
@pytest.mark.parametrize("name", [*NUMBER, *INTEGER, "pow"])
def test_binary(name: str, dtype: DType) -> None:
    if dtype.is_float and name in INTEGER:
        return
    a, b = value(dtype, 5, 13), value(dtype, 5, 13)
    data = [samples(dtype, (5, 13), name), samples(dtype, (5, 13), "b" + name)[:, ::-1].copy()]
    rtol = TOLERANCE[dtype] * 2 if dtype.is_float and name == "pow" else 0.0
    check(OPS[name](a=a, b=b), data, rtol=rtol)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["and", "or", "xor", "eq"])
def test_logical(name: str) -> None:
    a, b = value(DType.BOOL, 4, 3), value(DType.BOOL, 3)
    data = [samples(DType.BOOL, (4, 3), "p"), samples(DType.BOOL, (3,), "q")]
    check(OPS[name](a=a, b=b), data)  # type: ignore[call-arg]
    check(unary.Not(x=a), data[:1])


def test_fmod_is_exact() -> None:
    rng = np.random.default_rng(5)
    a = (rng.normal(size=400) * 10.0 ** rng.integers(-300, 300, 400)).astype(np.float64)
    b = (rng.normal(size=400) * 10.0 ** rng.integers(-300, 300, 400)).astype(np.float64)
    a[:6] = [5e-324, 1e308, 2.2e-308, 6.0, -6.0, 0.0]
    b[:6] = [5e-324, 5e-324, 1e-310, 3.0, 3.0, -3.0]
    check(binary.Fmod(a=value(DType.F64, 400), b=value(DType.F64, 400)), [a, b])
    check(binary.Mod(a=value(DType.F64, 400), b=value(DType.F64, 400)), [a, b])


def test_broadcasting_and_symbols() -> None:
    n = sym("n")
    a, b, c = value(DType.F16, 2, 1, n), value(DType.F16, 3, 1), value(DType.BOOL, n)
    for size in (0, 1, 5):
        data = [
            samples(DType.BOOL, (size,), "c"),
            samples(DType.F16, (2, 1, size), "a"),
            samples(DType.F16, (3, 1), "b"),
        ]
        check(binary.Where(condition=c, a=a, b=b), data, {"n": size})
    scalar, row = value(DType.I32), value(DType.I32, n)
    check(binary.Sub(a=scalar, b=row), [np.int32(7), np.arange(2000, dtype=np.int32)], {"n": 2000})
    check(shape.Broadcast(x=b, shape=(n, 3, 4)), [samples(DType.F16, (3, 1), "b")], {"n": 2})
    check(binary.Add(a=scalar, b=scalar), [np.int32(7), np.int32(7)])


ALL = (*FLOATS, *NARROW, *INTS, DType.I2, DType.U2, DType.BOOL)


@pytest.mark.parametrize("target", ALL, ids=str)
@pytest.mark.parametrize("source", ALL, ids=str)
def test_cast(source: DType, target: DType) -> None:
    data = samples(source, (41,), "cast")
    if target == DType.F4E2M1 and source.is_float:  # it has no NaN
        data = np.where(np.isnan(data.astype(np.float64)), source.numpy.type(1), data)
    for saturate in (True, False):
        check(unary.Cast(x=value(source, 41), dtype=target, saturate=saturate), [data])


@pytest.mark.parametrize(
    "isa", ["x86-64-v2", pytest.param("x86-64-v4", marks=pytest.mark.isa("avx512f"))]
)
@pytest.mark.parametrize("target", [DType.F16, DType.BF16, *NARROW], ids=str)
def test_narrow_floats_round_once(target: DType, isa: str) -> None:
    """Every code, the middle between neighbours, and doubles just off the middle."""
    bits = np.arange(1 << min(target.bits, 12)).astype(f"u{target.numpy.itemsize}")
    if target.bits == 16:
        bits = bits * 16 + 5
    with np.errstate(all="ignore"):
        codes = bits.view(target.numpy).astype(np.float64)
    finite = np.unique(codes[np.isfinite(codes)])
    middle = (finite[1:] + finite[:-1]) / 2
    near = np.concatenate([finite, middle, middle * (1 + 1e-12), middle * (1 - 1e-12)])
    for source in (DType.F64, DType.F32):
        with np.errstate(all="ignore"):
            data = near.astype(source.numpy)
        op = unary.Cast(x=value(source, data.size), dtype=target, saturate=False)
        check(op, [data], target=isa)
    back = unary.Cast(x=value(target, bits.size), dtype=DType.F32)
    check(back, [bits.view(target.numpy)], target=isa)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (DType.F32, DType.I32), (DType.I64, DType.F64), (DType.F16, DType.U16),
        (DType.I16, DType.BF16), (DType.U8, DType.F8E4M3FN), (DType.I4, DType.U4),
    ],
    ids=str,
)  # fmt: skip
def test_bitcast(source: DType, target: DType) -> None:
    data = samples(source, (20,), "bits")
    data = np.where(np.isnan(data.astype(np.float64)), source.numpy.type(1), data)
    check(unary.Bitcast(x=value(source, 20), dtype=target), [data])


def test_fused_chain_rounds_every_step() -> None:
    a, b = value(DType.F16, 6, 9), value(DType.F16, 9)
    total = binary.Add(a=a, b=b)
    scaled = binary.Mul(a=total.out, b=a)
    done = unary.Relu(x=scaled.out)
    body = Region((a, b), (total, scaled, done), (done.out,))
    x, y = value(DType.F16, 6, 9), value(DType.F16, 9)
    fused = control.Fused(inputs=(x, y), body=body)
    check(fused, [samples(DType.F16, (6, 9), "x"), samples(DType.F16, (9,), "y")])


def test_leaves() -> None:
    n = sym("n")
    for dtype in (DType.I64, DType.F32, DType.F16, DType.U8):
        check(leaf.Iota(length=n, dtype=dtype), [], {"n": 1500 if dtype != DType.U8 else 200})
    check(leaf.DimValue(size=n * 2 + 1), [], {"n": 5})
    for dtype, number in ((DType.F32, 0.1), (DType.BF16, -np.inf), (DType.I8, -7), (DType.BOOL, 1)):
        check(leaf.Fill(value=number, type=TensorType(dtype, (n, 3))), [], {"n": 5})


def test_guard() -> None:
    x, condition = value(DType.F64, 4), value(DType.BOOL, 3)
    op = control.Guard(x=x, condition=condition, message="no")
    check(op, [np.arange(4.0), np.array([True, True, True])])
    check(op, [np.arange(4.0), np.array([True, False, True])])
