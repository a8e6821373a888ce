"""How far kernels are from what the machine's profile allows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.backends.profile import MachineProfile
from tilewright.runtime.profile import ProfileRow


@dataclass(frozen=True)
class Bound:
    """The least time of a launch, and what sets it: ``compute``, ``memory``, or None where the
    launch's work is not known."""

    ms: float
    by: str | None


class Roofline:
    """Bounds of one variant's launches on a machine with ``profile``, with ``threads`` threads.

    ``plan``: the variant's entry of plan.json. A launch's operations take the sustained rate of
    their unit (every issued one: all partial products and padded tiles); its operands, read and
    written once, the bandwidth from L2, or from L3 when they exceed L2.
    """

    def __init__(self, profile: MachineProfile, plan: Mapping[str, Any], threads: int) -> None:
        self.profile = profile
        self.cores = min(threads, max(profile.cores, 1))
        self.work: dict[str, tuple[str, float]] = {
            launch["kernel"]: (launch["unit"], launch["issue"])
            for launch in plan.get("launches", ())
            if "unit" in launch
        }

    def bound(self, row: ProfileRow) -> Bound:
        """The least time of one call of ``row``'s kernel."""
        if row.gflops is None or row.gbs is None or not row.calls:
            return Bound(0.0, None)
        seconds = row.ms * 1e-3 / row.calls
        compute = row.gflops * 1e9 * seconds / self._rate(row.name)
        moved = row.gbs * 1e9 * seconds
        read = self.profile.read.l3 if moved > self.profile.l2 else self.profile.read.l2
        bandwidth = read.one if self.cores == 1 else read.two * self.cores
        memory = moved / bandwidth
        return Bound(1e3 * max(compute, memory), "compute" if compute >= memory else "memory")

    def _rate(self, kernel: str) -> float:
        """Operations of the mathematical product per second."""
        if kernel not in self.work:
            return self.profile.vector * self.cores
        unit, issue = self.work[kernel]
        return self.profile.rate(unit).sustained / max(issue, 1e-9) * self.cores


def rows_with_bounds(
    rows: Sequence[ProfileRow], table: Sequence[Mapping[str, Any]], roofline: Roofline
) -> list[dict[str, Any]]:
    """``table``, a row for each of ``rows``, with the ``fraction`` of the roofline that was
    achieved, what bounds it and the ``gap_ms`` to it of a run."""
    found = []
    for row, shown in zip(rows, table, strict=True):
        bound = roofline.bound(row)
        ms = row.ms / row.calls if row.calls else 0.0
        known = bound.by is not None and ms > 0
        found.append(
            {
                **shown,
                "bound": bound.by,
                "fraction": bound.ms / ms if known else None,
                "gap_ms": shown["ms"] * (1 - bound.ms / ms) if known else None,
            }
        )
    return found
