"""An error contract on the terminal: what was promised, predicted and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.compiler.unused_structure import REASONS
from tilewright.tools.cli.screen import Screen


def show_contract(screen: Screen, contract: Mapping[str, Any]) -> None:
    """The tables of a kept contract: its document as in plan.json."""
    samples, bound = contract["samples"], contract["bound"]
    rows = [
        (output, f"{bound:g}" if "metric" not in contract else "-", number(p), number(m))
        for output, p, m in zip(
            contract["outputs"], contract["predicted"], contract["measured"], strict=True
        )
    ]
    title = (
        f"error contract: relative L2 errors against {contract['reference']},"
        f" {samples['calibration']} samples to calibrate, {samples['held_out']} held out"
    )
    screen.table(title, ("output", ">bound", ">predicted", ">measured, held out"), rows)
    if "metric" in contract:
        growth = [(contract["metric"], f"{bound:g}", number(contract["change"]))]
        screen.table("metric", ("function", ">may grow by", ">grew by"), growth)
    rounds: list[tuple[str, ...]] = [
        (
            str(i),
            f"{r['share']:g}",
            number(max(r["predicted"], default=0.0)),
            number(max(r["measured"], default=0.0)),
            *([number(r["change"])] if "metric" in contract else []),
            ("kept" if r["kept"] else "broken")
            + (", chosen" if i == contract["chosen_round"] else ""),
        )
        for i, r in enumerate(contract["rounds"])
    ]
    grew = [">metric grew"] if "metric" in contract else []
    columns = (">round", ">share of budget", ">predicted", ">measured", *grew, "")
    screen.table("rounds", columns, rounds)
    if "kv_cache" in contract:
        caches = contract["kv_cache"]
        stored = caches["stored"]
        errors = zip(contract["outputs"], caches["alone"], strict=True)
        alone = [
            (output, number(error), number(stored[output]) if output in stored else "-")
            for output, error in errors
        ]
        title = f"key-value caches in {caches['format']}, all else exact"
        screen.table(title, ("output", ">error", ">of storing it"), alone)
    _show_emulated(screen, contract)
    if "fisher" in contract:
        count = len(contract["fisher"])
        screen.text(f"low rank of {count} weights is by their Fisher information")
    for timing in contract.get("timing", ()):
        dropped = ", ".join(timing["dropped"])
        screen.text(
            f"timed: {timing['milliseconds']:g} ms, without weight formats"
            f" {timing['without_formats']:g} ms" + (f"; gave up {dropped}" if dropped else "")
        )


def _show_emulated(screen: Screen, document: Mapping[str, Any]) -> None:
    for target in document.get("emulated", ()):
        screen.text(
            f"{target} was not run: its errors are those of its numerics in numpy; on such a"
            " machine `tilewright verify MODEL ARTIFACT --calibrate SAMPLES` measures them"
        )


def show_slices(screen: Screen, document: Mapping[str, Any]) -> None:
    """The errors of every slice: the document of a `SliceContract`."""
    samples, bound = document["samples"], document["bound"]
    title = (
        f"slices: relative L2 errors against {document['reference']},"
        f" {samples['calibration']} samples to calibrate, {samples['held_out']} held out"
    )
    rows = [
        (
            f"{row['bits']} bits",
            output,
            "-" if bound is None else f"{bound:g}",
            number(p),
            number(m),
        )
        for row in document["slices"]
        for output, p, m in zip(document["outputs"], row["predicted"], row["measured"], strict=True)
    ]
    columns = ("slice", "output", ">bound", ">predicted", ">measured, held out")
    screen.table(title, columns, rows)
    _show_emulated(screen, document)


def show_numerics(screen: Screen, title: str, numerics: Mapping[str, Mapping[str, int]]) -> None:
    """How many operations run in which numerics, and the bytes of their weights."""
    rows = [(name, row["operations"], f"{row['weight_bytes']:,}") for name, row in numerics.items()]
    screen.table(title, ("format", ">operations", ">weight bytes"), rows)


def show_formats(screen: Screen, variant: Mapping[str, Any]) -> None:
    """The numerics of a target; by structure of weights, how many launches use it, and why others
    do not."""
    target, counts = variant["target"], variant["structures"]
    show_numerics(screen, f"formats on {target}", variant["numerics"])
    rows = [(name, row["used"], *(row[why] for why in REASONS)) for name, row in counts.items()]
    if rows:
        columns = ("structure", ">used", *(f">{text}" for text in REASONS.values()))
        screen.table(f"structure of weights on {target}, by launches", columns, rows)


def show_structure_rows(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    """Which structure each launch uses, and why no other."""
    if not rows:
        return
    told = [
        (
            row["source"],
            row["format"],
            row["used"] or "-",
            "\n".join(
                f"{name} ({len(row['offered'][name])} formats): {REASONS[other['why']]},"
                f" {other['format']} {other['text']}"
                for name, other in row["not_used"].items()
            ),
        )
        for row in rows
    ]
    columns = ("ONNX nodes", "format", "structure", "why no other")
    screen.table("structure of weights", columns, told)


def number(error: float) -> str:
    """Three digits."""
    return f"{error:.3g}"
