"""Normalizations by the kernels of products: which are, what is launched, that it is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.draft_graph import Draft, weights
from support.region_oracle import DTYPES
from support.region_oracle import reference as region_reference

from tilewright.backends import reference
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm.lowering import pricing
from tilewright.backends.llvm.lowering.choice import Region
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.normed_products import normed_products
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.tables import Tables
from tilewright.backends.llvm.program import Place, launches
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.profile import profile_for
from tilewright.backends.target import TARGETS
from tilewright.compiler.driver import run_passes
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import evaluate
from tilewright.compiler.ir.ops import binary, nn, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.selection.tables import solve_tables

GPU = TARGETS["sm_90a"]
ROWS, WIDTH, INNER = 20, 72, 136


class Block(Draft):
    """A layer norm, then two layers, each ``x = norm(x + gelu(x U) V)``."""

    def __init__(self, norm: str = "layer", axis: int = 1, kept: bool = False) -> None:
        super().__init__((1, 4096))
        self.kind, self.axis = norm, axis
        x = self.norm(self.input("x", "f32", "m", WIDTH), 1)
        for layer in range(2):
            h = self(unary.Gelu, x=self.product(x, INNER, 10 * layer + 2))
            self.sum = self(binary.Add, a=self.product(h, WIDTH, 10 * layer + 3), b=x)
            x = self.norm(self.sum, 10 * layer + 4)
        self.last = self(binary.Add, a=x, b=self.sum) if kept else x

    def norm(self, x: Value, seed: int) -> Value:
        fields = {"x": x, "axis": self.axis, "eps": 1e-5}
        if self.axis == 1:
            fields["scale"] = self.constant(weights(WIDTH, seed=seed))
        if self.kind == "rms":
            return self(nn.RmsNorm, **fields)
        if self.axis == 1:
            fields["bias"] = self.constant(weights(WIDTH, seed=seed + 5))
        return self(nn.LayerNorm, **fields)

    def product(self, x: Value, n: int, seed: int) -> Value:
        k = int(x.shape[-1])
        w = self.constant(weights(k, n, seed=seed) / np.float32(k**0.5))
        y = self(Contract, a=x, b=w, spec="mk,kn->mn")
        return self(binary.Add, a=y, b=self.constant(weights(n, seed=seed + 50)))

    def made(self) -> Graph:
        """Fused, as kernels take it."""
        return run_passes(self.graph(self.last), PIPELINES["fuse"])


def taking(way: int) -> Callable[[Tables], list[int]]:
    """A solver for which the other way of every fork costs too much: 0 the region, 1 the kernel."""

    def solve(problem: Tables) -> list[int]:
        costs = list(problem.costs)
        for at in range(len(costs) - len(problem.forks), len(costs)):
            costs[at] = tuple(0.0 if i == way else 1e3 for i in range(len(costs[at])))
        return list(solve_tables(replace(problem, costs=tuple(costs))))

    return solve


def lowered(graph: Graph, way: int, error: float = 1e-2, target: str = "sm_90a") -> Lowering:
    return lower(graph, TARGETS[target], error, Selecting({"m": ROWS}, solve=taking(way)))


def labels(low: Lowering) -> list[str]:
    return [step.label for step in launches(low.program.steps)]


def emulate(low: Lowering, x: np.ndarray) -> np.ndarray:
    """Every launch by the meaning of its spec: matrices whose rows follow each other."""
    env = {"m": len(x)}
    memory = {("input", 0): x.tobytes(), ("output", 0): bytes(4 * len(x) * WIDTH)}
    for i, buffer in enumerate(low.program.buffers):
        memory["arena", i] = bytes(evaluate(buffer.bytes, env))
    packed = {at: np.ascontiguousarray(weight.load()) for at, weight in low.weights.values()}
    memory |= {("weight", at): array.tobytes() for at, array in packed.items()}
    held = {key: np.frombuffer(bytearray(data), np.uint8) for key, data in memory.items()}

    def at(place: Place) -> np.ndarray:
        return held[place.kind, place.index][evaluate(place.offset, env) :]

    for launch in launches(low.program.steps):
        spec, places = launch.spec, launch.operands
        dims = tuple(evaluate(d, env) for d in launch.dims)
        if isinstance(spec, RegionSpec):
            count = len(spec.inputs)
            kinds = [DTYPES[k] for k in spec.inputs]
            given = [_seen(at(p), k) for p, k in zip(places[:count], kinds, strict=True)]
            found = region_reference(spec, given, dims, [(len(x) * WIDTH,)] * len(spec.outputs))
        else:
            product = getattr(spec, "product", spec)
            given = [_seen(at(p), np.dtype(np.float32)) for p in places[:-1]]
            given[0] = _seen(at(places[0]), DTYPES[getattr(product, "a", "f32")])
            given[1] = packed[places[1].index]
            for i, extra in enumerate(product.epilogue.extras):
                given[2 + i] = _seen(at(places[2 + i]), DTYPES[extra.dtype])
            made = family(launch.label).reference(spec, given, dims)
            found = [np.asarray(one, DTYPES[getattr(product, "c", "f32")]) for one in made]
        for place, array in zip(places[-len(found) :], found, strict=True):
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            at(place)[: data.size] = data
    return held["output", 0].view(np.float32).reshape(len(x), WIDTH)


def _seen(data: np.ndarray, kind: np.dtype) -> np.ndarray:
    return data[: data.size // kind.itemsize * kind.itemsize].view(kind)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize(("way", "error"), [(0, 1e-2), (1, 1e-2), (1, 0.0)])
def test_both_ways_are_right(norm: str, way: int, error: float) -> None:
    graph = Block(norm).made()
    low = lowered(graph, way, error)
    assert labels(low).count("wgmma_normed_matmul") == 2 * way
    assert len(labels(low)) == 7 - 2 * way
    x = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32) * 3
    (expected,) = reference.run(graph, {"x": x}, precision="f64")
    got = emulate(low, x)
    off = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert off < (error or 1e-6)


def test_rows_are_stored_once_in_what_others_read() -> None:
    low = lowered(Block().made(), 1)
    steps = [s for s in launches(low.program.steps) if s.label == "wgmma_normed_matmul"]
    first, last = (s.spec.product for s in steps)
    assert (first.c, last.c) == ("f16", "f32")
    assert [len(s.operands) for s in steps] == [2 + 2 + 2 + 1] * 2
    assert "layer norm" not in " ".join(labels(low))


def test_notes_and_the_report_say_which_way_was_taken() -> None:
    for way, text in enumerate(("behind a product in memory", "by the kernel of the product")):
        low = lowered(Block("rms").made(), way)
        found = [note for _, note in low.notes if "norm" in note]
        assert found == [f"rms norm {text}: predicted faster"] * 2
        report = selection_report(low)
        assert report is not None
        assert len(report["forks"]) == 2


@pytest.mark.parametrize(
    "graph",
    [Block(kept=True).made(), Block(axis=0).made()],
    ids=["a sum that is read again", "rows that are not the product's"],
)
def test_other_products_are_left_alone(graph: Graph) -> None:
    every = normed_products(graph)
    assert all(norm.results[0] not in graph.outputs for norm in every.values())
    assert len(every) < 2


def test_other_targets_do_not_ask() -> None:
    low = lowered(Block().made(), 1, target="sm_80")
    assert not low.choices.forks
    assert "wgmma_normed_matmul" not in labels(low)


def test_the_region_has_a_price() -> None:
    low = lowered(Block().made(), 0)
    (region, none), *_ = (fork.regions for fork in low.choices.forks)
    assert none is None
    assert isinstance(region, Region)
    env = [{"m": ROWS}, {"m": 4096}]
    prices = pricing.price(
        low.choices.questions, env, GPU, profile_for(GPU), False, forks=low.choices.forks
    )
    (few, many), (nothing, _) = prices.beside[0]
    assert nothing == 0
    assert 1e-6 < few < many < 1e-5
    region_first, kernel = prices.aside(0)
    assert region_first > kernel == 0
    # What a graph takes at least counts the region where its product is faster.
    assert prices.least[0] > sum(min(times[0] for times in q) for q in prices.seconds[:1])
