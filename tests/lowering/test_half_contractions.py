"""f16 contractions with constant weights run on their kernel; sums and epilogue are f32."""

import numpy as np
import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, tensor, weights

from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.unary import Relu

ROWS = ({"m": 5}, {"m": 1}, {"m": 0}, {"m": 33})


@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "mk,kn->nm"])
def test_constant_weights_take_the_packed_kernel(spec: str) -> None:
    d = Draft()
    a = d.input("a", "f16", "m", 70)
    shape = (70, 40) if ",kn" in spec else (40, 70)
    graph = d.graph(d(Contract, a=a, b=d.constant(weights(*shape).astype("f2")), spec=spec))
    low = check_graph(graph, *ROWS, special=False)
    assert [label for label in labels(low) if label != "copy"] == ["half_matmul"]


def test_bias_activation_and_residual_are_fused() -> None:
    d = Draft()
    a, residual = d.input("a", "f16", "m", 48), d.input("r", "f16", "m", 40)
    bias = d.constant(weights(40).astype("f2"))

    def body(acc: Value, b: Value, r: Value) -> Value:
        half = d.constant(np.float16(0.5))
        return d(Add, a=d(Mul, a=d(Relu, x=d(Add, a=acc, b=b)), b=half), b=r)

    types = [tensor("f16", "m", 40), tensor("f16", 40), tensor("f16", "m", 40)]
    region = d.region(types, body)
    w = d.constant(weights(48, 40).astype("f2"))
    y = d(Contract, a=a, b=w, spec="mk,kn->mn", extras=(bias, residual), body=region)
    assert labels(check_graph(d.graph(y), *ROWS, special=False)) == ["half_matmul"]
