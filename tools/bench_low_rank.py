"""Low rank and codes at equal bytes: ``python -m tilewright.tools.bench_low_rank MODEL SAMPLES``.

For products of a model, spread over all, and budgets of bytes that formats of codes have, every
method at the greatest rank that fits, on rows that nothing was fitted to: relative L2 errors of the
outputs, and of the weights. Factors are bf16 where their name says nothing else:

    svd            of the weights alone
    asvd           rows weighted by the root of mean |x| (arXiv 2312.05821)
    low rank       in the metric of the inputs (compiler.formats.truncation): the best of its rank
    8-, 4-bit      the same with factors in codes, of twice and three times the rank
    curing         rows and columns by importance and DEIM (arXiv 2501.04211)
    interpolative  columns by pivoted QR of the outputs
    lq             codes of fewer bits, and the rest of the bytes as low rank (arXiv 2311.12023)
    white          what low rank would leave of outputs without any structure: Gaussian noise
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tilewright.compiler.driver import compile_graph, run_passes
from tilewright.compiler.formats import Inputs, WeightFormat, named
from tilewright.compiler.formats.factored import PARTS, Factored, joined
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.repaired import Repaired, white_tail
from tilewright.compiler.formats.selected_rows import curing, interpolative
from tilewright.compiler.formats.truncation import Factors, truncated
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.samples import read_samples
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.quantization.collect import Feeds, collect
from tilewright.passes.quantization.instrument import showing
from tilewright.passes.quantization.sites import Product, sites
from tilewright.runtime.session import Session
from tilewright.tools.bench.record import record

BUDGETS = ("w3-g64", "w4-g64", "w8-g64")
"""Formats whose bytes the others get."""

BELOW = {4: 3, 3: 2, 8: 6}
"""Bits of a budget -> bits of the codes of ``lq``."""


@dataclass(frozen=True)
class Row:
    """One method at one product: its rank (0: none), bytes, relative errors of outputs and
    weights."""

    site: str
    k: int
    n: int
    budget: str
    method: str
    rank: int
    bytes: int
    output: float
    weight: float


Make = Callable[[np.ndarray, Inputs, int], Factors]

METHODS: Mapping[str, Make] = {
    "svd": lambda w, i, r: truncated(w, r),
    "asvd": lambda w, i, r: truncated(w, r, np.diag(np.abs(i.sample).mean(axis=0))),
    "curing": lambda w, i, r: curing(w, r, i.importance, i.gram),
    "interpolative": lambda w, i, r: interpolative(w, r, i.gram),
}
"""Factors of a rank by weights and inputs; they are stored as bf16."""


def rank_of(size: int, part: WeightFormat, k: int, n: int) -> int:
    """The greatest rank whose factors in a format have at most so many bytes."""
    made = (r for r in range(min(k, n), 0, -1) if Factored(r, part).bytes(k, n) <= size)
    return next(made, 0)


def measured(
    w: np.ndarray, inputs: Inputs, budget: str
) -> Iterator[tuple[str, int, int, float, float]]:
    """Method, rank, bytes, relative errors of outputs and weights within the bytes of a budget."""
    k, n = w.shape
    base = named(budget)
    assert isinstance(base, Integers)
    size = base.bytes(k, n)
    x = inputs.sample
    whole = np.linalg.norm(x.astype(np.float64) @ w), np.linalg.norm(w)

    def errors(made: WeightFormat, encoded: object) -> tuple[float, float]:
        off = float(np.linalg.norm(made.off(x, w, encoded)) / whole[0])  # type: ignore[arg-type]
        return off, float(np.linalg.norm(made.decode(encoded) - w) / whole[1])  # type: ignore[arg-type]

    yield (budget, 0, size, *errors(base, base.encode(w, inputs)))
    rank = rank_of(size, Bfloat16(), k, n)
    for name, make in METHODS.items():
        found = make(w, inputs, rank)
        left, right = (Bfloat16().encode(f.astype(np.float32)) for f in (found.left, found.right))
        made = Factored(rank, Bfloat16())
        yield (name, rank, made.bytes(k, n), *errors(made, joined(left, right)))
    for part in PARTS[1:]:
        fits = rank_of(size, part, k, n)
        if fits and part.supports(fits, n):
            label = "low rank" if isinstance(part, Bfloat16) else f"low rank {part.name}"
            made = Factored(fits, part)
            yield (label, fits, made.bytes(k, n), *errors(made, made.encode(w, inputs)))
    yield ("white", rank, size, float(np.sqrt(white_tail(rank, k, n))), 0.0)
    fewer = Integers(BELOW[base.bits], base.group)
    rest = rank_of(size - fewer.bytes(k, n), Bfloat16(), k, n)
    if rest:
        lq = Repaired(fewer, rest)
        yield (f"lq {lq.base.name}", rest, lq.bytes(k, n), *errors(lq, lq.encode(w, inputs)))


def rows(model: Path, origin: str, count: int, samples: int, budgets: list[str]) -> Iterator[Row]:
    """All rows of ``count`` products of a model, by ``samples`` samples."""
    graph = run_passes(load_onnx(model, {}), PIPELINES["default"])
    products = [s for s in sites(graph) if isinstance(s, Product)]
    some = sorted({int(i) for i in np.linspace(0, len(products) - 1, min(count, len(products)))})
    found = [products[i] for i in some]
    feeds = read_samples(origin, graph.inputs)
    with TemporaryDirectory(prefix="tilewright-") as folder:
        path = Path(folder) / "shown.tw"
        compile_graph(showing(graph, found), path)
        with Session(path, threads=1) as session:
            names = [o.name for o in session.get_outputs()]

            def run(one: Feeds) -> Mapping[str, np.ndarray]:
                return dict(zip(names, session.run(None, dict(one)), strict=True))

            seen = collect(run, found, [feeds[i] for i in range(min(samples, len(feeds)))])
    for site in found:
        w = np.ascontiguousarray(site.weights(graph))
        for budget in budgets:
            for made in measured(w, seen.inputs[site.name], budget):
                name, rank, size, output, weight = made
                yield Row(site.name, site.k, site.n, budget, name, rank, size, output, weight)


def table(found: list[Row]) -> str:
    """Root mean squares of the relative errors, by budget and method."""
    out = []
    for budget in dict.fromkeys(r.budget for r in found):
        own = [r for r in found if r.budget == budget]
        out.append(f"{budget}: {len({r.site for r in own})} products")
        for method in dict.fromkeys(r.method for r in own):
            at = [r for r in own if r.method == method]
            output, weight = (
                np.sqrt(np.mean([getattr(r, f) ** 2 for r in at])) for f in ("output", "weight")
            )
            ranks = f"rank {min(r.rank for r in at)} to {max(r.rank for r in at)}"
            out.append(f"  {method:20s} outputs {output:8.2%}  weights {weight:8.2%}  {ranks}")
    return "\n".join(out)


def main() -> None:
    """Print the table of a model, and record all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", help="as --calibrate takes them")
    parser.add_argument("--products", type=int, default=8, help="how many are tried")
    parser.add_argument("--count", type=int, default=16, help="samples that are run")
    parser.add_argument("--budgets", default=",".join(BUDGETS))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    wanted = (options.model, options.samples, options.products, options.count)
    found = list(rows(*wanted, options.budgets.split(",")))
    print(table(found))
    if options.record:
        command = shlex.join(["python", "-m", "tilewright.tools.bench_low_rank", *sys.argv[1:]])
        record(options.record, found, command=command)


if __name__ == "__main__":
    main()
