"""The error contract with smaller dimensions: chosen before formats are, and kept where the
artifact as a whole is better for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol, TypeVar

from tilewright.compiler.contract import Contract
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.options import Options
from tilewright.passes import prices
from tilewright.passes.pipelines import Step
from tilewright.passes.quantization import agreement
from tilewright.passes.quantization.agreement import Agreement
from tilewright.passes.quantization.cache_choice import alone, choose_caches
from tilewright.passes.quantization.calibration import GAIN_SAMPLES
from tilewright.passes.quantization.losing import SLOWER
from tilewright.passes.quantization.terms import kept
from tilewright.passes.shrinking.choice import choose, record
from tilewright.passes.shrinking.head_ladders import head_ladders
from tilewright.passes.shrinking.ladders import ladders
from tilewright.passes.shrinking.narrowing import shrunk
from tilewright.passes.shrinking.stream_ladders import stream_ladders

SHARE = 0.25
"""Part of the squared bound that smaller dimensions may use; formats get the rest."""

Built = TypeVar("Built")


class Workshop(agreement.Workshop[Built], Protocol):
    """What compiles and runs, of narrower graphs too."""

    @property
    def recognized(self) -> Graph:
        """The graph before anything of it was fused."""

    @property
    def prices(self) -> prices.Prices:
        """What products take on the targets."""

    def narrower(self, recognized: Graph) -> AbstractContextManager[Graph]:
        """Inside of the block another graph is built; gives it as it is calibrated."""

    def store_caches(self, name: str) -> Sequence[str]:
        """As `choose_caches` takes it."""

    def weight_bytes(self, built: Built) -> int:
        """Of all packed weights."""


def agree(
    made: Agreement, options: Options, workshop: Workshop[Built]
) -> tuple[Built, Contract, list[Step]]:
    """The build that keeps the bound, with smaller dimensions where that is faster, or takes less
    if that is asked for; the record of how it was found, and the step that tells of all dimensions.

    Raises UserError where nothing was found.
    """
    if options.plan is not None or options.fisher is not None:  # these are of whole weights
        return *agreement.agree(made, options, workshop), []
    whole: tuple[Built, Contract] | None = None
    refusal: UserError | None = None
    try:
        whole = agreement.agree(made, options, workshop)
    except UserError as refused:
        if options.max_size is None:
            raise
        refusal = refused
    by_size = options.max_size is not None or options.optimize == "size"
    limits = [SHARE * limit for limit in made.terms.limits]

    def free(source: str) -> bool:
        return kept(options.keep, source) is None

    start, before = time.perf_counter(), workshop.recognized
    arguments = before, made.terms.calibration, limits, free
    found = [*ladders(*arguments), *head_ladders(*arguments), *stream_ladders(*arguments)]
    with prices.pricing_with(workshop.prices):
        chosen = choose(found, limits, by_size)
    seconds, worse = time.perf_counter() - start, ""

    def step(after: Graph) -> list[Step]:
        rows = tuple(record(found, chosen, limits, worse))
        return [Step("shrink-dimensions", before, after, seconds, rows)] if rows else []

    if chosen:
        smaller = shrunk(before, chosen)
        with workshop.narrower(smaller) as graph:
            try:
                again = _calibrated(graph, made, options, workshop)
                fewer = agreement.agree(again, options, workshop)
            except UserError:
                worse = "given up: with the errors of formats the bound was not kept"
            else:
                if whole is None or _better(fewer[0], whole[0], made, by_size, workshop):
                    return *fewer, step(smaller)
                worse = "given up: no better than all of it in other formats"
    if whole is None:
        assert refusal is not None
        raise refusal
    return *whole, step(before)


def _calibrated(
    graph: Graph, made: Agreement, options: Options, workshop: Workshop[Built]
) -> Agreement:
    """What is to be kept, on the narrower graph: what its dimensions cost is off the budget."""
    found = agreement.prepare(graph, made.samples, options, workshop, None, None)
    found = replace(
        made, terms=replace(found.terms, bound=made.terms.bound, share=1.0), caches=None
    )
    if made.caches is not None:  # measured with the dimensions
        return choose_caches(found, made.caches.format, workshop.store_caches, workshop)
    squares, _ = alone(found, workshop)
    return replace(found, terms=replace(found.terms, caches=squares))


def _better(
    fewer: Built, whole: Built, made: Agreement, by_size: bool, workshop: Workshop[Built]
) -> bool:
    if by_size or workshop.emulated:
        return workshop.weight_bytes(fewer) < workshop.weight_bytes(whole)
    tried = made.samples.calibration[:GAIN_SAMPLES]
    first, second = workshop.times((fewer, whole), tried)
    return SLOWER * first.seconds < second.seconds
