"""`tilewright targets`: the rows code can be compiled for, and what this machine has."""

from __future__ import annotations

from typing import Any

from tilewright.tools.cli.options import subcommand
from tilewright.tools.cli.screen import Screen

EXAMPLES = """
tilewright targets
tilewright targets --json
"""


@subcommand("targets", EXAMPLES)
def command(screen: Screen) -> dict[str, Any]:
    """List the targets, which of them run here, and this machine's features."""
    from tilewright.backends.target import TARGETS, UnknownTargetError, cpu_flags, detect, runs_here
    from tilewright.runtime.cpu import host_architecture, host_features

    try:
        native = detect().name
    except UnknownTargetError:
        native = None
    rows = []
    for target in TARGETS.values():
        missing = sorted(set(target.required_flags) - cpu_flags())
        rows.append(
            {
                "name": target.name,
                "inherits": target.inherits,
                "architecture": target.triple.split("-")[0],
                "vector_bits": target.vector_bits,
                "features": list(target.all_features),
                "runs_here": runs_here(target),
                "native": target.name == native,
                "missing": missing,
            }
        )
    screen.table(
        "targets",
        ("name", "inherits", "architecture", ">vector bits", "runs here"),
        [
            (
                row["name"],
                row["inherits"] or "",
                row["architecture"],
                row["vector_bits"],
                _runs(row, host_architecture()),
            )
            for row in rows
        ],
    )
    features = sorted(host_features())
    screen.text(f"this machine: {host_architecture()}, {len(features)} CPU features")
    screen.text(f"  {' '.join(features)}")
    return {
        "targets": rows,
        "native": native,
        "machine": {"architecture": host_architecture(), "features": features},
    }


def _runs(row: dict[str, Any], architecture: str) -> str:
    if row["native"]:
        return "yes: `native`"
    if row["runs_here"]:
        return "yes"
    if row["architecture"] != architecture:
        return "no: another architecture"
    return f"no: lacks {', '.join(row['missing'])}"
