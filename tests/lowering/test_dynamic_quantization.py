"""Quantization at run time: the range of a tensor, products that quantize what they multiply."""

import numpy as np
import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, tensor

from tilewright.backends.llvm.irregular.quantization import BLOCK
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.binary import Add, Mul, Sub
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.quantization import QuantizationRange, Quantize
from tilewright.compiler.ir.ops.unary import Cast, Gelu
from tilewright.compiler.ir.types import DType

RNG = np.random.default_rng(7)
WEIGHTS = RNG.integers(-128, 127, (70, 40), np.int8, endpoint=True)


def product(keep: bool = False) -> Graph:
    """(q - zero) W scale + bias, GELU, residual; `keep`: q is a result too."""
    d = Draft()
    x, residual = d.input("x", "f32", "m", 70), d.input("r", "f32", "m", 40)
    scale, zero = d(QuantizationRange, x=x)
    q = d(Quantize, x=x, scale=scale, zero=zero)
    wide = d(Cast, x=zero, dtype=DType.I32)
    sums = d(Mul, a=wide, b=d.constant(WEIGHTS.sum(0, dtype=np.int32)))

    def body(acc: Value, s: Value, f: Value, b: Value, r: Value) -> Value:
        real = d(Mul, a=d(Cast, x=d(Sub, a=acc, b=s), dtype=DType.F32), b=f)
        return d(Add, a=d(Gelu, x=d(Add, a=real, b=b)), b=r)

    bias = d.constant(RNG.standard_normal(40).astype(np.float32))
    types = [tensor("i32", "m", 40), tensor("i32", 40), tensor("f32"), tensor("f32", 40)]
    region = d.region([*types, tensor("f32", "m", 40)], body)
    weights = d.constant(WEIGHTS)
    extras = (sums, scale, bias, residual)
    y = d(Contract, a=q, b=weights, spec="mk,kn->mn", extras=extras, body=region)
    return d.graph(y, q) if keep else d.graph(y)


def rows(m: int, factor: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal((m, 70)) * factor).astype(np.float32)


@pytest.mark.parametrize("keep", [False, True])
def test_a_product_quantizes_its_operand(keep: bool) -> None:
    graph = product(keep)
    for m in (1, 5, 33):
        given = [rows(m), RNG.standard_normal((m, 40)).astype(np.float32)]
        low = check_graph(graph, feeds=given)
        made = [name for name in labels(low) if name in ("fused", "contract")]
        assert made.count("contract") == 0
        # The sums of columns times the zero point, and the stored integers where they are wanted.
        assert made.count("fused") <= 2 + keep


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("factor", [0.0, 1e-44, 1e-30, 1.0, 1e30])
def test_scales_of_any_size(factor: float, keep: bool) -> None:
    given = [rows(9, factor), np.zeros((9, 40), np.float32)]
    with np.errstate(all="ignore"):
        check_graph(product(keep), feeds=given)


def quantized(most: int = 600) -> Graph:
    d = Draft((0, most))
    x = d.input("x", "f32", "m")
    scale, zero = d(QuantizationRange, x=x)
    return d.graph(scale, zero, d(Quantize, x=x, scale=scale, zero=zero))


@pytest.mark.parametrize("count", [0, 1, 3, 15, 16, 17, 63, 64, 65, 200])
def test_ranges_of_any_length(count: int) -> None:
    for values in (RNG.standard_normal(count), np.full(count, -3.0), np.full(count, 2.5)):
        check_graph(quantized(), feeds=[values.astype(np.float32)])


@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77])
@pytest.mark.parametrize("strange", [None, np.nan])
def test_long_ranges_are_those_of_their_blocks(count: int, strange: float | None) -> None:
    values = RNG.standard_normal(count).astype(np.float32)
    values[0], values[-1] = 7, -9
    if strange is not None:
        values[count // 2] = strange
    with np.errstate(all="ignore"):
        low = check_graph(quantized(1 << 20), feeds=[values], threads=2)
    assert labels(low).count("quantization_range") == 2


@pytest.mark.parametrize("at", [0, 20, 66])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(strange: float, at: int) -> None:
    values = RNG.standard_normal(67).astype(np.float32)
    values[at] = strange
    with np.errstate(all="ignore"):
        check_graph(quantized(), feeds=[values])


def test_halves_go_to_the_even_neighbour() -> None:
    """A range of 0 .. 255/4 has the scale 1/4: every odd eighth is a half."""
    values = (np.arange(511) / 8).astype(np.float32)
    values[-1] = 255 / 4
    check_graph(quantized(), feeds=[values])
