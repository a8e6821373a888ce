"""Several precisions of one artifact: the same codes in all, the errors of each measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import TypeVar

from tilewright.compiler.contract import Errors
from tilewright.compiler.errors import UserError
from tilewright.compiler.formats import named
from tilewright.compiler.formats.sliced import Sliced, every
from tilewright.compiler.options import Options
from tilewright.compiler.slice_contract import Slice, SliceContract
from tilewright.passes.quantization.agreement import Agreement, Workshop
from tilewright.passes.quantization.sites import Lookup, Site
from tilewright.passes.quantization.terms import Terms, kept

TABLES = "w8-sym"
"""How tables that are looked up are stored for all slices: a row of 4 bits is no faster to read."""

Built = TypeVar("Built")


@dataclass(frozen=True, eq=False)
class SlicedTerms(Terms):
    """Every product reads ``bits`` bits of codes that are sliced at ``slices`` (rising), whatever
    error that makes.

    exactly: it reads X in bf16, not in 8 bits where that is faster. alike: the numerics of all
    other operations by ONNX nodes, as of the first slice, so that all have the same weights.
    """

    slices: tuple[int, ...] = ()
    bits: int = 0
    exactly: bool = False
    alike: Mapping[str, str] = field(default_factory=dict)

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        """Whether an operation may run in these numerics."""
        wanted = kept(self.keep, source)
        if wanted is not None:
            return numerics == wanted
        own = self._own(self.calibration.sites.get((source, constant)))
        if own:
            return numerics in own
        return numerics == self.alike.get(source, numerics)

    def formats(self, source: str, constant: str) -> frozenset[str]:
        """Weight formats that an operation may take."""
        asked = kept(self.keep, source)
        if asked is not None:
            return super().formats(source, constant) & {asked}
        return frozenset(self._own(self.calibration.sites.get((source, constant))))

    def _own(self, site: Site | None) -> tuple[str, ...]:
        """The formats of a site; none where it stays in floats."""
        if site is None:
            return ()
        if isinstance(site, Lookup):
            return (TABLES,)
        return tuple(
            made.name
            for made in every()
            if (made.bits, made.slices) == (self.bits, self.slices)
            and made.supports(site.k, site.n)
            and not (self.exactly and made.reads.name)
        )


def agree(
    made: Agreement, options: Options, workshop: Workshop[Built]
) -> tuple[dict[int, Built], SliceContract]:
    """A build for every slice, the widest first, and what they were measured to make.

    A slice whose error is above the bound with inputs in 8 bits reads them in bf16. Raises
    UserError where that is too much still, naming the slices that keep the bound.
    """
    bound, slices = options.max_error, options.slices
    assert bound is not None
    given = {f.name: getattr(made.terms, f.name) for f in fields(Terms)}
    # The bound is held against what is measured: there is nothing to choose by predictions.
    terms = SlicedTerms(**{**given, "bound": inf}, slices=tuple(sorted(slices)))
    builds: dict[int, Built] = {}
    found: list[Slice] = []
    for bits in sorted(slices, reverse=True):
        built, row = _slice(made, bound, replace(terms, bits=bits), workshop)
        builds[bits] = built
        found.append(row)
        if not terms.alike:
            chosen = workshop.chosen(built)
            rest = {s: n for s, n in chosen.items() if not isinstance(_named(n), Sliced)}
            terms = replace(terms, alike=rest)
    broken = [row for row in found if not row.kept]
    if broken:
        _refuse(bound, found, broken)
    samples = made.samples
    return builds, SliceContract(
        bound,
        tuple(made.terms.calibration.graph.output_names),
        made.reference,
        len(samples.calibration),
        len(samples.held_out),
        tuple(found),
        workshop.emulated,
    )


def _slice(
    made: Agreement, bound: float, terms: SlicedTerms, workshop: Workshop[Built]
) -> tuple[Built, Slice]:
    best: tuple[Built, Slice] | None = None
    for exactly in (False, True):
        built, predicted = workshop.build(replace(terms, exactly=exactly))
        errors: Errors = workshop.deviations(built, made.expected, made.samples.held_out)
        row = Slice(terms.bits, predicted, errors, max(errors, default=0.0) <= bound)
        if best is None or row.kept or max(errors) < max(best[1].measured):
            best = built, row
        if row.kept:
            break
    assert best is not None
    return best


def _named(numerics: str) -> object:
    return named(numerics) if "of" in numerics else None


def _refuse(bound: float, found: Sequence[Slice], broken: Sequence[Slice]) -> None:
    errors = ", ".join(f"{row.bits} bits {max(row.measured):.3g}" for row in found)
    keeping = ",".join(str(row.bits) for row in found if row.kept)
    hint = "give a greater bound"
    if keeping:
        hint = f"give --slices {keeping}, or a greater bound"
    which = " and ".join(str(row.bits) for row in broken)
    raise UserError(
        f"max-error {bound:g}",
        f"cannot be kept by slices of {which} bits",
        f"errors on held-out samples: {errors}",
        hint,
    )
