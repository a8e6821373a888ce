"""The terms of an error contract: what may be chosen, and how much error is left for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.formats.format import Encoded
from tilewright.passes.quantization.calibration import SMALL, Calibration
from tilewright.passes.quantization.errors import Squares
from tilewright.passes.quantization.planned import Formats
from tilewright.passes.quantization.stored import Multiply, as_stored

LEAST = 0.01
"""Part of a budget that is left for operations where key-value caches take more than the rest."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What a lowering may choose from under a bound.

    bound: relative L2 error that every output may have. share: of its square that predictions may
    come to; less than 1 when they proved too low. keep: (pattern, numerics) pairs; the first
    pattern that one of an operation's ONNX nodes matches decides its numerics, if it can have them.
    fixed: of a plan. without: weight formats that are not
    offered. rest: by numerics, what the operations that were not calibrated add together. sites,
    others_as: the only numerics of calibrated operations and of others; None for any. caches: what
    key-value caches in codes, and channels that were left out, add.
    """

    calibration: Calibration
    bound: float
    share: float = 1.0
    keep: tuple[tuple[str, str], ...] = ()
    fixed: Formats | None = None
    without: frozenset[str] = frozenset()
    rest: Mapping[str, Squares] = field(default_factory=dict)
    sites: str | None = None
    others_as: str | None = None
    caches: Squares = ()

    @property
    def limits(self) -> Squares:
        """What all squares together may come to, by output: beside those of key-value caches, but
        never nothing."""
        whole = self.bound**2 * self.share
        taken = self.caches or (0.0,) * len(self.calibration.norms)
        return tuple(max(whole - square, LEAST * whole) for square in taken)

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        """Whether an operation may run in these numerics."""
        wanted = self.fixed.of(source, constant) if self.fixed is not None else None
        wanted = wanted or kept(self.keep, source)
        if wanted is not None:
            return numerics == wanted
        only = self.sites if self._calibrated(source, constant) else self.others_as
        return only is None or numerics == only

    def formats(self, source: str, constant: str) -> frozenset[str]:
        """Weight formats that a contraction may take."""
        return self.calibration.formats(source, constant) - self.without

    def stored(self, source: str, constant: str, numerics: str) -> Multiply:
        """What a calibrated operation computes in a weight format, before its epilogue."""
        encoded = self.encoded(source, constant, numerics)
        return as_stored(self.calibration.sites[source, constant], encoded, numerics)

    def encoded(self, source: str, constant: str, name: str) -> Encoded:
        """The weights of a contraction in a format."""
        return self.calibration.encoded(source, constant, name)

    def squares(self, source: str, constant: str, numerics: str) -> Squares | None:
        """What a contraction adds to the outputs' errors; None for what was not calibrated."""
        return self.calibration.squares(source, constant, numerics)

    def lost(self, source: str, constant: str, numerics: str) -> float | None:
        """The part of a contraction's own energy that a format loses; None where it was not
        judged."""
        return self.calibration.lost(source, constant, numerics)

    def floor(self, source: str, constant: str, numerics: str) -> Squares | None:
        """What a contraction adds at least; None where `squares` is known or takes no time."""
        return self.calibration.floor(source, constant, numerics)

    def basis(self, source: str, constant: str, numerics: str) -> str:
        """What that was judged by: "all" weights, some "columns", nothing so far ("")."""
        return self.calibration.basis(source, constant, numerics)

    def settle(self, choices: Iterable[tuple[str, str, str]]) -> bool:
        """Judge choices by all columns; whether any was not before."""
        return self.calibration.settle(choices)

    def others(self, numerics: str) -> Squares:
        """What all operations that were not calibrated add together."""
        small = SMALL.get(numerics)
        if small is not None:
            return (small**2,) * len(self.limits)
        return self.rest[numerics]

    def tightened(self, factor: float) -> Terms:
        """The same with `factor` times the share."""
        return replace(self, share=self.share * factor)

    def under(self, fixed: Formats) -> Terms:
        """The same with what a plan fixes."""
        return replace(self, fixed=fixed)

    def plain(self) -> Terms:
        """The same without any weight format, and without what was asked for."""
        every = frozenset().union(
            *(self.calibration.formats(*key) for key in self.calibration.sites)
        )
        return replace(self, keep=(), fixed=None, without=every)

    def _calibrated(self, source: str, constant: str) -> bool:
        return (source, constant) in self.calibration.sites


def kept(keep: Iterable[tuple[str, str]], source: str) -> str | None:
    """The numerics that `keep` asks of an operation, None if nothing does."""
    nodes = (source, *source.split(", "))
    for pattern, wanted in keep:
        if pattern in nodes or any(fnmatchcase(node, pattern) for node in nodes):
            return wanted
    return None


def check_keep(
    keep: Sequence[tuple[str, str]], could: Iterable[tuple[str, frozenset[str]]]
) -> None:
    """Raise UserError for a pattern that no operation matches, and for numerics that none of those
    that match it can have.

    could: ONNX nodes of every operation, and the numerics that it could run in.
    """
    known = list(could)
    for pattern, wanted in keep:
        where = f"keep {pattern}={wanted}"
        alike = [(s, numerics) for s, numerics in known if kept([(pattern, wanted)], s)]
        if not alike:
            hint = nearest(pattern, [s for s, _ in known]) if known else ""
            raise UserError(where, "no operation that has a choice matches the pattern", hint=hint)
        if not any(wanted in numerics for _, numerics in alike):
            every = sorted(frozenset().union(*(numerics for _, numerics in alike)))
            count = f"{len(alike)} operations" if len(alike) > 1 else alike[0][0]
            found = f"{count} could have {', '.join(every)}"
            raise UserError(where, f"nothing that matches can run in {wanted}", found)
