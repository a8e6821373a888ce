"""The per-kernel table of `run --profile` and `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tilewright.tools.cli.screen import Screen, percent, rate

if TYPE_CHECKING:
    from tilewright.runtime.profile import ProfileRow

SHOWN = 30
"""Rows of the table without -v; the slowest come first."""


def profile_rows(rows: Sequence[ProfileRow], runs: int) -> list[dict[str, Any]]:
    """Per launch: milliseconds a run, share of all kernels' time, GFLOP/s and GB/s."""
    total = sum(row.ms for row in rows)
    return [
        {
            "kernel": row.name,
            "source": row.source,
            "calls": row.calls,
            "ms": row.ms / runs,
            "share": row.ms / total if total else 0.0,
            "gflops": row.gflops,
            "gbs": row.gbs,
        }
        for row in rows
    ]


def show_profile(screen: Screen, rows: Sequence[dict[str, Any]]) -> None:
    """Print the slowest launches, all of them with -v."""
    shown = rows if screen.verbose else rows[:SHOWN]
    bounds = (">roofline", "bound by", ">gap ms") if any("bound" in r for r in rows) else ()
    screen.table(
        "kernels, slowest first",
        (">ms", ">share", ">GFLOP/s", ">GB/s", *bounds, "kernel", "ONNX nodes"),
        [
            (
                f"{r['ms']:.4f}",
                percent(r["share"], 1),
                rate(r["gflops"]),
                rate(r["gbs"]),
                *(_bound(r) if bounds else ()),
                r["kernel"],
                r["source"],
            )
            for r in shown
        ],
    )
    if len(shown) < len(rows):
        rest = sum(r["ms"] for r in rows[len(shown) :])
        screen.text(f"{len(rows) - len(shown)} more launches take {rest:.4f} ms; -v shows them")


def _bound(row: dict[str, Any]) -> tuple[str, str, str]:
    """Achieved fraction of the roofline, what bounds the kernel, milliseconds above the bound."""
    if row["bound"] is None:
        return "-", "-", "-"
    return percent(row["fraction"], 1), row["bound"], f"{row['gap_ms']:.4f}"
