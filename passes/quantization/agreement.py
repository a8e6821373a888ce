"""The error contract from calibration to the choice that keeps it.

What compiles and runs is passed in (`Workshop`); here is what is asked of it, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any, Protocol, TypeVar

import numpy as np

from tilewright.compiler.contract import CacheRecord, Contract, Errors
from tilewright.compiler.errors import UserError
from tilewright.compiler.fisher import Fisher
from tilewright.compiler.formats import formats
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.metric import Metric
from tilewright.compiler.options import Options
from tilewright.compiler.samples import Samples
from tilewright.passes.quantization.calibration import GAIN_SAMPLES, SMALL, calibrate
from tilewright.passes.quantization.collect import NotFinite
from tilewright.passes.quantization.errors import Squares
from tilewright.passes.quantization.losing import SLOWER, losing
from tilewright.passes.quantization.negotiate import Broken, Kept, Verdict, negotiate
from tilewright.passes.quantization.terms import Terms, check_keep
from tilewright.passes.selection.problem import InfeasibleError

METRIC_START = 0.02
"""The relative L2 error that the first choice may make where a metric decides."""

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]
Built = TypeVar("Built")
Operation = tuple[str, str, frozenset[str]]
"""ONNX nodes, constant, and the numerics that it could run in."""


class Timed(Protocol):
    """Times of an artifact: the median of its runs, and by ONNX nodes."""

    @property
    def seconds(self) -> float: ...
    @property
    def by_source(self) -> Mapping[str, float]: ...


class Workshop(Protocol[Built]):
    """What compiles and runs."""

    @property
    def emulated(self) -> tuple[str, ...]:
        """Targets that this machine cannot run: their builds are run in numpy, and not timed."""

    def native(self, graph: Graph) -> Run:
        """A graph, compiled exactly for this machine."""

    def operations(self) -> list[Operation]:
        """All operations of all targets that have a choice."""

    def build(self, terms: Terms) -> tuple[Built, Errors]:
        """The choice under `terms`, and the errors that it is predicted to make.

        Raises InfeasibleError where there is none.
        """

    def deviations(self, built: Built, expected: Run, samples: Sequence[Feeds]) -> Errors:
        """Relative L2 errors by output over samples, the worst of all targets."""

    def worst(self, built: Built, metric: Callable[[Run], float]) -> float:
        """The greatest value of a metric over the targets."""

    def chosen(self, built: Built) -> Mapping[str, str]:
        """The numerics of operations by ONNX nodes, of the first target."""

    def times(self, builds: Sequence[Built], samples: Sequence[Feeds]) -> Sequence[Timed]:
        """Times of builds, run in turns, of the first target."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """What is to be kept, on which samples, and what the model itself does there.

    expected: the reference. base: the value of the metric there. caches: what was found of
    key-value caches in codes.
    """

    terms: Terms
    bound: float
    samples: Samples
    expected: Run
    reference: str
    metric: Metric | None = None
    base: float = 0.0
    caches: CacheRecord | None = None

    def under(self, bound: float) -> Agreement:
        """The same for another bound."""
        start = bound if self.metric is None else self.terms.bound
        return replace(self, bound=bound, terms=replace(self.terms, bound=start))


def prepare(
    graph: Graph,
    samples: Samples,
    options: Options,
    workshop: Workshop[Any],
    original: Run | None,
    metric: Metric | None,
    fisher: Fisher | None = None,
) -> Agreement:
    """Calibrate `graph`, and find what the operations that cannot be calibrated would cost.

    original: the model as it came, None where nothing runs it. fisher: what low rank weighs
    channels by. Raises UserError for values that are not finite, naming sample and node, for
    `--keep` that nothing can follow, and for Fisher information of other shapes.
    """
    assert options.max_error is not None
    operations = workshop.operations()
    check_keep(options.keep, ((source, numerics) for source, _, numerics in operations))
    try:
        calibration = calibrate(graph, samples.calibration, workshop.native, fisher)
    except NotFinite as bad:
        where = samples.calibration.label(bad.sample)
        found = "its errors cannot be predicted"
        hint = "leave the sample away, or mend the model"
        raise UserError(
            where, f"node {bad.site!r} reads infinite or NaN values", found, hint
        ) from None
    start = METRIC_START if metric is not None else options.max_error
    terms = Terms(calibration, start, keep=options.keep)
    silent = dict.fromkeys(("f16", "bf16"), (0.0,) * len(graph.outputs))
    probe = replace(terms, bound=inf, keep=(), rest=silent)
    exact = workshop.native(graph) if original is None else original
    rest = _rest(replace(probe, sites="f32"), operations, samples, exact, workshop)
    base = 0.0 if metric is None else metric(exact, samples.held_out)
    reference = "an exact artifact" if original is None else "ONNX Runtime in float32"
    bound = options.max_error
    return Agreement(replace(terms, rest=rest), bound, samples, exact, reference, metric, base)


def _rest(
    probe: Terms,
    operations: Sequence[Operation],
    samples: Samples,
    exact: Run,
    workshop: Workshop[Any],
) -> dict[str, Squares]:
    """By numerics, what the operations that were not calibrated make together, by running the
    graph with only them in these."""
    could: set[str] = set()
    for source, constant, any_of in operations:
        if probe.squares(source, constant, "f32") is None:
            could |= any_of
    tried = samples.calibration[:GAIN_SAMPLES]
    found: dict[str, Squares] = {}
    for numerics in sorted(could - SMALL.keys()):
        built, _ = workshop.build(replace(probe, others_as=numerics))
        found[numerics] = tuple(e**2 for e in workshop.deviations(built, exact, tried))
    return found


def agree(made: Agreement, options: Options, workshop: Workshop[Built]) -> tuple[Built, Contract]:
    """The build that keeps the bound, and the record of how it was found.

    Raises UserError where nothing was found.
    """

    def judge(built: Built) -> Verdict:
        held_out = made.samples.held_out
        errors = workshop.deviations(built, made.expected, held_out)
        metric = made.metric
        if metric is None:
            return Verdict(errors)
        value = workshop.worst(built, lambda run: metric(run, held_out))
        return Verdict(errors, value - made.base)

    # What the user decided may be better than predicted, and is measured in any case.
    guessed = made.metric is not None or options.plan is not None or bool(options.keep)

    thorough = options.optimize == "size"

    def found(terms: Terms) -> Kept[Built]:
        return negotiate(terms, made.bound, workshop.build, judge, guessed, thorough)

    where = f"max-error {made.bound:g}"
    try:
        kept, timing = _not_slower(made, found, options, workshop)
    except InfeasibleError as tight:
        raise UserError(where, "cannot be kept", _infeasible(tight, made.terms)) from None
    except Broken as broken:
        count, what = len(broken.rounds), "error" if made.metric is None else "change"
        tried = "the only choice makes" if count == 1 else f"the best of {count} choices makes"
        reached = f"{tried} an {what} of {broken.used * made.bound:.3g} on held-out samples"
        if made.metric is not None:
            reached = reached.replace(" an change", " a change")
        raise UserError(where, "cannot be kept", reached) from None
    graph, samples = made.terms.calibration.graph, made.samples
    return kept.built, Contract(
        bound=made.bound,
        outputs=tuple(graph.output_names),
        reference=made.reference,
        calibration=len(samples.calibration),
        held_out=len(samples.held_out),
        rounds=kept.rounds,
        chosen=kept.chosen,
        metric=options.metric,
        keep=options.keep,
        optimize=options.optimize,
        max_size=options.max_size,
        timing=tuple(timing),
        caches=made.caches,
        emulated=workshop.emulated,
        fisher=made.terms.calibration.weighted,
    )


def _not_slower(
    made: Agreement,
    found: Callable[[Terms], Kept[Built]],
    options: Options,
    workshop: Workshop[Built],
) -> tuple[Kept[Built], list[dict[str, Any]]]:
    """The choice, and how it was timed against one without weight formats; formats that lose time
    are given up, in the end all."""
    kept, timing = found(made.terms), []
    if options.optimize != "latency" or options.max_size is not None or options.keep:
        return kept, []
    if options.plan is not None or workshop.emulated:
        return kept, []
    terms = made.terms.tightened(kept.rounds[kept.chosen].share)
    while used := _formats(workshop.chosen(kept.built)):
        try:
            plain, _ = workshop.build(terms.plain())
        except InfeasibleError:
            break
        tried = made.samples.calibration[:GAIN_SAMPLES]
        own, other = workshop.times((kept.built, plain), tried)
        if own.seconds > SLOWER * other.seconds:
            # Formats are given up for good: not for a second in which the machine did other work.
            own, other = workshop.times((kept.built, plain), tried)
        slower = own.seconds > SLOWER * other.seconds
        gone = losing(used, own.by_source, other.by_source) if slower else frozenset()
        timing.append(
            {
                "milliseconds": float(f"{own.seconds * 1e3:.4g}"),
                "without_formats": float(f"{other.seconds * 1e3:.4g}"),
                "dropped": sorted(gone),
            }
        )
        if not slower:
            break
        terms = replace(terms, without=terms.without | gone)
        kept = found(terms)
    return kept, timing


def _formats(chosen: Mapping[str, str]) -> dict[str, str]:
    """Those that are weight formats, not numerics of floats."""
    return {s: name for s, name in chosen.items() if name in formats() and name != "bf16"}


def _infeasible(tight: InfeasibleError, terms: Terms) -> str:
    if tight.limit is None:
        return "no choice of kernels is possible"
    if tight.least == inf:
        return "no choice keeps both the error and the size"
    if tight.limit.startswith("error"):
        least = sqrt(tight.least * max(terms.limits))
        which = "that is small enough" if tight.beside else "of least error"
        return f"the choice {which} is predicted to make {least:.2g}"
    return f"at least {tight.least:,.0f} bytes of weights are needed"
