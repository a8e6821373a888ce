"""The record of an artifact with several precisions: the errors of each, measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from tilewright.compiler.contract import Errors


@dataclass(frozen=True)
class Slice:
    """Codes of which ``bits`` bits are read.

    predicted, measured: relative L2 errors by output, measured on the held-out samples, the worst
    of the targets. kept: whether they are within the bound.
    """

    bits: int
    predicted: Errors
    measured: Errors
    kept: bool


@dataclass(frozen=True)
class SliceContract:
    """The slices of an artifact, the widest first.

    bound: what every output's relative L2 error may come to in all of them, inf for any. reference:
    what errors are measured against. calibration, held_out: numbers of samples. emulated: as of
    `Contract`.
    """

    bound: float
    outputs: tuple[str, ...]
    reference: str
    calibration: int
    held_out: int
    slices: tuple[Slice, ...]
    emulated: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """For plan.json and --json."""
        return {
            "bound": self.bound if isfinite(self.bound) else None,
            "of": "relative L2 error of every output",
            "outputs": list(self.outputs),
            "reference": self.reference,
            "samples": {"calibration": self.calibration, "held_out": self.held_out},
            "slices": [
                {
                    "bits": s.bits,
                    "predicted": [float(f"{e:.4g}") for e in s.predicted],
                    "measured": [float(f"{e:.4g}") for e in s.measured],
                }
                for s in self.slices
            ],
            **({"emulated": list(self.emulated)} if self.emulated else {}),
        }
