"""The predicted errors of plan.json: what each format would cost an operation, and which operation
costs the model most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from tilewright.tools.inspect_selection import times

INSTEAD = "bf16"
"""The numerics that the costliest operation is compared with."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One operation of a choice: its ONNX nodes, the choice, and which of its operations it is."""

    source: str
    choice: Mapping[str, Any]
    number: int

    @property
    def chosen(self) -> str:
        """Its numerics."""
        return str(self.choice["candidates"][0]["numerics"])

    def errors(self, numerics: str) -> list[float]:
        """The relative L2 errors that it is predicted to make, by output."""
        return [float(e) for e in self.choice["errors"][numerics][self.number]]

    def basis(self, numerics: str) -> str:
        """What its error was judged by, where that is not all of the weights."""
        return "by some columns" if numerics in self.choice.get("estimated", ()) else ""

    def best(self, numerics: str) -> Mapping[str, Any]:
        """The fastest candidate in some numerics; of the chosen ones, the chosen."""
        rows = [c for c in self.choice["candidates"] if c["numerics"] == numerics]
        if numerics == self.chosen:
            return dict(rows[0])
        return dict(min(rows, key=lambda c: sum(c["microseconds"])))


def operations(selection: Mapping[str, Any]) -> Iterator[Operation]:
    """All whose errors are known."""
    for choice in selection["choices"]:
        if "errors" in choice:
            for number, source in enumerate(choice["sources"]):
                yield Operation(source, choice, number)


def of_node(selection: Mapping[str, Any], node: str) -> list[Operation]:
    """Those that an ONNX node is part of."""
    return [op for op in operations(selection) if node in (op.source, *op.source.split(", "))]


def format_rows(op: Operation) -> list[Row]:
    """One row for all numerics that an operation could have: the greatest error at any output, the
    time of the fastest kernel, bytes of weights; least error first."""
    rows: list[Row] = []
    for numerics in sorted(op.choice["errors"], key=lambda n: max(op.errors(n), default=0.0)):
        best = op.best(numerics)
        rows.append(
            (
                numerics,
                f"{max(op.errors(numerics), default=0.0):.3g}",
                times(best),
                f"{best['weight_bytes']:,}",
                "chosen" if numerics == op.chosen else op.basis(numerics),
            )
        )
    return rows


def worst(selection: Mapping[str, Any]) -> dict[str, Any] | None:
    """The operation that takes most of the error of the output whose error is greatest, and what
    keeping it in bf16 would give with all others as they are; None where no errors are known.

    Errors are relative L2 errors of that output as predicted; microseconds at every point.
    """
    known = list(operations(selection))
    predicted = selection["predicted"]
    if not known or not predicted:
        return None
    output = max(range(len(predicted)), key=lambda i: predicted[i])
    op = max(known, key=lambda o: o.errors(o.chosen)[output])
    own, whole = op.errors(op.chosen)[output], predicted[output]
    found: dict[str, Any] = {
        "source": op.source,
        "parts": _parts(selection, op.source),
        "output": output,
        "numerics": op.chosen,
        "error": own,
        "model_error": whole,
        "share": round((own / whole) ** 2, 3) if whole else 0.0,
    }
    if op.chosen != INSTEAD and INSTEAD in op.choice["errors"]:
        exact, now = op.best(INSTEAD), op.best(op.chosen)
        other = op.errors(INSTEAD)[output]
        pairs = zip(exact["microseconds"], now["microseconds"], strict=True)
        found["instead"] = {
            "numerics": INSTEAD,
            "error": other,
            "model_error": float(f"{sqrt(max(whole**2 - own**2, 0.0) + other**2):.3g}"),
            "weight_bytes": exact["weight_bytes"] - now["weight_bytes"],
            "microseconds": [round(a - b, 2) for a, b in pairs],
        }
    return found


def _parts(selection: Mapping[str, Any], source: str) -> list[str]:
    """The operations of a launch."""
    taken = [fork["ways"][0]["launches"] for fork in selection.get("forks", ())]
    launches = [launch for way in taken for launch in way]
    return next((launch for launch in launches if ", ".join(launch) == source), [source])


def describe_worst(found: Mapping[str, Any]) -> str:
    """`worst` in words."""
    first = (
        f"of all operations {found['source']} costs the most error: {found['error']:.3g} in"
        f" {found['numerics']}, {found['share']:.0%} of the square of {found['model_error']:.3g}"
    )
    lines = [first]
    if "instead" in found:
        other = found["instead"]
        more = ", ".join(f"{us:+,.3g}" for us in other["microseconds"])
        keep = " ".join(
            f"--keep '{part.split(', ')[0]}={other['numerics']}'" for part in found["parts"]
        )
        lines.append(
            f"kept in {other['numerics']} it would make {other['error']:.3g}, the model"
            f" {other['model_error']:.3g}, with {other['weight_bytes']:+,} bytes of weights and"
            f" {more} microseconds: {keep}"
        )
    return "\n".join(lines)
