"""`tilewright pareto`: what an error costs in time and bytes, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilewright.compiler.errors import UserError
from tilewright.tools.cli.interrupt import ends_workers
from tilewright.tools.cli.options import (
    dim_option,
    jobs_option,
    model_argument,
    path_type,
    selection_options,
    subcommand,
    target_option,
)
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.compiler.contract import FrontPoint

EXAMPLES = """
tilewright pareto model.onnx --calibrate data.npz -o points/
tilewright pareto model.onnx --calibrate data.npz --bounds 0.001,0.01,0.05 -o points/ --json
"""

SECONDS = 4.0
"""How long all artifacts are timed in turns."""


@subcommand("pareto", EXAMPLES)
@model_argument
@click.option("-o", "--output", type=path_type, required=True, help="Folder of the artifacts.")
@click.option("--calibrate", required=True, metavar="SAMPLES", help="As of `tilewright compile`.")
@click.option(
    "--bounds",
    default="0.001,0.005,0.02,0.05",
    show_default=True,
    metavar="E,E,..",
    help="Error bounds; each is one point made for latency and one made for size.",
)
@click.option("--metric", metavar="MODULE:FUNCTION", help="As of `tilewright compile`.")
@target_option
@dim_option
@jobs_option
@selection_options
def command(
    screen: Screen,
    model: Path,
    output: Path,
    calibrate: str,
    bounds: str,
    metric: str | None,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
    typical: dict[str, int],
    for_threads: int,
    tuned: bool,
) -> dict[str, Any]:
    """Compile MODEL under several error bounds and measure error, size and latency of each.

    Writes an artifact for every bound and objective, front.json and front.svg into a folder.
    """
    import json

    from tilewright.backends.target import resolve_targets
    from tilewright.backends.trial import interleaved
    from tilewright.compiler.driver import compile_front
    from tilewright.compiler.frontend.load import load_onnx
    from tilewright.compiler.options import OPTIMIZE, Options
    from tilewright.compiler.samples import read_samples
    from tilewright.tools.bench.machine import machine
    from tilewright.tools.front_picture import picture

    wanted = [(bound, objective) for bound in numbers(bounds) for objective in OPTIMIZE]
    options = Options(
        targets=(target,),
        dims=dims,
        jobs=jobs,
        calibrate=calibrate,
        metric=metric,
        typical=typical,
        threads=for_threads,
        tuned=tuned,
    )
    make_folder(output)
    with screen.working(f"compiling {model}") as update, ends_workers():
        found = compile_front(
            *(model, output, options, wanted),
            progress=lambda stage, what: update(f"{stage}: {what}"),
        )
    paths = [point.path for point in found if point.path is not None]
    times = []
    if paths:
        with screen.working("timing"):
            samples = read_samples(calibrate, load_onnx(model, dict(dims)).inputs)
            name = resolve_targets((target,))[0].name
            times = interleaved(paths, name, samples.held_out, for_threads, SECONDS)
    latency = dict(zip(paths, (t.seconds for t in times), strict=True))
    points = [row(point, latency) for point in found]
    mark(points)
    document = {
        "model": model.name,
        "threads": for_threads,
        "target": target,
        "machine": machine(),
        "points": points,
    }
    (output / "front.json").write_text(json.dumps(document, indent=1) + "\n")
    (output / "front.svg").write_text(picture(model.stem, points))
    show(screen, document, output)
    return document


def numbers(text: str) -> list[float]:
    """The bounds, least first. Raises UserError for what is none."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not 0 <= found[0] <= found[-1] < float("inf"):
        what = f"expected numbers of 0 or more with commas between, found {text!r}"
        raise UserError("--bounds", "are no error bounds", what)
    return found


def make_folder(folder: Path) -> None:
    """Make `folder`. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        found = f"the system says: {refusal.strerror}"
        raise UserError(str(folder), "cannot be made", found, "choose another folder") from None


def row(point: FrontPoint, latency: dict[Path, float]) -> dict[str, Any]:
    """A point as a row of front.json: errors are relative L2, the worst output's."""
    found: dict[str, Any] = {"bound": point.bound, "optimize": point.optimize}
    if point.path is None or point.contract is None:
        return {**found, "artifact": None, "refusal": point.refusal}
    found |= {
        "artifact": point.path.name,
        "error": float(f"{max(point.contract.measured, default=0.0):.4g}"),
        "predicted": float(f"{max(point.contract.predicted, default=0.0):.4g}"),
        "bytes": point.bytes,
        "milliseconds": float(f"{latency[point.path] * 1e3:.4g}"),
    }
    if point.contract.change is not None:
        found["change"] = float(f"{point.contract.change:.4g}")
    return found


def mark(points: list[dict[str, Any]]) -> None:
    """Say of every artifact whether another is as good in error, bytes and time, and better in
    one."""
    keys = ("error", "bytes", "milliseconds")
    made = [p for p in points if p["artifact"] is not None]
    for point in made:
        own = tuple(point[key] for key in keys)
        others = [tuple(p[key] for key in keys) for p in made if p is not point]
        point["dominated"] = any(
            other != own and all(a <= b for a, b in zip(other, own, strict=True))
            for other in others
        )


def show(screen: Screen, document: dict[str, Any], folder: Path) -> None:
    """The table of the points."""
    rows = [
        (
            f"{p['bound']:g}",
            p["optimize"],
            f"{p['error']:.3g}",
            f"{p['predicted']:.3g}",
            f"{p['bytes']:,}",
            f"{p['milliseconds']:.4g}",
            "dominated" if p["dominated"] else "",
        )
        if p["artifact"] is not None
        else (f"{p['bound']:g}", p["optimize"], "-", "-", "-", "-", p["refusal"])
        for p in document["points"]
    ]
    columns = (">bound", "made for", ">error", ">predicted", ">bytes", ">ms", "")
    screen.table(document["model"], columns, rows)
    screen.text(f"{folder}: artifacts, front.json, front.svg")
