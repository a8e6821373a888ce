"""Structures of weights at equal bytes: ``python -m tilewright.tools.bench_structure MODEL ..``.

Every product with constant weights (tables that are looked up too stay as they are) gets the same
structure, as good as it can be within the bytes that 2:4 sparsity takes in 8 bits (5 bits a weight)
and in bf16 (9), and the model is run with these weights in ONNX Runtime: relative L2 errors of its
outputs on samples that nothing was fitted to, `--perplexity` too. "products" is the root mean
square of the relative errors of the products' own outputs. Factors and other values are bf16 where
nothing else is said; no kernel's speed is part of it.

    codes          integers in groups of 64 (GPTQ), as many bits as fit: the yardstick
    SVD            of the weights alone, in bf16
    FWSVD          with --fisher: rows weighted by Fisher information (arXiv 2207.00112)
    CURing         rows and columns by importance and DEIM (arXiv 2501.04211)
    metric SVD     in the metric of the inputs: no low rank errs less (SVD-LLM, arXiv 2403.07378)
    LQ             codes of one bit less, and low rank (arXiv 2311.12023)
    unstructured   SparseGPT or Wanda, with a bitmap (arXiv 2301.00774, 2306.11695)
    2:4            likewise, 2 bits a value for its place
    ARMOR          2:4 in 8 bits between block-diagonal matrices in bf16 (ICLR 2026)
    blocks 16x4    likewise, 16 outputs by 4 channels
    Monarch        4 x 4 blocks of one rank (arXiv 2204.00595)
    BLAST          4 x 4 blocks with shared factors (arXiv 2410.21262)
    slicing        fewer dimensions of the residual stream (SliceGPT, arXiv 2401.15024)
    hidden         fewer hidden channels (MoDeGPT, arXiv 2408.09632)
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tilewright.compiler.driver import compile_graph, run_passes
from tilewright.compiler.fisher import read_fisher
from tilewright.compiler.formats import Inputs
from tilewright.compiler.formats.pruning import Groups
from tilewright.compiler.formats.sparse import Sparse
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.samples import read_samples
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.quantization.collect import Feeds, collect
from tilewright.passes.quantization.instrument import showing
from tilewright.passes.quantization.sites import Lookup, Product, Site, sites
from tilewright.runtime.session import Session
from tilewright.tools.bench.record import record
from tilewright.tools.bench.replaced_weights import Model, judged
from tilewright.tools.bench.structures import METHODS
from tilewright.tools.bench.whole_models import Replaced, hidden, slicing

BUDGETS = {5: Sparse(8, Groups(2, 4)), 9: Sparse(16, Groups(2, 4))}
"""Bits of a weight, and the format whose bytes they are."""

WHOLE = ("slicing", "hidden")
"""Methods for a model as a whole."""


@dataclass(frozen=True)
class Row:
    """One method within one budget: bits of a weight that it took, relative L2 errors of the
    outputs and (root mean square) of the products, perplexity (0: not asked for), seconds that its
    weights took."""

    budget: int
    method: str
    how: str
    bits: float
    error: float
    products: float
    perplexity: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model and what calibration saw. recognized: its graph before fusing. found: products that
    get other weights."""

    graph: Graph
    recognized: Graph
    every: Sequence[Site]
    found: Sequence[Product]
    inputs: Mapping[str, Inputs]

    def sizes(self, budget: int) -> dict[str, int]:
        """Bytes by product."""
        return {site.name: BUDGETS[budget].bytes(site.k, site.n) for site in self.found}

    def stands_in(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """By initializer, matrices [K, N] by product as the model has them."""
        made = {}
        for site in self.found:
            if site.name in weights:
                whole = self.graph.weights.array(site.constant)
                turned = weights[site.name].reshape([whole.shape[a] for a in site.axes])
                made[site.constant] = turned.transpose(np.argsort(site.axes))
        return made


def prepare(path: Path, samples: str, count: int, fisher: str | None) -> Prepared:
    """Calibrate a model on the first ``count`` samples."""
    imported = load_onnx(path, {})
    recognized = run_passes(imported, PIPELINES["recognize"])
    graph = run_passes(recognized, PIPELINES["fuse"])
    every = sites(graph)
    looked_up = {site.constant for site in every if isinstance(site, Lookup)}
    found = [
        site
        for site in every
        if isinstance(site, Product)
        and site.constant in imported.weights
        and site.constant not in looked_up
        and all(made.supports(site.k, site.n) for made in BUDGETS.values())
    ]
    feeds = read_samples(samples, graph.inputs)
    products = [site for site in every if isinstance(site, Product)]
    with TemporaryDirectory(prefix="tilewright-") as folder:
        shown = Path(folder) / "shown.tw"
        compile_graph(showing(graph, products), shown)
        with Session(shown, threads=1) as session:
            names = [o.name for o in session.get_outputs()]

            def run(one: Feeds) -> Mapping[str, np.ndarray]:
                return dict(zip(names, session.run(None, dict(one)), strict=True))

            seen = collect(run, products, [feeds[i] for i in range(min(count, len(feeds)))])
    inputs = dict(seen.inputs)
    if fisher is not None:
        given = read_fisher(fisher, imported)
        for site in found:
            shape = imported.weights.array(site.constant).shape
            own = given.by_channels(site.constant, shape, site.axes, site.k)
            inputs[site.name] = replace(inputs[site.name], fisher=own)
    return Prepared(graph, recognized, every, found, inputs)


def made_by(prepared: Prepared, method: str, budget: int) -> tuple[Replaced, float] | None:
    """All weights by a method within a budget, and the error of the products; None where it has no
    form for one of them."""
    sizes = prepared.sizes(budget)
    if method in WHOLE:
        size = sum(sizes.values())
        shared = (prepared.found, prepared.inputs, size)
        if method == "slicing":
            whole = slicing(prepared.graph, prepared.recognized, prepared.every, *shared)
        else:
            whole = hidden(prepared.recognized, *shared)
        return None if whole is None else (whole, _off(prepared, whole.weights))
    weights: dict[str, np.ndarray] = {}
    bytes_, how = 0, []
    for site in prepared.found:
        w = np.ascontiguousarray(site.weights(prepared.graph))
        made = METHODS[method](w, prepared.inputs[site.name], sizes[site.name])
        if made is None:
            return None
        weights[site.name], bytes_ = made.weights, bytes_ + made.bytes
        how.append(made.how)
    told = how[0] if len(set(how)) == 1 else f"{how[0]}, .."
    return Replaced(weights, bytes_, told), _off(prepared, weights)


def _off(prepared: Prepared, weights: Mapping[str, np.ndarray]) -> float:
    squares: list[float] = []
    for site in prepared.found:
        w = site.weights(prepared.graph)
        x = prepared.inputs[site.name].sample.astype(np.float64)
        whole = np.linalg.norm(x @ w)
        off = np.linalg.norm(x @ (weights.get(site.name, w) - w.astype(np.float64)))
        squares.append(float(off / whole) ** 2 if whole else 0.0)
    return float(np.sqrt(np.mean(squares)))


def measured(
    prepared: Prepared,
    model: Model,
    samples: Sequence[Feeds],
    budgets: Sequence[int],
    methods: Sequence[str],
    tokens: bool,
) -> Iterator[Row]:
    """All rows: by budget, in the order of the methods; the model as it is first."""
    elements = sum(site.k * site.n for site in prepared.found)
    exact = model.run_with({})
    expected = [exact(feeds) for feeds in samples]
    _, base = judged(exact, expected, samples, tokens)
    yield Row(32, "f32", "", 32.0, 0.0, 0.0, base, 0.0)
    for budget in budgets:
        for method in methods:
            start = time.perf_counter()
            found = made_by(prepared, method, budget)
            seconds = round(time.perf_counter() - start, 2)
            if found is None:
                continue
            whole, products = found
            run = model.run_with(prepared.stands_in(whole.weights), whole.tables)
            off, loss = judged(run, expected, samples, tokens)
            bits = round(8 * whole.bytes / elements, 3)
            yield Row(budget, method, whole.how, bits, off, products, loss, seconds)


def line(row: Row) -> str:
    """A row of the table."""
    loss = f"  perplexity {row.perplexity:8.3f}" if row.perplexity else ""
    return (
        f"{row.budget:2d}  {row.method:20s} {row.bits:6.2f} bits  outputs {row.error:8.2%}"
        f"  products {row.products:8.2%}{loss}  {row.how}"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Print the table of a model, and record all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", help="to calibrate on, as --calibrate of a compile takes them")
    parser.add_argument("--held-out", required=True, help="samples to measure on")
    parser.add_argument("--perplexity", action="store_true", help="of the next token's logits")
    parser.add_argument("--fisher", help="as of a compile, for FWSVD")
    parser.add_argument("--count", type=int, default=32, help="samples to calibrate on, at most")
    parser.add_argument("--tested", type=int, default=64, help="samples to measure on, at most")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--methods", default="|".join((*METHODS, *WHOLE)), help="separated by |")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args(words)
    prepared = prepare(options.model, options.samples, options.count, options.fisher)
    held_out = read_samples(options.held_out, prepared.graph.inputs)[: options.tested]
    rows = []
    budgets = [int(budget) for budget in options.budgets.split(",")]
    methods = options.methods.split("|")
    asked = (prepared, Model(options.model), held_out, budgets, methods, options.perplexity)
    for row in measured(*asked):
        print(line(row), flush=True)
        rows.append(row)
    if options.record:
        command = shlex.join(["python", "-m", "tilewright.tools.bench_structure", *sys.argv[1:]])
        record(options.record, rows, command=command)


if __name__ == "__main__":
    main()
