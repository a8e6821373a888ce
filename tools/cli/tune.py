"""`tilewright tune`: measure kernels on this machine and compile with what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilewright.tools.cli.files import check_output
from tilewright.tools.cli.interrupt import ends_workers
from tilewright.tools.cli.options import (
    dim_option,
    for_threads_option,
    jobs_option,
    model_argument,
    path_type,
    subcommand,
    target_option,
    typical_option,
)
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.tools.tune import Outcome

EXAMPLES = """
tilewright tune model.onnx -o model.tw
tilewright tune model.onnx --typical seq=128,batch=1
tilewright tune model.onnx --max-error 1e-2 --top 8 --seconds 1
tilewright tune model.onnx --budget 10
"""


@subcommand("tune", EXAMPLES)
@model_argument
@click.option("-o", "--output", type=path_type, help="The artifact; MODEL's name with .tw if none.")
@target_option
@dim_option
@jobs_option
@typical_option
@for_threads_option
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    metavar="E",
    help="As for compile: which kernels are exact enough.  [default: as exact as float32]",
)
@click.option(
    "--top",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="Kernels to measure for each operation: those predicted fastest.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.001, max=60),
    default=0.2,
    show_default=True,
    help="How long to measure each kernel at each size.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Measure no longer than about this; call again to go on. Compiling the kernels does not "
    "count and comes first: 0 does nothing else, for a quiet moment later.  [default: to the end]",
)
@click.option("--again", is_flag=True, help="Measure also what was measured before.")
@click.option(
    "--record",
    "recorded",
    type=path_type,
    metavar="FILE",
    help="Write all times in the form in which they ship with the project, beside what FILE has of "
    "this machine.",
)
def command(
    screen: Screen,
    model: Path,
    output: Path | None,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
    typical: dict[str, int],
    for_threads: int,
    max_error: float | None,
    top: int,
    seconds: float,
    budget: float | None,
    again: bool,
    recorded: Path | None,
) -> dict[str, Any]:
    """Measure the kernels that MODEL could use, then compile it with those found fastest.

    Each kernel runs by itself on one thread, in turn with its rivals, its weights read from memory
    as in a whole model. Times are kept for this machine, and `tilewright compile` goes by them
    too when it is told to. Best with nothing else running. Where --budget ends it, nothing is
    compiled yet.
    """
    from tilewright.backends.target import resolve_targets
    from tilewright.backends.tuning.cache import Cache, record
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.options import Options
    from tilewright.tools.tune import Budget, check_runs, contests, geomean, run, times_of

    if again and budget is not None:
        raise click.UsageError("--again starts over, --budget goes on; give one of them")
    path = output or Path(model.with_suffix(".tw").name)
    check_output(path)
    targets = resolve_targets((target,))
    for row in targets:
        check_runs(row)
    cache = Cache()
    outcomes: list[tuple[str, Outcome]] = []
    ready, left, made = Budget(budget), 0, None
    with screen.working(f"tuning {model}") as update, ends_workers():
        lowered = compile_model(
            model,
            None,
            Options((target,), dims, stop_after="lower", max_error=max_error, typical=typical),
        )
        for variant in lowered.variants:
            selection = variant.state.selection
            if selection is None:
                continue

            def tell(what: str, number: int, total: int) -> None:
                update(f"{number} of {total}: {what}")

            found = list(
                run(selection, variant.target, cache, top, seconds, again, tell, ready, jobs)
            )
            outcomes.extend((variant.target.name, outcome) for outcome in found)
            if recorded is not None:
                record(recorded, variant.target, times_of(found, variant.target, selection.cold))
            left += len(contests(selection, top)) - len(found)
        if not left:
            options = Options(
                (target,),
                dims,
                jobs=jobs,
                max_error=max_error,
                typical=typical,
                threads=for_threads,
                tuned=True,
            )
            made = compile_model(
                model, path, options, progress=lambda stage, what: update(f"{stage}: {what}")
            ).path
    report = {
        "model": str(model),
        "artifact": None if made is None else str(made),
        "left": left,
        "cache": str(cache.folder),
        "measured": sum(len(o.seconds) for _, o in outcomes if o.measured),
        "reused": sum(len(o.seconds) for _, o in outcomes if not o.measured),
        "regret": geomean([o.regret for _, o in outcomes]),
        "contests": [{"target": name, **o.describe()} for name, o in outcomes],
    }
    show(screen, report)
    return report


def show(screen: Screen, report: dict[str, Any]) -> None:
    """The table of contests, and what became of it."""
    from tilewright.tools.inspect_selection import at, number

    rows = []
    for contest in report["contests"]:
        candidates = contest["candidates"]
        guess = min(candidates, key=lambda c: c["predicted"])
        best = min(candidates, key=lambda c: c["measured"])
        rows.append(
            (
                contest["target"],
                contest["task"],
                at(contest["at"]),
                f"{guess['kernel']}: {number(guess['predicted'])}",
                f"{best['kernel']}: {number(best['measured'])}",
                f"{contest['regret']:.2f}",
            )
        )
    if rows:
        columns = ("target", "task", "at", "predicted fastest, us", "fastest, us", ">regret")
        screen.table("kernels measured on one thread", columns, rows)
    screen.text(
        f"{report['measured']} kernels measured, {report['reused']} known from before"
        f" ({report['cache']})\n"
        f"time of the kernels predicted fastest over the fastest: {report['regret']:.3f}"
    )
    if report["left"]:
        screen.text(f"{report['left']} choices are left; the same command goes on with them")
    else:
        screen.text(f"{report['artifact']}: compiled with what was measured")
