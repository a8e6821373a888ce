"""Rewrites of weights with exact structure: the same numbers for less work, and their record."""

import numpy as np
import pytest
from scipy.linalg import hadamard
from support import planted_structures as plant

from tilewright.backends.cost.rewrites import Predicted
from tilewright.backends.reference import run
from tilewright.backends.target import resolve_targets
from tilewright.compiler.ir.core import Graph, Symbol, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.rewrite import Builder
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import WeightStore, from_array
from tilewright.passes.pipelines import EXACT_REWRITES, Step, run_pipeline


def lines_of(n, window=1.0):
    """Cosines and sines of all frequencies up to n / 2, as columns."""
    angle = 2 * np.pi / n * np.outer(np.arange(n), np.arange(n // 2 + 1))
    return (window * np.concatenate((np.cos(angle), np.sin(angle)), axis=1)).astype(np.float32)


def cosines(n, count):
    """`count` columns of the orthonormal cosine transform, in some order."""
    some = np.random.default_rng(4).permutation(n)[:count]
    table = np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, some)) * np.sqrt(2 / n)
    return table.astype(np.float32)


BLOCKS = [(16, 24), (8, 30), (40, 10)]
COLUMNS = np.random.default_rng(0).integers(0, 8, 32)
FACTORS = np.random.default_rng(1).uniform(0.5, 2, 32)
MONARCH = plant.monarch(8, 8, 8, 12)

CASES = {
    # name: (weights, pass that takes it, what it says)
    "rank": (plant.low_rank(64, 96, 5), "factor-low-rank", "factors of rank 5"),
    "rank, noise": (plant.low_rank(64, 96, 5, 1e-7), "factor-low-rank", "factors of rank 5"),
    "Kronecker": (
        plant.kronecker((8, 6), (8, 16)),
        "factor-kronecker",
        "products of 8 x 6 (x) 8 x 16",
    ),
    "two terms": (
        plant.kronecker((4, 4), (32, 48), 2),
        "factor-kronecker",
        "products of 2 terms 4 x 4 (x) 32 x 48",
    ),
    "Walsh table": (
        hadamard(256).astype(np.float32),
        "factor-kronecker",
        "products of 16 x 16 (x) 16 x 16",
    ),
    "Monarch": (MONARCH, "factor-monarch", "blocks of 8 x 12 and 8 x 8"),
    "Monarch, strided": (
        MONARCH.reshape(8, 8, 8, 12).transpose(1, 0, 3, 2).reshape(64, 96),
        "factor-monarch",
        "blocks of 8 x 12 and 8 x 8",
    ),
    "Hadamard": (plant.walsh(64), "factor-hadamard", "gathers and tables of 8 and 8"),
    "Hadamard, some columns": (
        np.ascontiguousarray(plant.walsh(128)[:, :81]),
        "factor-hadamard",
        "gathers and tables of 16 and 8",
    ),
    "Fourier": (lines_of(256), "factor-fourier", "transforms of 32 and 8"),
    "Fourier, odd": (lines_of(375), "factor-fourier", "transforms of 25 and 15"),
    "Fourier, windowed": (
        lines_of(400, np.hanning(400)[:, None]),
        "factor-fourier",
        "transforms of 25 and 16",
    ),
    "Fourier, rows": (
        np.ascontiguousarray(lines_of(256, np.hamming(256)[:, None]).T),
        "factor-fourier",
        "transforms of 32 and 8",
    ),
    "cosines": (cosines(288, 288), "factor-fourier", "transforms of 24 and 12"),
    "cosines, odd": (cosines(315, 91), "factor-fourier", "transforms of 21 and 15"),
    "cosines, rows": (
        np.ascontiguousarray(cosines(288, 200).T),
        "factor-fourier",
        "transforms of 24 and 12",
    ),
    "Toeplitz": (plant.diagonals(288, 360), "factor-toeplitz", "a convolution of blocks of 18"),
    "Toeplitz, odd": (
        plant.diagonals(405, 315),
        "factor-toeplitz",
        "a convolution of blocks of 15",
    ),
    "Hankel": (
        np.ascontiguousarray(plant.diagonals(288, 384)[::-1]),
        "factor-toeplitz",
        "a convolution of blocks of 16",
    ),
    "circulant": (plant.circulant(363), "factor-toeplitz", "a convolution of blocks of 11"),
    "BLAST": (plant.blast(128, 96, 4, 8), "factor-blast", "4 factors of the inputs and the rest"),
    "BLAST, wide inputs": (
        plant.blast(96, 256, 4, 8),
        "factor-blast",
        "4 factors of the outputs and the rest",
    ),
    "quasiseparable": (
        plant.quasiseparable(126, 1, 2),
        "factor-quasiseparable",
        "9 chunks of 14, 3 numbers from one to the other",
    ),
    "blocks": (plant.block_diagonal([(16, 24)] * 4), "split-block-diagonal", "4 products"),
    "other blocks": (plant.block_diagonal(BLOCKS, False), "split-block-diagonal", "3 products"),
    "permuted": (plant.block_diagonal(BLOCKS), "split-block-diagonal", "3 products"),
    "repeated": (
        plant.gaussian(64, 8)[:, COLUMNS],
        "share-repeated-columns",
        "8 columns, gathered",
    ),
    "proportional": (
        (plant.gaussian(64, 8)[:, COLUMNS] * FACTORS).astype(np.float32),
        "share-repeated-columns",
        "8 columns, gathered",
    ),
}

