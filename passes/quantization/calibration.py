"""A calibrated graph: what each of its sites would cost the outputs in each format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from tilewright.compiler.fisher import Fisher
from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.format import Encoded, WeightFormat
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.ir.core import Graph
from tilewright.passes.quantization.collect import Feeds, Run, collect
from tilewright.passes.quantization.columns import COLUMNS, Columns
from tilewright.passes.quantization.errors import Gain, Squares, measure_gains, squared_distance
from tilewright.passes.quantization.instrument import disturbed, showing
from tilewright.passes.quantization.sites import (
    Convolution,
    Lookup,
    Product,
    Site,
    rounded_as,
    rounding,
    sites,
)

Compile = Callable[[Graph], Run]
"""Compiles a graph for this machine and gives a function that runs it."""

GAIN_SAMPLES = 4
"""Samples on which disturbances are followed to the outputs, at most."""

GAIN_ROWS = 512
"""Rows of a product that are enough for this; two samples in any case."""

PROBES = {True: "w4-g64", False: "w8a8-sym"}
"""The formats whose errors stand for those of all that read X exactly but for bf16 (True) and of
all that round it to codes (False): errors of weights and of inputs spread differently."""

SHARED = "w8a8-tensor"
"""That of codes where elements of an operand are in several rows of X: all of these then have the
same error, so that it does not average out behind."""

UNSURE = 1.05
"""By how much errors that some columns say are taken to be greater: so that, of formats that are
alike, the selection keeps to those that were encoded, and does not go from guess to guess."""

ALIKE = 8
"""Sites whose columns say how much more or less error one format makes than another, where it is
the weights that make it: on other sites that ratio is the same within some percent."""

FEW_BITS = 6.0
"""Bits of a weight below which its error is far above that of inputs in 8 bits."""

SPREAD = 1.4
"""Greatest of these ratios by the smallest, up to which they count as the same."""

MEASURE = "w4-g64"
"""The format that such ratios are of."""

CORRELATED = 4.0
"""By how much rounding by correlated inputs may beat the bound for independent ones."""

SMALL = {"f32": 0.0, "bf16x3": 1e-5}
"""Relative errors of results in numerics that need not be measured."""

SUMS = {**SMALL, "f16": 1e-3}
"""Relative errors of sums in numerics that no format describes."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Of one graph: its sites, their inputs, and how their errors reach the outputs.

    inputs: of products by name. reads: of lookups, how often each row was read. norms: squared L2
    norm of every output over the calibration samples. gains: by name of the site and whether X is
    read without codes (`PROBES`).

    A lookup in a table that a product multiplies with as well has the product's codes. Weights are
    encoded when they are chosen; before, errors are those of some columns, of the site or of the
    first sites (`settle`).
    """

    graph: Graph
    sites: Mapping[tuple[str, str], Site]
    inputs: Mapping[str, Inputs]
    reads: Mapping[str, np.ndarray]
    norms: Squares
    gains: Mapping[tuple[str, bool], Gain]
    _encoded: dict[tuple[str, str], Encoded] = field(default_factory=dict)
    _squares: dict[tuple[str, str], Squares] = field(default_factory=dict)
    _locals: dict[tuple[str, str], float] = field(default_factory=dict)
    _guesses: set[tuple[str, str]] = field(default_factory=set)
    _settled: set[tuple[str, str]] = field(default_factory=set)
    _desk: dict[str, _Desk] = field(default_factory=dict)
    _ratios: dict[str, list[float]] = field(default_factory=dict)

    @property
    def weighted(self) -> tuple[str, ...]:
        """Weights whose low rank is by Fisher information."""
        own = (site for site in self.sites.values() if site.name in self.inputs)
        names = {s.constant for s in own if self.inputs[s.name].fisher is not None}
        return tuple(sorted(names))

    def formats(self, source: str, constant: str) -> frozenset[str]:
        """Names of the formats that a site may take."""
        site = self.sites.get((source, constant))
        if site is None or not self._judged(site):
            return frozenset()
        return frozenset(f.name for f in formats().values() if f.supports(site.k, site.n))

    def _judged(self, site: Site) -> bool:
        """Whether there are rows to judge formats by: samples may never choose an expert."""
        inputs = self.inputs.get(site.name)
        return inputs is None or len(inputs.sample) > 0

    def encoded(self, source: str, constant: str, name: str) -> Encoded:
        """The weights of a site in a format, rounded by what calibration saw of its inputs."""
        site = self.sites[source, constant]
        return self._encode(site, named(name))

    def squares(self, source: str, constant: str, numerics: str) -> Squares | None:
        """The squared relative error of every output that a site makes in some numerics; None for
        what is no site."""
        site = self.sites.get((source, constant))
        if site is None:
            return None
        key = (site.name, numerics)
        if key not in self._squares:
            if self.estimated(source, constant, numerics):
                self._guesses.add(key)
            self._squares[key] = self._predict(site, numerics)
        return self._squares[key]

    def lost(self, source: str, constant: str, numerics: str) -> float | None:
        """The part of ||X W||^2 that a format was judged to lose; None where it was not."""
        site = self.sites.get((source, constant))
        local = None if site is None else self._locals.get((site.name, numerics))
        if site is None or local is None:
            return None
        size = self._size(site)
        return (local / size) ** 2 if size else 0.0

    def floor(self, source: str, constant: str, numerics: str) -> Squares | None:
        """What a product makes at least in a format, by the bits of a weight alone; None where
        `squares` is known or takes no time.

        Weights of a normal distribution are 2^-bits off in the best of all codes (rate-distortion
        bound); correlated inputs let roundings make up for each other, for which CORRELATED allows.
        """
        site = self.sites.get((source, constant))
        if site is None or isinstance(site, Lookup) or numerics in (*SUMS, "bf16"):
            return None
        if (site.name, numerics) in self._squares or not named(numerics).columnwise:
            return None
        bits = 8 * named(numerics).bytes(site.k, site.n) / (site.k * site.n)
        local = self._size(site) * 2.0**-bits / CORRELATED
        return self.gains[site.name, True].error(local, self.norms)

    def basis(self, source: str, constant: str, numerics: str) -> str:
        """What `squares` is judged by: ``"all"`` weights, some ``"columns"``, or, where it was not
        needed so far, nothing (``""``)."""
        site = self.sites.get((source, constant))
        if site is None or numerics in SUMS or isinstance(site, Lookup):
            return "all"
        if numerics == "bf16":  # what others are compared with
            self.squares(source, constant, numerics)
        if (site.name, numerics) not in self._squares:
            return ""
        return "columns" if self.estimated(source, constant, numerics) else "all"

    def estimated(self, source: str, constant: str, numerics: str) -> bool:
        """Whether `squares` says what some columns of a site make, not all of them: though codes
        are known by now, as those of a format that has the same ones and reads X otherwise."""
        site = self.sites.get((source, constant))
        if site is None or numerics in SUMS or (site.name, numerics) in self._settled:
            return False
        if (site.name, numerics) in self._squares:
            return (site.name, numerics) in self._guesses
        origin = rounded_as(site, self.sites.values())
        if isinstance(origin, Lookup) or origin.n <= 2 * COLUMNS:
            return False
        return (origin.name, named(numerics).stored.name) not in self._encoded

    def settle(self, choices: Iterable[tuple[str, str, str]]) -> bool:
        """Encode the weights of sites in the numerics that were chosen for them, so that `squares`
        is of all columns; whether it was not for any.

        choices: ONNX nodes, weight, numerics.
        """
        found = False
        for source, constant, numerics in choices:
            site = self.sites.get((source, constant))
            # One that was passed over by its bits alone is not judged, though codes may be known.
            unjudged = site is not None and (site.name, numerics) not in self._squares
            if site is None or not (unjudged or self.estimated(source, constant, numerics)):
                continue
            found = True
            self._settled.add((site.name, numerics))
            self._squares.pop((site.name, numerics), None)
            self.squares(source, constant, numerics)
        return found

    def _predict(self, site: Site, numerics: str) -> Squares:
        if isinstance(site, Lookup):
            local = self._lookup_error(site, numerics)
            return self.gains[site.name, True].error(local, self.norms)
        weights = self._at(site).weights
        inputs = self.inputs[site.name]
        if numerics in SUMS:
            local = SUMS[numerics] * self._size(site)
            return self.gains[site.name, True].error(local, self.norms)
        made = named(numerics)
        if self.estimated(*site.key, numerics):
            local = UNSURE * self._estimate(site, made)
        else:
            local = made.error(weights, self._encode(site, made), inputs)
        self._locals[site.name, numerics] = local
        return self.gains[site.name, _kind(made)].error(local, self.norms)

    def _estimate(self, site: Site, made: WeightFormat) -> float:
        """||Y' - X W||_F as some columns say, or as a multiple of what they say of MEASURE that was
        found on other sites, or as the format foresees it."""
        desk, inputs = self._at(site), self.inputs[site.name]
        if not made.columnwise:
            return made.foreseen(desk.weights, inputs, desk.notes)
        columns = desk.columns(inputs)
        measure = named(MEASURE)
        bits = 8 * made.bytes(site.k, site.n) / (site.k * site.n)
        of_weights = _kind(made) or bits < FEW_BITS
        if not of_weights or not measure.supports(site.k, site.n) or made == measure:
            return columns.error(made)
        known, base = self._ratios.setdefault(made.name, []), columns.error(measure)
        if len(known) < ALIKE or max(known) > SPREAD * min(known):
            own = columns.error(made)
            if base > 0:
                known.append(own / base)
            return own
        return base * sum(known) / len(known)

    def _size(self, site: Site) -> float:
        """||X W||_F over all rows of X."""
        desk = self._at(site)
        if desk.size is None:
            inputs = self.inputs[site.name]
            rows = np.sqrt(inputs.rows / max(len(inputs.sample), 1))
            desk.size = float(np.linalg.norm(inputs.sample @ desk.weights) * rows)
        return desk.size

    def _lookup_error(self, site: Lookup, numerics: str) -> float:
        """||Y' - Y||_F over all rows that were read."""
        counts = self.reads[site.name]
        read = np.flatnonzero(counts)
        weights = self._at(site).weights
        share = 1.0
        if numerics in SUMS:
            off = weights[:, read] * np.float32(SUMS[numerics])
        elif (origin := rounded_as(site, self.sites.values())) is site:
            off = rounding(named(numerics), weights, read)
        elif self.estimated(*site.key, numerics):
            some = read[:: max(len(read) // COLUMNS, 1)]
            share, read, made = counts[read].sum() / counts[some].sum(), some, named(numerics)
            part = np.ascontiguousarray(weights[:, some])
            off = made.decode(made.stored.encode(part, self.inputs[origin.name])) - part
        else:
            made = named(numerics)
            off = made.decode(self._encode(site, made))[:, read] - weights[:, read]
        squares = np.sum(off.astype(np.float64) ** 2, axis=0)
        return float(np.sqrt(share * (counts[read] @ squares)))

    def _encode(self, site: Site, made: WeightFormat) -> Encoded:
        site = rounded_as(site, self.sites.values())
        key = (site.name, made.stored.name)
        if key not in self._encoded:
            weights = self._at(site).weights
            self._encoded[key] = made.stored.encode(weights, self.inputs.get(site.name))
        return self._encoded[key]

    def _at(self, site: Site) -> _Desk:
        """What is worked on: of one site, so that memory does not grow with their number."""
        if site.name not in self._desk:
            inputs = self.inputs.get(site.name)
            for name in self._desk:
                last = self.inputs.get(name)
                if last is not None and last is not inputs:
                    last.release()
            self._desk.clear()
            self._desk[site.name] = _Desk(site.weights(self.graph))
        return self._desk[site.name]


@dataclass(eq=False)
class _Desk:
    """Of one site: its weights, some columns of them, ||X W||_F, what formats note."""

    weights: np.ndarray
    some: Columns | None = None
    size: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def columns(self, inputs: Inputs) -> Columns:
        if self.some is None:
            self.some = Columns.of(self.weights, inputs)
        return self.some


def calibrate(
    graph: Graph, samples: Sequence[Feeds], build: Compile, fisher: Fisher | None = None
) -> Calibration:
    """Calibrate `graph` on `samples`. Raises `collect.NotFinite`, and UserError for Fisher
    information that does not fit its weights."""
    found = [site for site in sites(graph) if np.isfinite(site.weights(graph)).all()]
    information = {} if fisher is None else _information(found, graph, fisher)
    show = build(showing(graph, found))
    norms = np.zeros(len(graph.outputs))

    def run(feeds: Feeds) -> Mapping[str, np.ndarray]:
        outputs = show(feeds)
        norms[:] += [squared_distance(outputs[n], np.zeros(1)) for n in graph.output_names]
        return outputs

    statistics = collect(run, found, samples)
    rows = max((i.rows for i in statistics.inputs.values()), default=0) / len(samples)
    wanted = min(max(ceil(GAIN_ROWS / max(rows, 1.0)), 2), GAIN_SAMPLES)
    tried = [samples[i] for i in _spread(len(samples), wanted)]
    clean = [show(feeds) for feeds in tried]
    disturb = build(disturbed(graph, found))
    gains: dict[tuple[str, bool], Gain] = {}
    for kind, name in PROBES.items():
        probed = {
            site.name: site.disturbance(
                named(SHARED if not kind and _overlaps(site) else name),
                site.weights(graph),
                statistics.inputs.get(site.name),
            )
            for site in found
            if kind or not isinstance(site, Lookup)
        }
        measured = measure_gains(disturb, clean, found, tried, graph.output_names, probed)
        gains |= {(site, kind): gain for site, gain in measured.items()}
    by_key = {site.key: site for site in found}
    total = tuple(float(n) for n in norms)
    inputs = {
        name: replace(own, fisher=information[name]) if name in information else own
        for name, own in statistics.inputs.items()
    }
    return Calibration(graph, by_key, inputs, statistics.reads, total, gains)


def _information(found: Sequence[Site], graph: Graph, fisher: Fisher) -> dict[str, np.ndarray]:
    """By name of a product, the Fisher information of its input channels."""
    products = [site for site in found if isinstance(site, Product)]
    fisher.check_used([site.constant for site in products])
    every: dict[str, np.ndarray] = {}
    for site in products:
        shape = graph.weights.array(site.constant).shape
        own = fisher.by_channels(site.constant, shape, site.axes, site.k)
        if own is not None:
            every[site.name] = own
    return every


def _kind(made: WeightFormat) -> bool:
    return made.activation.exact or not made.activation.name


def _overlaps(site: Site) -> bool:
    return isinstance(site, Convolution) and site.overlapping


def _spread(count: int, wanted: int) -> list[int]:
    """Numbers of `wanted` samples spread over `count`."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted))})
