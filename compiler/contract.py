"""The record of an error contract: what was promised, how it was measured, what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Errors = tuple[float, ...]
"""Of every output, a relative L2 error."""


@dataclass(frozen=True)
class Round:
    """One choice that was built and measured.

    share: part of the squared bound that predictions could come to. predicted, measured: relative
    L2 errors by output, measured on the held-out samples; the worst of the targets. change: of the
    metric against the reference, where there is one. kept: whether the bound holds.
    """

    share: float
    predicted: Errors
    measured: Errors
    kept: bool
    change: float | None = None


@dataclass(frozen=True)
class CacheRecord:
    """Key-value caches in codes. alone: the errors of outputs in an artifact that is exact but for
    them; caches themselves are compared with the reference's in the same codes. stored: by output
    that is a cache, the error of storing it."""

    format: str
    alone: Errors
    stored: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """For plan.json and --json."""
        stored = dict(zip(self.stored, _short(tuple(self.stored.values())), strict=True))
        return {"format": self.format, "alone": _short(self.alone), "stored": stored}


@dataclass(frozen=True)
class Contract:
    """A bound that was kept.

    bound: what every output's relative L2 error, or the change of `metric`, may come to. outputs:
    their names. reference: what errors are measured against. calibration, held_out: numbers of
    samples. rounds: all choices in the order in which they were built; chosen: which of them the
    artifact is. timing: how the choice was timed against one without weight formats. caches: of
    key-value caches in codes. emulated: targets that nothing here runs: "measured" of them is what
    their numerics make in numpy. fisher: weights whose low rank is by Fisher information.
    """

    bound: float
    outputs: tuple[str, ...]
    reference: str
    calibration: int
    held_out: int
    rounds: tuple[Round, ...]
    chosen: int
    metric: str | None = None
    keep: tuple[tuple[str, str], ...] = ()
    optimize: str = "latency"
    max_size: int | None = None
    timing: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    caches: CacheRecord | None = None
    emulated: tuple[str, ...] = ()
    fisher: tuple[str, ...] = ()

    @property
    def predicted(self) -> Errors:
        """The relative L2 errors that the choice was predicted to make, by output."""
        return self.rounds[self.chosen].predicted

    @property
    def measured(self) -> Errors:
        """The relative L2 errors of the artifact on the held-out samples, by output."""
        return self.rounds[self.chosen].measured

    @property
    def change(self) -> float | None:
        """Of the metric, where there is one."""
        return self.rounds[self.chosen].change

    def document(self) -> dict[str, Any]:
        """For plan.json and --json."""
        found: dict[str, Any] = {
            "bound": self.bound,
            "of": "relative L2 error of every output" if self.metric is None else "metric",
            "outputs": list(self.outputs),
            "predicted": _short(self.predicted),
            "measured": _short(self.measured),
            "reference": self.reference,
            "samples": {"calibration": self.calibration, "held_out": self.held_out},
            "optimize": self.optimize,
            "max_size": self.max_size,
            "keep": [list(pair) for pair in self.keep],
            "rounds": [
                {
                    "share": float(f"{r.share:.3g}"),
                    "predicted": _short(r.predicted),
                    "measured": _short(r.measured),
                    **({} if r.change is None else {"change": float(f"{r.change:.4g}")}),
                    "kept": r.kept,
                }
                for r in self.rounds
            ],
            "chosen_round": self.chosen,
        }
        if self.metric is not None:
            found |= {"metric": self.metric, "change": self.rounds[self.chosen].change}
        if self.caches is not None:
            found["kv_cache"] = self.caches.document()
        if self.emulated:
            found["emulated"] = list(self.emulated)
        if self.fisher:
            found["fisher"] = list(self.fisher)
        if self.timing:
            found["timing"] = [dict(row) for row in self.timing]
        return found


@dataclass(frozen=True)
class FrontPoint:
    """One point of a front of contracts: its bound and objective, and the artifact that keeps it;
    `refusal` says why there is none."""

    bound: float
    optimize: str
    path: Path | None = None
    bytes: int = 0
    contract: Contract | None = None
    refusal: str = ""


def _short(errors: Errors) -> list[float]:
    return [float(f"{e:.4g}") for e in errors]