SPECS = {"mk,kn->mn": ("b", "k"), "bkm,kn->nbm": (2, "k", "b"), "abk,nk->abn": ("b", 3, "k")}


def graph_of(w, spec="mk,kn->mn"):
    k = w.shape[0]
    stored = np.ascontiguousarray(w.T if ",nk" in spec else w)
    sizes = tuple({"b": sym("b"), "k": k}.get(d, d) for d in SPECS[spec])
    x = Value(TensorType(DType.F32, sizes), "x")
    store = WeightStore({"w": from_array(stored)})
    builder = Builder(store)
    builder.source = "times"
    constant = builder.emit(Constant, name="w", type=store["w"].type)
    y = builder.emit(Contract, a=x, b=constant, spec=spec)
    b = Symbol(1, None, ("shape", 0, sizes.index(sym("b"))))
    return Graph("g", (x,), tuple(builder.ops), (y,), ("y",), {"b": b}, store)


def rewritten(graph, prices=None):
    steps: list[Step] = []
    after = run_pipeline(graph, EXACT_REWRITES, steps.append, prices=prices)
    return after, [(s.name, r) for s in steps for r in s.rewrites]


def stored(graph):
    return sum(w.type.elements for w in graph.weights.values() if w.type.dtype == DType.F32)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name, spec):
    w, by, text = CASES[name]
    before = graph_of(w, spec)
    after, records = rewritten(before)
    applied = [(n, r.text) for n, r in records if r.applied]
    assert applied[0] == (by, text)
    # Factors may have structure again: tables, and what is left of blocks with shared factors.
    assert len(applied) == 1 or by in ("factor-hadamard", "factor-blast") or name == "Walsh table"
    assert stored(after) < stored(before)
    rng = np.random.default_rng(3)
    x = rng.standard_normal([{"b": 5, "k": len(w)}.get(d, d) for d in SPECS[spec]])
    x = x.astype(np.float32)
    wide = (w.T if ",nk" in spec else w).astype(np.float64)
    want = np.einsum(spec, x.astype(np.float64), wide)
    (got,) = run(after, [x])
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= 1e-6 * np.linalg.norm(want)
    again, _ = rewritten(after)
    assert again is after


@pytest.mark.parametrize("name", CASES)
def test_noise_hides_structure(name):
    """Of 1 % of each number; zeros and repetitions are what weights have otherwise."""
    w, by, _ = CASES[name]
    if by in ("split-block-diagonal", "share-repeated-columns"):
        pytest.skip("zeros stay zeros")
    noise = 1 + 0.01 * np.random.default_rng(2).standard_normal(w.shape)
    graph = graph_of((w * noise + 1e-3 * w.std() * noise).astype(np.float32))
    assert rewritten(graph) == (graph, [])


