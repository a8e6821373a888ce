"""The choices among kernels on the terminal: all of them, or those for one ONNX node."""

from __future__ import annotations

from typing import Any

from tilewright.compiler.errors import UserError
from tilewright.tools.cli.contract import show_numerics
from tilewright.tools.cli.screen import Screen

WORST = "worst"
"""Stands for the node that costs the most error."""


def show_choices(screen: Screen, selection: dict[str, Any] | None) -> None:
    """Tables of all choices, of the formats of weights and of values."""
    from tilewright.tools import inspect_selection as tables
    from tilewright.tools.inspect_errors import describe_worst, worst

    if selection is None:
        return
    columns = ("task", ">operations", "format", ">error", "kernel", "microseconds", "next best")
    screen.table("choices among kernels", columns, tables.choice_rows(selection))
    if "numerics" in selection:
        show_numerics(screen, "formats of operations", selection["numerics"])
    if rows := tables.fork_rows(selection):
        heads = ("products of one operand", ">times", "launches", "microseconds", "next best")
        screen.table("launches of several products", heads, rows)
    if rows := tables.value_rows(selection):
        screen.table("formats of values", ("stored in", ">values", "as", "because"), rows)
    found = worst(selection)
    if found is not None:
        screen.text(describe_worst(found))
    screen.text(tables.describe(selection) + "\n")


def show_explained(
    screen: Screen, selection: dict[str, Any] | None, node: str, report: dict[str, Any]
) -> list[Any]:
    """Tables of the candidates of a node and of what its formats would cost; the costliest
    operation of the model goes into `report` as well."""
    from tilewright.tools import inspect_errors as errors
    from tilewright.tools import inspect_selection as tables

    known = selection or {"choices": []}
    costliest = errors.worst(known)
    if node == WORST:
        if costliest is None:
            what, hint = "no errors are predicted here", "compile with --calibrate and --max-error"
            raise UserError("--explain worst", what, hint=hint)
        node = costliest["source"].split(", ")[0]
    found = tables.explained(known, node)
    columns = ("kernel", "microseconds", ">weight bytes", "format", ">error", "")
    for choice in found:
        screen.table(choice["task"], columns, tables.candidate_rows(choice))
    report["formats"] = []
    for op in errors.of_node(known, node):
        rows = errors.format_rows(op)
        heads = ("format", ">error", "microseconds", ">weight bytes", "")
        screen.table(f"what each format would cost {op.source}", heads, rows)
        report["formats"] += [
            {"source": op.source, "format": n, "errors": op.errors(n)} for n in op.choice["errors"]
        ]
    for name, rows in tables.ways_of(selection or {}, node):
        heads = ("launches", "format", "microseconds", ">weight bytes", "")
        screen.table(f"ways to launch {name}", heads, rows)
    if rows := tables.values_of(selection or {}, node):
        heads = ("value", "stored in", "shape", "cost in thousandths", "because")
        screen.table("values that it makes or reads", heads, rows)
    screen.text(f"{tables.describe(selection or {})}\nchosen alike for:\n{tables.sources(found)}")
    report["worst"] = costliest
    if costliest is not None:
        screen.text(errors.describe_worst(costliest))
    return list(found)
