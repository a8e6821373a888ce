"""Random graphs: the passes keep the numbers, and the compiled artifact gives them too."""

from pathlib import Path

import numpy as np
import pytest
from support.compiled_graph import TOLERANCE, build, random_feeds, run_artifact
from support.random_graphs import ENVS, random_graph

from tilewright.backends import reference
from tilewright.compiler.driver import run_passes
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.print import print_graph
from tilewright.compiler.ir.verify import verify
from tilewright.passes.pipelines import PIPELINES

SAMPLE = range(25)
MANY = range(25, 625)


def compare(graph: Graph, feeds: list[np.ndarray], found: list[np.ndarray], what: str) -> None:
    """Within the type's tolerance and a few times what rounding did to the reference itself."""
    want = reference.run(graph, feeds)
    wide = reference.run(graph, feeds, precision="f64")
    for name, got, near, exact in zip(graph.output_names, found, want, wide, strict=True):
        where = f"{what}, output {name} for {[a.shape for a in feeds]}"
        assert got.dtype == near.dtype, where
        assert got.shape == near.shape, where
        if near.dtype.kind in "biu":
            np.testing.assert_array_equal(got, near, err_msg=where)
            continue
        got, near, exact = (a.astype(np.float64) for a in (got, near, exact))
        finite = np.isfinite(near) & np.isfinite(exact)
        scale = float(np.abs(near[finite]).max(initial=0.0))
        drift = float(np.abs(near[finite] - exact[finite]).max(initial=0.0))
        narrow = max(TOLERANCE.get(str(v.dtype.numpy), 0.0) for v in values_of(graph))
        tolerance = max(TOLERANCE[str(reference_dtype(graph, name))], narrow)
        np.testing.assert_allclose(
            got, near, rtol=tolerance, atol=tolerance * scale + 8 * drift, err_msg=where
        )


def values_of(graph: Graph) -> list:
    return [v for op in graph.ops for v in op.results] + list(graph.inputs)


def reference_dtype(graph: Graph, name: str) -> np.dtype:
    return graph.outputs[graph.output_names.index(name)].dtype.numpy


def check(seed: int, folder: Path) -> None:
    graph = random_graph(seed)
    verify(graph)
    text = print_graph(graph)
    assert print_graph(parse_graph(text, weights=graph.weights)) == text
    after = run_passes(graph, PIPELINES["default"])
    path = folder / "random.tw"
    envs = [ENVS[seed % len(ENVS)], ENVS[-1]]
    given = [random_feeds(graph, e, seed, special=seed % 3 == 0) for e in envs]
    wants = [reference.run(graph, feeds) for feeds in given]
    for feeds in given:
        compare(graph, feeds, reference.run(after, feeds), "passes")
    build(after, path)
    for feeds, want in zip(given, wants, strict=True):
        found = run_artifact(path, after, feeds, [w.shape for w in want], 1 + seed % 2)
        compare(graph, feeds, found, "artifact")


@pytest.mark.parametrize("seed", SAMPLE)
def test_random_graph(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", MANY)
def test_many_random_graphs(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.parametrize("seed", range(0, 25, 5))
def test_random_graphs_without_passes(seed: int, tmp_path: Path) -> None:
    """Every operation as a kernel of its own, no constants folded and nothing fused."""
    graph = random_graph(seed)
    path = tmp_path / "plain.tw"
    feeds = random_feeds(graph, ENVS[-1], seed, special=False)
    want = reference.run(graph, feeds)
    build(graph, path)
    compare(graph, feeds, run_artifact(path, graph, feeds, [w.shape for w in want]), "plain")


def test_the_generator_is_deterministic_and_covers_the_operations() -> None:
    texts = [print_graph(random_graph(seed)) for seed in SAMPLE]
    assert texts == [print_graph(random_graph(seed)) for seed in SAMPLE]
    names = {op.opname for seed in range(300) for op in random_graph(seed).ops}
    for name in ("contract", "conv", "attention", "loop", "if", "non_zero", "top_k", "pad",
                 "gather", "layer_norm", "softmax", "rope", "cast", "where", "concat"):  # fmt: skip
        assert name in names
