"""`tilewright bench`: times of an artifact beside other runtimes, interleaved in one process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilewright.tools.cli.build import imported, index_ranges, temporary_artifact
from tilewright.tools.cli.files import check_output, is_artifact
from tilewright.tools.cli.options import (
    dim_option,
    feed_options,
    jobs_option,
    path_type,
    subcommand,
    target_option,
)
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.tools.cli.peers import Array

EXAMPLES = """
tilewright bench model.onnx --against onnxruntime,openvino --shape batch=1,seq=128
tilewright bench model.tw --model model.onnx --threads 2 --rounds 50
tilewright bench model.tw --against none
tilewright bench model.onnx --record benchmarks/model.json
"""
OURS = "tilewright"


@subcommand("bench", EXAMPLES)
@click.argument("source", type=path_type, metavar="MODEL.onnx|ARTIFACT.tw")
@click.option("--model", type=path_type, help="The ONNX model of an ARTIFACT, for the others.")
@click.option(
    "--against",
    default="onnxruntime,openvino",
    show_default=True,
    metavar="NAMES",
    help="Runtimes to compare with, comma-separated, or none; those not installed are skipped.",
)
@feed_options
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of every runtime."
)
@click.option("--rounds", type=click.IntRange(min=1), default=50, show_default=True)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds after which no new round starts.",
)
@click.option("--no-kernels", is_flag=True, help="Leave the table of kernels out.")
@click.option(
    "--record", "record_path", type=path_type, metavar="FILE", help="Write the times as JSON."
)
@target_option
@dim_option
@jobs_option
def command(
    screen: Screen,
    source: Path,
    model: Path | None,
    against: str,
    files: dict[str, str],
    bundle: Path | None,
    shape: dict[str, int],
    ranges: dict[str, str],
    seed: int,
    threads: int,
    rounds: int,
    budget: float,
    no_kernels: bool,
    record_path: Path | None,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
) -> dict[str, Any]:
    """Time SOURCE beside ONNX Runtime and OpenVINO, in float32 on the CPU.

    Every round runs each of them once; inputs without a file are random. The ratio is the median
    over rounds of a runtime's time by the first one's.
    """
    from tilewright.runtime.session import load
    from tilewright.tools.bench import interleave
    from tilewright.tools.bench.record import record
    from tilewright.tools.cli.feeds import FeedOptions, describe, make_feeds
    from tilewright.tools.cli.profile import profile_rows, show_profile

    names = peer_names(against)
    if record_path is not None:
        check_output(record_path)
    given = is_artifact(source)
    onnx_file = model if given else source
    limits = {} if onnx_file is None else _ranges(screen, onnx_file, dims, given)
    with (
        _artifact(screen, source, given, target, dims, jobs) as path,
        load(path, threads) as session,
    ):
        options = FeedOptions(files, bundle, shape, ranges, seed, limits)
        feeds = make_feeds(str(source), session.manifest, options, random=True)
        outputs = [output.name for output in session.get_outputs()]
        ours = partial(session.run, None, feeds)
        expected = ours()
        peers, errors, skipped = _open_peers(names, onnx_file, threads, outputs, feeds, expected)
        # The first contender is what the ratios are to: a peer where there is one.
        contenders: dict[str, Callable[[], object]] = {**peers, OURS: ours}
        with screen.working(f"timing {', '.join(contenders)}"):
            timings = interleave(contenders, rounds=rounds, budget_s=budget)
            runs = min(timings[OURS].rounds, 10)
            kernels = [] if no_kernels else profile_rows(session.profile(feeds, runs), runs)
        variant = session.variant
    for name, reason in skipped.items():
        screen.warn(f"skipped {name}: {reason}")
    base = next(iter(contenders))
    rows = [{**asdict(timings[name]), "error_to_ours": errors.get(name)} for name in (OURS, *peers)]
    report: dict[str, Any] = {
        "source": str(source),
        "variant": variant,
        "precision": "f32",
        "threads": threads,
        "base": base,
        "feeds": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in feeds.items()},
        "timings": rows,
        "skipped": skipped,
        "kernels": kernels,
    }
    screen.text(f"{source} [{variant}], {threads} thread(s), float32: {describe(feeds)}")
    screen.table(
        f"{timings[OURS].rounds} interleaved rounds",
        ("", ">median ms", ">least ms", f">time / {base}", ">difference"),
        [
            (
                row["name"],
                f"{row['median_ms']:.3f}",
                f"{row['min_ms']:.3f}",
                f"{row['ratio']:.2f}",
                "" if row["error_to_ours"] is None else f"{row['error_to_ours']:.1e}",
            )
            for row in rows
        ],
    )
    if kernels:
        show_profile(screen, kernels)
    if record_path is not None:
        shared = {k: report[k] for k in ("source", "variant", "precision", "threads", "feeds")}
        command_line = shlex.join(["tilewright", *sys.argv[1:]])
        record(record_path, [{**shared, **row, "base": base} for row in rows], command=command_line)
        screen.text(f"recorded in {record_path}")
    return report


def peer_names(text: str) -> list[str]:
    """The runtimes of --against; wrong usage for one that is not known."""
    from tilewright.tools.cli.peers import PEERS

    names = [name for part in text.split(",") if (name := part.strip()) and name != "none"]
    for name in names:
        if name not in PEERS:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(PEERS)}, none", param_hint="--against"
            )
    return list(dict.fromkeys(names))


def _ranges(
    screen: Screen, model: Path, dims: dict[str, str], optional: bool
) -> Mapping[str, tuple[int, int]]:
    """Valid indices by input. For an artifact the compiler may be missing; --range then helps."""
    try:
        return index_ranges(imported(screen, model, dims))
    except ModuleNotFoundError:
        if not optional:
            raise
        screen.note("without the compiler random integers are 0 or 1; see --range")
        return {}


@contextmanager
def _artifact(
    screen: Screen, source: Path, given: bool, target: str, dims: dict[str, str], jobs: int | None
) -> Iterator[Path]:
    if given:
        yield source
    else:
        with temporary_artifact(screen, source, target, dims, jobs) as path:
            yield path


def _open_peers(
    names: list[str],
    model: Path | None,
    threads: int,
    outputs: list[str],
    feeds: Mapping[str, Array],
    ours: list[Array],
) -> tuple[dict[str, Callable[[], object]], dict[str, float], dict[str, str]]:
    """The contenders, how far their outputs are from ours (relative L2), and who is skipped why."""
    import numpy as np

    from tilewright.tools.cli.peers import PeerMissing, checked, open_peer

    found: dict[str, Callable[[], object]] = {}
    errors: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for name in names:
        if model is None:
            skipped[name] = "an artifact alone does not tell its model; try: --model MODEL.onnx"
            continue
        try:
            runner = open_peer(name, model, threads, outputs)
            theirs = checked(name, runner, feeds)
        except PeerMissing as missing:
            skipped[name] = str(missing)
            continue
        pairs = [(a.astype("f8"), b.astype("f8")) for a, b in zip(ours, theirs, strict=True)]
        errors[name] = max(
            (float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1)) for a, b in pairs), default=0.0
        )
        found[name] = partial(runner, feeds)
    return found, errors, skipped
