"""Gathers that the region that reads them loads by itself, on GPUs."""

import numpy as np
import pytest
from support.draft_graph import Draft, weights
from support.region_oracle import reference

from tilewright.backends.llvm.lowering.inlined import inlined_gathers
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.program import Launch
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.target import lookup
from tilewright.compiler.ir.core import Region, Value
from tilewright.compiler.ir.ops import binary, shape
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.nn import LayerNorm

GPU, CPU = lookup("sm_90a"), lookup("x86-64-v3")
WORDS, WIDTH, SEQ = 50, 24, 7


def embedding(readers: int = 1):
    """norm(table[ids] + places), as many times as there are readers."""
    d = Draft((1, 64))
    ids = d.input("ids", "i64", "b", SEQ)
    table, places = d.constant(weights(WORDS, WIDTH)), d.constant(weights(SEQ, WIDTH, seed=1))
    scale, bias = (d.constant(weights(WIDTH, seed=k)) for k in (2, 3))
    rows = d(shape.Gather, x=table, indices=ids, axis=0)
    made = []
    for _ in range(readers):
        given = (rows, places, scale, bias)
        params = tuple(Value(v.type, f"p{k}") for k, v in enumerate(given))
        total = binary.Add(a=params[0], b=params[1])
        norm = LayerNorm(x=total.out, scale=params[2], bias=params[3], axis=2, eps=1e-5)
        body = Region(params, (total, norm), (norm.out,))
        made.append(d(Fused, inputs=given, body=body))
    return d.graph(*made)


def launches(graph, target):
    low = lower(graph, target)
    return low, [s for s in low.program.steps if isinstance(s, Launch)]


def test_one_launch_gathers_and_normalizes():
    low, (launch,) = launches(embedding(), GPU)
    assert isinstance(launch.spec, RegionSpec)
    assert launch.error
    packed = {at: weight.load() for at, weight in low.weights.values()}
    ids = np.array([[0, 49, 3, -1, 7, 7, -50], [1, 2, 3, 4, 5, 6, 7]], np.int64)
    arrays = [
        ids if place.kind == "input" else np.asarray(packed[place.index]).view(np.float32)
        for place in launch.operands[: len(launch.spec.inputs)]
    ]
    sizes = [ids.size * WIDTH]
    (found,) = reference(launch.spec, arrays, (len(ids),), sizes)
    table, places, scale, bias = (
        weights(WORDS, WIDTH),
        weights(SEQ, WIDTH, seed=1),
        weights(WIDTH, seed=2),
        weights(WIDTH, seed=3),
    )
    x = (table[ids] + places).astype(np.float64)
    x -= x.mean(-1, keepdims=True)
    wanted = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("target", "readers"), [(CPU, 1), (GPU, 2)])
def test_others_have_a_launch_of_their_own(target, readers):
    graph = embedding(readers)
    assert not inlined_gathers(graph, target)
    _, found = launches(graph, target)
    assert len(found) == 1 + readers


def test_a_region_that_falls_apart_leaves_the_gather_alone():
    """A body of two domains is a launch for each operation, which read the gathered rows."""
    d = Draft((1, 64))
    ids = d.input("ids", "i64", "b", SEQ)
    rows = d(shape.Gather, x=d.constant(weights(WORDS, WIDTH)), indices=ids, axis=0)
    param = Value(rows.type, "p")
    vectors = [Value(d.constant(weights(WIDTH, seed=k)).type, f"v{k}") for k in range(2)]
    norm = LayerNorm(x=param, scale=vectors[0], bias=vectors[1], axis=2, eps=1e-5)
    whole = LayerNorm(x=norm.out, scale=None, bias=None, axis=1, eps=1e-5)
    given = (rows, *(d.constant(weights(WIDTH, seed=k)) for k in range(2)))
    body = Region((param, *vectors), (norm, whole), (whole.out,))
    graph = d.graph(d(Fused, inputs=given, body=body))
    assert inlined_gathers(graph, GPU)
    low, found = launches(graph, GPU)
    assert len(found) == 3
    assert any("not one kernel" in text for _, text in low.notes)
