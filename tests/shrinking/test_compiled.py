"""Graphs with smaller dimensions, compiled: heads whose values are shorter than their keys, norms
without vectors."""

import numpy as np
import pytest
from support import attention_graph, stream_graph

from tilewright.backends import reference
from tilewright.compiler.driver import compile_graph, run_passes
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.shrinking.heads import bases, value_heads, with_bases
from tilewright.passes.shrinking.rotation import rotated
from tilewright.passes.shrinking.streams import streams
from tilewright.runtime.session import load

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(6)


def agrees(graph, feeds, folder):
    fused = run_passes(graph, PIPELINES["fuse"])
    compile_graph(fused, folder / "small.tw", jobs=0)
    (want,) = reference.run(graph, feeds, precision="f64")
    with load(folder / "small.tw", threads=1) as session:
        (got,) = session.run(None, feeds)
    assert np.linalg.norm(got - want) < 1e-5 * np.linalg.norm(want)


def test_heads(tmp_path):
    graph = attention_graph.attending(groups=2, bias=True)
    (heads,) = value_heads(graph)
    w = graph.weights.array(heads.reader.b.op.name)
    x = RANDOM.standard_normal((200, len(w)))
    small = with_bases(graph, {heads: bases(heads, w, x.T @ x, 24)})
    feeds = {"x": RANDOM.standard_normal((2, 19, attention_graph.D)).astype(np.float32)}
    agrees(small, feeds, tmp_path)


def test_streams(tmp_path):
    graph = stream_graph.decoder(centred=True)
    (stream,) = streams(graph)
    basis = np.linalg.qr(RANDOM.standard_normal((stream.size, 16)))[0]
    agrees(rotated(graph, stream, basis), stream_graph.feeds(), tmp_path)
