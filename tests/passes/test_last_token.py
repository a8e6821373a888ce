"""Outputs cut down to their last position, and what is left of the graph then."""

import numpy as np
import pytest

from tilewright.backends.reference import run
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.last_token import keep_last_token
from tilewright.passes.pipelines import run_pipeline

TEXT = """graph @g(%x: f32[b, s, 4], %w: f32[4, 6]) {{
  symbols {{
    b: 1..4 shape(0, 0)
    s: {low}..8 shape(0, 1)
  }}
  %1 = exp %x : f32[b, s, 4]
  %2 = contract %1, %w {{spec = "bsk,kn->bsn"}} : f32[b, s, 6]
  %3 = reduce %1 {{kind = "sum", axes = [0, 1, 2], keepdims = false}} : f32[]
  return %2 as "logits", %1 as "hidden", %3 as "total"
}}
"""


def graph(low: int = 1) -> Graph:
    return parse_graph(TEXT.format(low=low))


def test_other_positions_are_not_computed() -> None:
    whole = graph()
    last = run_pipeline(keep_last_token(whole, ["logits"]), ["narrow-slices"])
    assert [str(v.type) for v in last.outputs] == ["f32[b, 1, 6]", "f32[b, s, 4]", "f32[]"]
    (product,) = [op for op in last.ops if op.opname == "contract"]
    assert str(product.out.type) == "f32[b, 1, 6]"
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(s).astype(np.float32) for s in ((2, 5, 4), (4, 6))]
    want, got = run(whole, feeds), run(last, feeds)
    np.testing.assert_array_equal(got[0], want[0][:, -1:])
    np.testing.assert_array_equal(got[1], want[1])


def test_nothing_asked_nothing_changed() -> None:
    whole = graph()
    assert keep_last_token(whole, []) is whole


@pytest.mark.parametrize(
    ("low", "name", "message"),
    [
        (1, "logit", "output 'logit': the model has no such output\n  try: did you mean 'logits'?"),
        (1, "total", "output 'total': has no axis of positions\n  expected at least two axes"),
        (0, "logits", "output 'logits': may have no last position\n  the size of its axis of"),
    ],
)
def test_refusals(low: int, name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        keep_last_token(graph(low), [name])
    assert str(error.value).startswith(message)
