"""The general contraction and convolution kernels against the reference."""

import numpy as np
import pytest
from support.irregular_runner import check

from tilewright.compiler.ir.core import Region, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, unary
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.types import DType, TensorType

FLOATS = {DType.F64: 1e-12, DType.F32: 2e-6, DType.F16: 2e-3, DType.BF16: 1.6e-2}
INTS = (DType.I64, DType.I32, DType.I16, DType.I8, DType.U8)
SIZES = {"b": 2, "h": 3, "m": 5, "n": 37, "k": 19, "l": 2}


def value(dtype: DType, *dims: object) -> Value:
    return Value(TensorType(dtype, dims))  # type: ignore[arg-type]


def samples(dtype: DType, *dims: int) -> np.ndarray:
    rng = np.random.default_rng(sum(dims))
    if dtype.is_float:
        return rng.normal(size=dims).astype(np.float32).astype(dtype.numpy)
    low = 0 if dtype.kind == "uint" else -128
    return rng.integers(low, low + 255, dims, endpoint=True).astype(dtype.numpy)


SPECS = [
    "mk,kn->mn",
    "bmk,bnk->bmn",
    "km,nk->nm",
    "bhmk,bhkn->bmhn",
    "k,k->",
    "m,n->mn",
    "mkl,lkn->nm",
]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_contract(spec: str, dtype: DType) -> None:
    ia, ib = spec.split("->")[0].split(",")
    named = {letter: sym(letter) for letter in "mnk"}
    a = value(dtype, *(named.get(c, SIZES[c]) for c in ia))
    b = value(dtype, *(named.get(c, SIZES[c]) for c in ib))
    data = [samples(dtype, *(SIZES[c] for c in letters)) for letters in (ia, ib)]
    check(Contract(a=a, b=b, spec=spec), data, SIZES, rtol=FLOATS.get(dtype, 0), atol=1e-5)


def test_mixed_small_integers_and_empty_sums() -> None:
    op = Contract(a=value(DType.U8, 4, sym("k")), b=value(DType.I8, sym("k"), 33), spec="mk,kn->mn")
    for k in (0, 1, 300):
        check(op, [samples(DType.U8, 4, k), samples(DType.I8, k, 33)], {"k": k})


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.F16], ids=str)
def test_contract_epilogue(dtype: DType) -> None:
    first, bias, other = value(dtype, 3, 21), value(dtype, 21), value(dtype, 3, 1)
    total = binary.Add(a=first, b=bias)
    scaled = binary.Mul(a=total.out, b=other)
    done = unary.Cast(x=unary.Relu(x=scaled.out).out, dtype=DType.F32)
    relu = done.x.op
    assert relu is not None
    body = Region((first, bias, other), (total, scaled, relu, done), (done.out,))
    op = Contract(
        a=value(dtype, 3, 8), b=value(dtype, 8, 21), spec="mk,kn->mn",
        extras=(value(dtype, 21), value(dtype, 3, 1)), body=body,
    )  # fmt: skip
    data = [samples(dtype, *d) for d in ((3, 8), (8, 21), (21,), (3, 1))]
    check(op, data, rtol=FLOATS[dtype] * 2, atol=1e-5 if dtype != DType.F16 else 2e-2)


CONVS = [
    # spatial, taps, strides, low, high, dilations, groups, channels in and out of a group
    ((9,), (3,), (1,), (1,), (1,), (1,), 1, 4, 19),
    ((7, 6), (3, 2), (2, 1), (1, 0), (0, 1), (1, 2), 1, 3, 16),
    ((6, 5), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 5, 1, 1),
    ((6, 5), (2, 2), (3, 2), (2, 3), (1, 0), (2, 1), 2, 3, 17),
    ((3, 4, 5), (2, 1, 3), (1, 2, 1), (0, 0, 1), (1, 0, 1), (1, 1, 1), 1, 2, 3),
    ((8,), (3,), (1,), (-2,), (-1,), (1,), 1, 2, 4),
]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
@pytest.mark.parametrize("case", CONVS, ids=lambda c: "x".join(map(str, (*c[1], c[6]))))
def test_conv(case: tuple[object, ...], dtype: DType) -> None:
    spatial, taps, strides, low, high, dilations, groups, depth, width = case
    x = (2, *spatial, groups * depth)  # type: ignore[misc,operator]
    w = (*taps, depth, groups * width)  # type: ignore[misc,operator]
    named = (sym("batch"), sym("size"), *x[2:])
    op = Conv(
        x=value(dtype, *named), w=value(dtype, *w), strides=strides, pads_low=low,
        pads_high=high, dilations=dilations, groups=groups,
    )  # fmt: skip
    env = {"batch": 2, "size": x[1]}
    check(op, [samples(dtype, *x), samples(dtype, *w)], env, rtol=FLOATS.get(dtype, 0), atol=2e-5)
