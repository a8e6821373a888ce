"""The choices among kernels in plan.json, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.runtime.errors import ArtifactError, nearest

Row = tuple[str, ...]


def choice_rows(selection: Mapping[str, Any]) -> list[Row]:
    """One row a choice: task, operations, numerics, the greatest predicted error of any of these,
    kernel, times at the points, the next best kernel."""
    rows: list[Row] = []
    for choice in selection["choices"]:
        chosen, *others = choice["candidates"]
        allowed = [c for c in others if c["accuracy"] <= selection["accuracy"]]
        rows.append(
            (
                choice["task"],
                str(len(choice["sources"])),
                chosen["numerics"],
                error_of(choice, chosen["numerics"]),
                kernel(chosen),
                times(chosen),
                f"{kernel(allowed[0])}: {allowed[0]['reason']}" if allowed else "-",
            )
        )
    return rows


def value_rows(selection: Mapping[str, Any]) -> list[Row]:
    """One row for values that are stored alike: formats, how many, the first of them, why."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for value in selection.get("values", ()):
        found.setdefault((" + ".join(value["formats"]), value["reason"]), []).append(value)
    return [
        (formats, str(len(alike)), alike[0]["name"], reason)
        for (formats, reason), alike in found.items()
    ]


def fork_rows(selection: Mapping[str, Any]) -> list[Row]:
    """One row for products of one operand that are launched alike: the first of these, how many,
    their launches, times at the points, the next best way."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for fork in selection.get("forks", ()):
        chosen, *others = fork["ways"]
        after = f"{_launches(fork, others[0])}: {others[0]['reason']}" if others else "-"
        key = (_launches(fork, chosen), _microseconds(chosen), after)
        found.setdefault(key, []).append(fork)
    return [
        (" | ".join(alike[0]["sources"]), str(len(alike)), *key) for key, alike in found.items()
    ]


def ways_of(selection: Mapping[str, Any], node: str) -> list[tuple[str, list[Row]]]:
    """Of every fork that an ONNX node is part of its products, and a row a way."""
    return [
        (
            " | ".join(fork["sources"]),
            [
                (
                    _launches(fork, way),
                    " | ".join(way.get("numerics", ())),
                    _microseconds(way),
                    f"{way['weight_bytes']:,}" if "weight_bytes" in way else "-",
                    way["reason"],
                )
                for way in fork["ways"]
            ],
        )
        for fork in selection.get("forks", ())
        if any(node in source.split(", ") for source in fork["sources"])
    ]


def _launches(fork: Mapping[str, Any], way: Mapping[str, Any]) -> str:
    """Products by number, those of one launch together: `1+2 | 3`."""
    numbers = {source: str(i) for i, source in enumerate(fork["sources"], 1)}
    return " | ".join("+".join(numbers[s] for s in launch) for launch in way["launches"])


def _microseconds(way: Mapping[str, Any]) -> str:
    return "  ".join(number(us) for us in way.get("microseconds", ())) or "-"


def values_of(selection: Mapping[str, Any], node: str) -> list[Row]:
    """The values that an ONNX node makes or reads: formats, shape, costs, why."""
    return [
        (
            value["name"],
            " + ".join(value["formats"]),
            "x".join(value["shape"]),
            "  ".join(f"{k} {'-' if c is None else c}" for k, c in value["costs"].items()),
            value["reason"],
        )
        for value in selection.get("values", ())
        if any(node in source.split(", ") for source in (value["maker"], *value["readers"]))
    ]


def describe(selection: Mapping[str, Any]) -> str:
    """What the choices were made for and from."""
    profile = selection["profile"]
    points = "; ".join(at(point) for point in selection["points"])
    measured = any(any(c["measured"]) for o in selection["choices"] for c in o["candidates"])
    how = "measured where marked *" if measured else "predicted"
    threads = selection.get("threads", 1)
    on = "one thread" if threads == 1 else f"{threads} threads"
    lines = [
        f"profile of {profile['target']} ({profile['source']}), {profile['digest']}",
        f"microseconds {how}, {on}, weights from {selection['weights_from']}",
    ]
    if points:
        lines.append(f"at {points}")
    if selection["weight_limit"] is not None:
        lines.append(f"packed weights may take {selection['weight_limit']:,} bytes")
    return "\n".join(lines)


def explained(selection: Mapping[str, Any], node: str) -> list[Mapping[str, Any]]:
    """The choices for an ONNX node. Raises ArtifactError for a node without one."""
    known: dict[str, None] = {}
    found = []
    for choice in selection["choices"]:
        nodes = [name for source in choice["sources"] for name in source.split(", ")]
        known.update(dict.fromkeys(nodes))
        if node in nodes:
            found.append(choice)
    if not found:
        hint = "`--plan` lists the choices"
        raise ArtifactError(
            f"node {node!r}", "no kernel was chosen for it", nearest(node, known), hint
        )
    return found


def candidate_rows(choice: Mapping[str, Any]) -> list[Row]:
    """One row a candidate of a choice, the chosen one first."""
    return [
        (
            kernel(c),
            times(c),
            f"{c['weight_bytes']:,}" if c["weight_bytes"] else "-",
            c["numerics"],
            error_of(choice, c["numerics"]),
            c["reason"],
        )
        for c in choice["candidates"]
    ]


def error_of(choice: Mapping[str, Any], numerics: str) -> str:
    """The greatest relative L2 error that an operation of a choice is predicted to make at any
    output in some numerics; `-` where nothing was calibrated."""
    found = choice.get("errors", {}).get(numerics)
    return f"{max(max(row, default=0.0) for row in found):.3g}" if found else "-"


def kernel(candidate: Mapping[str, Any]) -> str:
    """`bf16_matmul products=3`."""
    return f"{candidate['family']} {candidate['spec']}".rstrip()


def times(candidate: Mapping[str, Any]) -> str:
    """Microseconds at every point; measurements have a star."""
    pairs = zip(candidate["microseconds"], candidate["measured"], strict=True)
    return "  ".join(f"{number(us)}{'*' if real else ''}" for us, real in pairs)


def number(microseconds: float) -> str:
    """Three digits or all before the point."""
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def at(point: Mapping[str, int]) -> str:
    """`batch=1, seq=128`."""
    return ", ".join(f"{name}={size}" for name, size in point.items())


def sources(choices: Sequence[Mapping[str, Any]]) -> str:
    """The ONNX nodes of choices, a line each."""
    return "\n".join(f"  {source}" for choice in choices for source in choice["sources"])
