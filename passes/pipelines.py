"""Which passes run in which order, and running them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.verify import verify
from tilewright.passes.evaluation import Evaluate, evaluating_with
from tilewright.passes.prices import Prices, pricing_with
from tilewright.passes.registry import parse_pass
from tilewright.passes.rewrites import Rewrite, recording

CANONICALIZE = (
    "resolve-dimensions",
    "remove-dead-code",
    "fold-constants",
    "fold-shapes",
    "fold-gathers",
    "fold-arithmetic",
    "fold-gathers",
    "share-common-subexpressions",
    "fold-constants",
    "fold-shapes",
    "remove-dead-code",
)
"""The smallest graph of the same operations."""

EXACT_REWRITES = (
    # What is dead goes first: it hides what the rest has.
    "remove-dead-channels",
    "order-channels",
    "share-repeated-columns",
    "split-block-diagonal",
    # A Kronecker product is a Monarch matrix, and both may be of low rank: fewest numbers first.
    # Its factors are Kronecker products.
    "factor-hadamard",
    "factor-kronecker",
    "factor-fourier",
    "factor-toeplitz",
    # What is left of it is a Monarch matrix.
    "factor-blast",
    "factor-monarch",
    "factor-quasiseparable",
    "factor-low-rank",
)
"""Structure of weights that is exactly there, where using it is never slower."""

RECOGNIZE = (
    # Float16 models look like others to all that follows.
    "widen-halves",
    "recognize-softmax",
    "recognize-layer-norm",
    "recognize-rms-norm",
    "recognize-gelu",
    "recognize-silu",
    "recognize-rope",
    # Transposes go before attention is looked for, so that one pattern covers all layouts.
    "cancel-transposes",
    "fold-constants",
    "fold-batch-norm",
    "sink-reshapes",
    "fold-shapes",
    "recognize-attention",
    # Before operations of one part of the graph are merged with those of another.
    "narrow-slices",
    "fold-transposes",
    "fold-constants",
    "fold-shapes",
    *EXACT_REWRITES,
    "fold-shapes",
    "share-common-subexpressions",
    "remove-dead-code",
)
"""Compositions become the operations that have kernels of their own."""

FUSE = (
    "merge-projections",
    "fold-shapes",
    "fuse-epilogues",
    # A bias or a scale is part of the product by now, and softmax no region yet.
    "recognize-row-reductions",
    "fold-constants",
    "fuse-regions",
    "remove-dead-code",
)
"""One kernel for what is computed together."""

CHECKED = (
    "merge-projections",
    "fold-shapes",
    # Before epilogues hide what is checked; products of one operand share its magnitudes.
    "check-products",
    "share-common-subexpressions",
    *FUSE[2:],
)
"""The same, with every product checked against its checksum."""

SHRINK = ("compute-rotations",)
"""Smaller artifacts for a little time of every run: where their size is asked for."""

PIPELINES: dict[str, tuple[str, ...]] = {
    "canonicalize": CANONICALIZE,
    "recognize": (*CANONICALIZE, *RECOGNIZE),
    "shrink": SHRINK,
    "fuse": FUSE,
    "fuse-checked": CHECKED,
    "default": (*CANONICALIZE, *RECOGNIZE, *FUSE),
}
"""`recognize` gives the graph that formats are chosen for; `shrink`, if at all, and `fuse` or
`fuse-checked` are what follows."""


@dataclass(frozen=True)
class Step:
    """One pass that ran: its spec, the graphs before and after, seconds without verification, and
    what it made of structures that it found in weights."""

    name: str
    before: Graph
    after: Graph
    seconds: float
    rewrites: tuple[Rewrite, ...] = ()

    @property
    def changed(self) -> bool:
        """False when the pass gave back the operations that it was given."""
        return _parts(self.before) != _parts(self.after)

    def __str__(self) -> str:
        note = "" if self.changed else " (unchanged)"
        return f"{self.name}: {self.seconds * 1e3:.1f} ms, {len(self.after.ops)} ops{note}"


def _parts(graph: Graph) -> tuple[object, ...]:
    # Operations compare by identity and passes keep the ones they do not touch.
    return (graph.ops, graph.outputs, graph.inputs, graph.symbols, graph.constraints)


def run_pipeline(
    graph: Graph,
    names: Iterable[str],
    observer: Callable[[Step], None] | None = None,
    evaluate: Evaluate | None = None,
    prices: Prices | None = None,
) -> Graph:
    """Run passes in order, verifying after each one.

    `names` are specs like `fuse-bias{max-rank=2}`. `observer` gets every step. `evaluate` computes
    constant operations; without it none are folded. `prices` are what rewrites of products are
    judged by. Raises `VerifyError` that names the pass and those that ran before it.
    """
    ran: list[str] = []
    verify(graph, "the graph given to the pipeline")
    with evaluating_with(evaluate), pricing_with(prices):
        for spec in names:
            found, options = parse_pass(spec)
            start = time.perf_counter()
            with recording() as rewrites:
                after = found.run(graph, **options)
            seconds = time.perf_counter() - start
            before = ", ".join(ran) or "none"
            verify(after, f"pass {spec} (ran before: {before})")
            if observer is not None:
                observer(Step(spec, graph, after, seconds, tuple(rewrites)))
            ran.append(spec)
            graph = after
    return graph
