"""`tilewright opt`: passes over a model or over IR text, and the IR that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilewright.compiler.errors import UserError
from tilewright.tools.cli.build import imported
from tilewright.tools.cli.compile import check_passes, pass_name
from tilewright.tools.cli.files import written
from tilewright.tools.cli.options import dim_option, path_type, subcommand
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.compiler.ir.core import Graph
    from tilewright.passes.pipelines import Step

EXAMPLES = """
tilewright opt model.onnx --passes fold-constants,fuse-regions --time -o model.ir
tilewright opt model.onnx --passes "" -o imported.ir
tilewright opt imported.ir --weights model.onnx --passes remove-dead-code --print-after-each
tilewright opt --list
"""


@subcommand("opt", EXAMPLES)
@click.argument("source", type=path_type, required=False, metavar="[MODEL.onnx|FILE.ir]")
@click.option(
    "--passes",
    "specs",
    metavar="A,B{OPTION=VALUE}",
    help="Passes in order; the whole pipeline if left out, none if empty.",
)
@dim_option
@click.option("--print-after", multiple=True, metavar="PASS", help="Print the IR after a pass.")
@click.option("--print-after-each", is_flag=True, help="Print the IR after every pass.")
@click.option("--time", "times", is_flag=True, help="Print what each pass took.")
@click.option(
    "-o", "--output", type=path_type, metavar="FILE.ir", help="Where the IR goes; stdout if none."
)
@click.option("--weights", type=path_type, metavar="MODEL.onnx", help="Large constants of FILE.ir.")
@click.option("--list", "listing", is_flag=True, help="List the passes and exit.")
def command(
    screen: Screen,
    source: Path | None,
    specs: str | None,
    dims: dict[str, str],
    print_after: tuple[str, ...],
    print_after_each: bool,
    times: bool,
    output: Path | None,
    weights: Path | None,
    listing: bool,
) -> Any:
    """Run passes over an ONNX model or IR text and print the IR."""
    from tilewright.compiler.driver import run_passes
    from tilewright.compiler.ir.print import print_graph
    from tilewright.passes.pipelines import PIPELINES
    from tilewright.passes.registry import parse_pass, split_passes

    if listing:
        return list_passes(screen)
    if source is None:
        raise click.UsageError("Missing argument 'MODEL.onnx|FILE.ir' (or --list).")
    names = PIPELINES["default"] if specs is None else split_passes(specs)
    for spec in names:
        parse_pass(spec)  # a wrong name or option is said before the model is read
    wanted = set(print_after)
    check_passes(wanted)
    graph = read_graph(screen, source, dims, weights)
    steps: list[Step] = []
    printed: list[dict[str, str]] = []

    with screen.working(f"passes over {source}") as update:

        def watch(step: Step) -> None:
            update(str(step))
            steps.append(step)
            if print_after_each or pass_name(step.name) in wanted:
                text = print_graph(step.after, weights=False)
                printed.append({"pass": step.name, "ir": text})
                screen.text(f"# after {step.name}\n{text}")

        graph = run_passes(graph, names, watch)
    text = print_graph(graph)
    if output is not None:
        with written(output) as file:
            file.write(text.encode())
    elif not printed:
        screen.text(text.rstrip("\n"))
    rows = [
        {"name": s.name, "seconds": s.seconds, "changed": s.changed, "operations": len(s.after.ops)}
        for s in steps
    ]
    if times:
        show_times(screen, rows, to_stdout=output is not None)
    return {"source": str(source), "passes": rows, "printed": printed, "ir": text}


def read_graph(screen: Screen, source: Path, dims: dict[str, str], weights: Path | None) -> Graph:
    """The graph of an ONNX file or of IR text, which is told by the ending `.ir`."""
    from tilewright.compiler.ir.parse import parse_graph
    from tilewright.compiler.ir.weights import WeightStore

    if source.suffix != ".ir":
        return imported(screen, source, dims)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as refusal:
        what = f"cannot be read: {refusal.strerror}"
        raise UserError(str(source), what, "", "check the path") from None
    except UnicodeDecodeError:
        raise UserError(
            str(source), "is not IR text", "it is not UTF-8", "check the path"
        ) from None
    store = imported(screen, weights, dims).weights if weights is not None else WeightStore()
    return parse_graph(text, str(source), store)


def list_passes(screen: Screen) -> list[dict[str, Any]]:
    """Every pass with the first line of its documentation."""
    from tilewright.passes.registry import passes

    rows: list[dict[str, Any]] = [
        {
            "name": found.name,
            "options": {name: kind.__name__ for name, kind in found.options.items()},
            "requires": list(found.requires),
            "doc": found.doc.partition("\n")[0],
        }
        for found in passes().values()
    ]
    screen.table(
        "passes",
        ("name", "options", "what it does"),
        [
            (r["name"], ", ".join(f"{n}: {k}" for n, k in r["options"].items()), r["doc"])
            for r in rows
        ],
    )
    return rows


def show_times(screen: Screen, rows: list[dict[str, Any]], to_stdout: bool) -> None:
    """What each pass took: on stdout, unless the IR is there."""
    lines = [
        (r["name"], f"{r['seconds'] * 1e3:.1f}", r["operations"], "yes" if r["changed"] else "")
        for r in rows
    ]
    total = sum(r["seconds"] for r in rows)
    lines.append(("all", f"{total * 1e3:.1f}", "", ""))
    if to_stdout:
        screen.table("passes", ("pass", ">ms", ">operations", "changed"), lines)
    elif not screen.json:
        for name, ms, count, changed in lines:
            screen.warn(f"{ms:>10} ms {count!s:>7} ops  {name}{'' if changed else ' (unchanged)'}")
