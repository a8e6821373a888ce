"""The same bits for any number of threads, run after run, with more threads than CPUs too."""

import numpy as np
import pytest
from support.compiled_graph import build, random_feeds
from support.draft_graph import Draft, weights

import tilewright
from tilewright.compiler.ir.ops import nn, reduce, unary
from tilewright.compiler.ir.ops.contraction import Contract


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Products wide and narrow, rows that are normalized, a sum over rows; and its graph."""
    d = Draft((1, 2000))
    x = d.input("x", "f32", "n", 48)
    wide = d(Contract, a=x, b=d.constant(weights(48, 328)), spec="mk,kn->mn")
    soft = d(nn.Softmax, x=wide, axis=1)
    narrow = d(Contract, a=soft, b=d.constant(weights(328, 40, seed=1)), spec="mk,kn->mn")
    y = d(unary.Tanh, x=narrow)
    graph = d.graph(y, d(reduce.Reduce, x=y, kind="sum", axes=(0,)))
    path = tmp_path_factory.mktemp("threads") / "model.tw"
    build(graph, path)
    return path, graph


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_many_runs_give_the_bits_of_one_thread(model, threads):
    path, graph = model
    cases = [random_feeds(graph, {"n": n}, seed=n) for n in (1, 2, 7, 64, 301, 1999)]
    with tilewright.load(path, threads=1) as one, tilewright.load(path, threads=threads) as many:
        wanted = [one.run(None, {"x": x}) for (x,) in cases]
        for turn in range(40):
            for (x,), want in zip(cases, wanted, strict=True):
                for got, expected in zip(many.run(None, {"x": x}), want, strict=True):
                    np.testing.assert_array_equal(got, expected, f"turn {turn}, {len(x)} rows")