@pytest.mark.parametrize("seed", range(5))
def test_gaussian_weights_stay(seed):
    graph = graph_of(plant.gaussian(48, 96, seed))
    assert rewritten(graph) == (graph, [])


def test_why_a_structure_is_left():
    """Of rank 20 of 40: fewer numbers than the product, but no less work for a single row."""
    _, records = rewritten(graph_of(plant.low_rank(40, 40, 20)))
    assert [(r.found, r.applied, r.text) for _, r in records] == [
        (
            "low rank: rank 20 of 40",
            False,
            "factors of rank 20 would store 1,600 numbers instead of 1,600",
        )
    ]
    _, records = rewritten(graph_of(plant.kronecker((2, 2), (8, 8))))
    ((by, record),) = ((n, r) for n, r in records if n == "factor-kronecker")
    assert by == "factor-kronecker"
    assert record.source == "times"
    assert record.weight == "w"
    assert record.found == "Kronecker: 2 x 2 (x) 8 x 8"
    if not record.applied:
        assert record.text.endswith("times as long")


def test_prices_of_machines_decide():
    """What saves work of numbers alone, but not of kernels, stays as it is."""
    prices = Predicted(resolve_targets(("sapphirerapids", "x86-64-v3")), {}, {}, 0.0)
    small = graph_of(plant.kronecker((4, 4), (8, 8)))
    after, _ = rewritten(small)
    assert after is not small
    after, records = rewritten(small, prices)
    assert after is small
    assert [r.applied for _, r in records] == [False] * len(records)
    assert records[0][1].text.endswith("times as long")
    large = graph_of(plant.low_rank(512, 768, 16))
    after, records = rewritten(large, prices)
    assert [(n, r.applied) for n, r in records] == [("factor-low-rank", True)]
    assert stored(after) == 16 * (512 + 768)


LARGE = {
    "Hadamard": plant.walsh,
    "Fourier": lines_of,
    "cosines": lambda n: cosines(n, n),
    "circulant": plant.circulant,
}


@pytest.mark.parametrize("name", LARGE)
def test_transforms_are_for_long_rows(name):
    """By prices of machines, as measured on one: of 256 numbers no transform is faster at every
    number of rows, of 1024 all are."""
    prices = Predicted(resolve_targets(("sapphirerapids", "x86-64-v3")), {}, {}, 0.0)
    for n, fast in ((256, False), (1024, True)):
        graph = graph_of(LARGE[name](n))
        after, _ = rewritten(graph, prices)
        assert (after is not graph) == fast
        assert stored(after) < 0.3 * n * n or not fast


def test_prices_are_those_of_the_fastest_kernel():
    prices = Predicted(resolve_targets(("x86-64-v4",)), {"b": Symbol(1, 64, ())}, {}, 0.0)
    one, some, many = prices.product(sym("b"), 256, 512)
    assert 0 < one <= some < many
    assert prices.product(sym("b"), 256, 512, halves=True)[0] <= one
    assert all(t > 0 for t in prices.product(sym("b"), 16, 16, groups=8))
    typical = Predicted(resolve_targets(("x86-64-v4",)), {}, {"b": 64}, 0.0)
    assert set(typical.product(sym("b"), 256, 512)) == {many}
    assert prices.moved(sym("b") * 1024)[2] > prices.moved(sym("b"))[2] > 0


def test_blocks_in_order_are_left_to_kernels_that_skip_zeros():
    prices = Predicted(resolve_targets(("x86-64-v4",)), {}, {}, 0.0)
    w = plant.block_diagonal([(128, 128)] * 8, permuted=False)
    dense, blocks = prices.product(16, 1024, 1024), prices.as_it_is(16, w, False)
    assert all(b < d / 2 for b, d in zip(blocks, dense, strict=True))
    graph = graph_of(w)
    after, records = rewritten(graph, prices)
    told = [(n, r.applied) for n, r in records if n == "split-block-diagonal"]
    assert told == [("split-block-diagonal", False)]
    assert after is graph
