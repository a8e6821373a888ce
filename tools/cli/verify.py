"""`tilewright verify`: the error of an artifact beside ONNX Runtime's, both against float64."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tilewright.compiler.errors import UserError
from tilewright.tools.cli.build import imported, index_ranges, temporary_artifact
from tilewright.tools.cli.files import is_artifact
from tilewright.tools.cli.interrupt import ends_workers
from tilewright.tools.cli.options import (
    dim_option,
    feed_options,
    jobs_option,
    model_argument,
    path_type,
    slice_option,
    subcommand,
    target_option,
    threads_option,
)
from tilewright.tools.cli.screen import Screen

EXAMPLES = """
tilewright verify model.onnx
tilewright verify model.onnx model.tw --shape batch=2,seq=128
tilewright verify model.onnx --against float64 --tolerance 1e-5
tilewright verify model.onnx --inputs samples.npz --per-node
tilewright verify model.onnx sliced.tw --slice 4 --tolerance 0.05
tilewright verify model.onnx model.tw --calibrate samples.npz
"""


@subcommand("verify", EXAMPLES)
@model_argument
@click.argument("artifact", type=path_type, required=False)
@click.option(
    "--against",
    type=click.Choice(("onnxruntime", "float64")),
    default="onnxruntime",
    show_default=True,
    help="Allow twice the error of ONNX Runtime, or the tolerance alone.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Relative L2 error that passes anyway [1e-6; 1e-5 without ONNX Runtime].",
)
@click.option("--per-node", is_flag=True, help="Check every operation in any case.")
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Check the error contract of ARTIFACT on the held-out part of the samples that it was "
    "compiled with, on this machine, and nothing else.",
)
@feed_options
@target_option
@dim_option
@jobs_option
@threads_option
@slice_option
def command(
    screen: Screen,
    model: Path,
    artifact: Path | None,
    against: str,
    tolerance: float | None,
    per_node: bool,
    calibrate: str | None,
    files: dict[str, str],
    bundle: Path | None,
    shape: dict[str, int],
    ranges: dict[str, str],
    seed: int,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
    threads: int | None,
    slice_: int | None,
) -> dict[str, Any]:
    """Compare ARTIFACT, or MODEL compiled now, with the float64 reference run of MODEL.

    Exit status 1 when an output is off by more than twice the error of ONNX Runtime and by more
    than the tolerance; then the first operation that diverges is named. Inputs without a file are
    random.
    """
    from tilewright.runtime.session import load
    from tilewright.tools.cli.feeds import FeedOptions, describe, make_feeds
    from tilewright.tools.verify import TOLERANCE, TOLERANCE_ALONE, exact_outputs, judge, locate

    if is_artifact(model):
        raise click.UsageError("The model comes first: tilewright verify MODEL.onnx [ARTIFACT.tw]")
    if slice_ is not None and artifact is None:
        raise click.UsageError("--slice goes with an ARTIFACT; MODEL is compiled without slices")
    if calibrate is not None:
        from tilewright.tools.cli.verify_contract import check_contract

        if artifact is None:
            raise click.UsageError("--calibrate goes with an ARTIFACT, whose contract it checks")
        return check_contract(screen, model, artifact, calibrate, dims, threads, slice_)
    graph = imported(screen, model, dims)
    options = FeedOptions(files, bundle, shape, ranges, seed, index_ranges(graph))
    with (
        _artifact(screen, model, artifact, target, dims, jobs) as path,
        load(path, threads, slice=slice_) as session,
    ):
        if session.caches:
            found = f"output {session.caches[0].present!r} is in {session.caches[0].format}"
            hint = "compile with --calibrate to have the error measured, or without --kv-cache"
            raise UserError(str(artifact), "has key-value caches in codes", found, hint)
        feeds = make_feeds(str(artifact or model), session.manifest, options, random=True)
        ours = session.run(None, feeds)
        names = [output.name for output in session.get_outputs()]
        used, variant, bits = session.threads, session.variant, session.slice
    with screen.working("running the reference in float64"):
        exact = exact_outputs(graph, feeds)
    if list(graph.output_names) != names:
        found = f"the model has {list(graph.output_names)}, the artifact {names}"
        raise UserError(str(artifact), "not an artifact of this model", found, "compile it again")
    peer, reason = _peer_outputs(model, feeds, names, used) if against != "float64" else (None, "")
    if tolerance is None:
        tolerance = TOLERANCE_ALONE if peer is None else TOLERANCE
    rows = judge(names, ours, peer, exact, tolerance)
    passed = all(row.passed for row in rows)
    report: dict[str, Any] = {
        "model": str(model),
        "artifact": str(artifact) if artifact is not None else None,
        "variant": variant,
        "slice": bits or None,
        "against": "float64" if peer is None else "onnxruntime",
        "tolerance": tolerance,
        "outputs": [{**asdict(row), "passed": row.passed} for row in rows],
        "passed": passed,
    }
    code = f"{variant}, {bits} bits" if bits else variant
    screen.text(f"{artifact or model} [{code}]: {describe(feeds)}")
    if reason:
        report["skipped"] = {"onnxruntime": reason}
        screen.warn(f"without ONNX Runtime: {reason}")
    _show(screen, report["outputs"])
    if per_node or not passed:
        with (
            screen.working("looking for the first operation that diverges") as update,
            ends_workers(),
            tempfile.TemporaryDirectory(prefix="tilewright-") as folder,
        ):
            where = locate(graph, feeds, Path(folder), variant, update)
        report["divergence"] = asdict(where) if where is not None else None
        screen.text(_sentence(report["divergence"], str(artifact) if artifact else None))
    if not passed:
        worst = max((row for row in rows if not row.passed), key=lambda row: row.ours / row.limit)
        screen.warn(
            f"{artifact or model}: output {worst.name!r} is too far from float64\n"
            f"  relative L2 error {worst.ours:.2e}, allowed {worst.limit:.2e}"
        )
        screen.finish(report)
        raise click.exceptions.Exit(1)
    return report


@contextmanager
def _artifact(
    screen: Screen,
    model: Path,
    artifact: Path | None,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
) -> Iterator[Path]:
    if artifact is not None:
        yield artifact
    else:
        with temporary_artifact(screen, model, target, dims, jobs) as path:
            yield path


def _peer_outputs(
    model: Path, feeds: dict[str, Any], names: list[str], threads: int
) -> tuple[list[Any] | None, str]:
    from tilewright.tools.cli.peers import Peer, PeerMissing, open_peer

    with ExitStack() as stack:
        try:
            peer = open_peer(Peer("onnxruntime"), model, threads, names, feeds, stack)
        except PeerMissing as missing:
            return None, str(missing)
        return peer.outputs, ""


def _show(screen: Screen, rows: list[dict[str, Any]]) -> None:
    screen.table(
        "relative L2 error against float64",
        ("output", "shape", ">tilewright", ">onnxruntime", ">allowed", ""),
        [
            (
                row["name"],
                list(row["shape"]),
                f"{row['ours']:.2e}",
                "-" if row["peer"] is None else f"{row['peer']:.2e}",
                f"{row['limit']:.2e}",
                "passed" if row["passed"] else "FAILED",
            )
            for row in rows
        ],
    )


def _sentence(found: dict[str, Any] | None, artifact: str | None) -> str:
    """The finding of `locate` in words."""
    if found is None:
        return "every operation agrees with float64 to the last bit"
    nodes = found["source"] or "(none: the compiler put it in)"
    error = f"{found['error']:.2e}, its operands {found['before']:.2e}"
    if found["kind"] == "pass":
        return f"pass {found['name']} changes the result: relative L2 error {found['error']:.2e}"
    if found["kind"] == "operation":
        return f"first wrong operation: {found['name']} of ONNX nodes {nodes}: error {error}"
    text = f"no operation is wrong by itself; {found['name']} of {nodes} loses the most: {error}"
    if artifact is not None:
        text += f"\n(checked on the model compiled now, not on {artifact})"
    return text
