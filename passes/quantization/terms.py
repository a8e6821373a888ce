"""The terms of an error contract: what may be chosen, and how much error is left for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from tilewright.compiler.formats.format import Encoded
from tilewright.passes.quantization.calibration import SMALL, Calibration
from tilewright.passes.quantization.errors import Squares


@dataclass(frozen=True, eq=False)
class Terms:
    """What a lowering may choose from under a bound.

    bound: relative L2 error that every output may have. share: of its square that predictions may
    come to; less than 1 when they proved too low. keep: (pattern, numerics) pairs; the first
    pattern that an operation's ONNX nodes match decides its numerics. rest: by numerics, what the
    operations that were not calibrated add together. sites, others: the only numerics of calibrated
    operations and of others; None for any.
    """

    calibration: Calibration
    bound: float
    share: float = 1.0
    keep: tuple[tuple[str, str], ...] = ()
    rest: Mapping[str, Squares] = field(default_factory=dict)
    sites: str | None = None
    others_as: str | None = None

    @property
    def limits(self) -> Squares:
        """What all squares together may come to, by output."""
        return (self.bound**2 * self.share,) * len(self.calibration.norms)

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        """Whether an operation may run in these numerics."""
        for pattern, wanted in self.keep:
            if fnmatchcase(source, pattern):
                return numerics == wanted
        only = self.sites if self._calibrated(source, constant) else self.others_as
        return only is None or numerics == only

    def formats(self, source: str, constant: str) -> frozenset[str]:
        """Weight formats that a contraction may take."""
        return self.calibration.formats(source, constant)

    def encoded(self, source: str, constant: str, name: str) -> Encoded:
        """The weights of a contraction in a format."""
        return self.calibration.encoded(source, constant, name)

    def squares(self, source: str, constant: str, numerics: str) -> Squares | None:
        """What a contraction adds to the outputs' errors; None for what was not calibrated."""
        return self.calibration.squares(source, constant, numerics)

    def others(self, numerics: str) -> Squares:
        """What all operations that were not calibrated add together."""
        small = SMALL.get(numerics)
        if small is not None:
            return (small**2,) * len(self.limits)
        return self.rest[numerics]

    def tightened(self, factor: float) -> Terms:
        """The same with `factor` times the share."""
        return replace(self, share=self.share * factor)

    def _calibrated(self, source: str, constant: str) -> bool:
        return (source, constant) in self.calibration.sites
