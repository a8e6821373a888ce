"""Rows of a profile: what each kernel launch cost and how fast that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tilewright.runtime.expressions import ExpressionError, evaluate
from tilewright.runtime.manifest import Launch


@dataclass(frozen=True)
class ProfileRow:
    """One kernel launch of the model.

    name: the kernel's symbol. source: the ONNX nodes it computes. ms: wall time of all calls.
    gbs, gflops: 1e9 bytes and 1e9 operations per second; None where the work depends on data, or
    where no time was measured.
    """

    name: str
    source: str
    calls: int
    ms: float
    gbs: float | None
    gflops: float | None


def profile_rows(
    launches: Sequence[Launch],
    nanoseconds: Sequence[int],
    calls: Sequence[int],
    dims: Mapping[str, int],
) -> list[ProfileRow]:
    """A row per launch that ran, slowest first."""
    rows = []
    for launch, spent, count in zip(launches, nanoseconds, calls, strict=False):
        if count:
            rates = (_rate(work, dims, count, spent) for work in (launch.bytes, launch.flops))
            gbs, gflops = rates
            rows.append(ProfileRow(launch.name, launch.source, count, spent / 1e6, gbs, gflops))
    return sorted(rows, key=lambda row: -row.ms)


def _rate(work: str, dims: Mapping[str, int], calls: int, nanoseconds: int) -> float | None:
    """Work per nanosecond, which is 1e9 units per second."""
    if not nanoseconds:
        return None
    try:
        return evaluate(work, dims) * calls / nanoseconds
    except ExpressionError:
        return None
