"""`tilewright bench`: times of an artifact beside other runtimes, interleaved in one process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
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
    slice_option,
    subcommand,
    target_option,
)
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.runtime.session import Session
    from tilewright.tools.bench.roofline import Roofline
    from tilewright.tools.bench.timing import Timing
    from tilewright.tools.cli.peers import Array, Peer

EXAMPLES = """
tilewright bench model.onnx --against onnxruntime,openvino --shape batch=1,seq=128
tilewright bench model.onnx --max-error 1e-2 --against openvino:bf16
tilewright bench model.onnx --target x86-64-v3 --against openvino@avx2
tilewright bench model.onnx --linear --against torch,torch:bf16
tilewright bench model.tw --model model.onnx --threads 1,2 --rounds 50
tilewright bench model.tw --against none
tilewright bench model.onnx --record benchmarks/model.json
"""
OURS = "tilewright"


def _counts(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or any(not part.isdigit() or int(part) < 1 for part in parts):
        raise click.BadParameter(f"{text!r}: expected counts such as 1 or 1,2", context, parameter)
    return tuple(dict.fromkeys(map(int, parts)))


@subcommand("bench", EXAMPLES)
@click.argument("source", type=path_type, metavar="MODEL.onnx|ARTIFACT.tw")
@click.option("--model", type=path_type, help="The ONNX model of an ARTIFACT, for the others.")
@click.option(
    "--against",
    default="onnxruntime,openvino",
    show_default=True,
    metavar="NAMES",
    help="Runtimes to compare with, comma-separated, or none; those not installed are skipped. "
    "NAME:bf16 multiplies in bf16 (openvino, torch); NAME@avx2, @avx512 or @vnni keeps it to an "
    "instruction set, in a process of its own. torch: with --linear.",
)
@click.option("--linear", is_flag=True, help="Time linear layers one by one, beside PyTorch's.")
@feed_options
@click.option(
    "--threads",
    default="1",
    show_default=True,
    callback=_counts,
    metavar="N[,N]",
    help="Of every runtime; several are measured one after the other.",
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
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    metavar="E",
    help="As for compile; an ARTIFACT has its own.",
)
@target_option
@dim_option
@jobs_option
@slice_option
def command(
    screen: Screen,
    source: Path,
    model: Path | None,
    against: str,
    linear: bool,
    files: dict[str, str],
    bundle: Path | None,
    shape: dict[str, int],
    ranges: dict[str, str],
    seed: int,
    threads: tuple[int, ...],
    rounds: int,
    budget: float,
    no_kernels: bool,
    record_path: Path | None,
    max_error: float | None,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
    slice_: int | None,
) -> dict[str, Any]:
    """Time SOURCE beside other runtimes on the CPU.

    Every round runs each of them once; inputs without a file are random. The ratio is the median
    over rounds of a runtime's time by the first one's. The table of kernels compares each with
    the roofline of the machine's profile (`tilewright targets`).
    """
    from tilewright.runtime.session import load
    from tilewright.tools.bench.record import record
    from tilewright.tools.cli.feeds import FeedOptions, describe, make_feeds

    peers = peer_list(against)
    if record_path is not None:
        check_output(record_path)
    given = is_artifact(source)
    if given and max_error is not None:
        raise click.UsageError("--max-error goes with a model; an artifact is compiled already")
    if slice_ is not None and not given:
        raise click.UsageError("--slice goes with an artifact; a model is compiled without slices")
    if linear and threads != (1,):
        raise click.UsageError("--linear measures one thread")
    onnx_file = model if given else source
    limits = {} if onnx_file is None else _ranges(screen, onnx_file, dims, given)
    runs: list[dict[str, Any]] = []
    with _artifact(screen, source, given, target, dims, jobs, max_error) as path:
        for count in threads:
            with load(path, count, slice=slice_) as session:
                options = FeedOptions(files, bundle, shape, ranges, seed, limits)
                feeds = make_feeds(str(source), session.manifest, options, random=True)
                job = Job(path, onnx_file, session, feeds, count, rounds, budget)
                screen.text(f"{source} [{session.variant}], {count} thread(s): {describe(feeds)}")
                if linear:
                    runs.append(_layers(screen, job, peers, max_error))
                else:
                    runs.append(_models(screen, job, peers, not no_kernels))
                variant = session.variant
    report: dict[str, Any] = {
        "source": str(source),
        "variant": variant,
        "max_error": max_error,
        "feeds": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in feeds.items()},
        "runs": runs,
    }
    if record_path is not None:
        shared = {k: report[k] for k in ("source", "variant", "max_error", "feeds")}
        rows = [
            {**shared, "threads": run["threads"], **row, "base": run["base"]}
            for run in runs
            for row in run["timings"]
        ]
        record(record_path, rows, command=shlex.join(["tilewright", *sys.argv[1:]]))
        screen.text(f"recorded in {record_path}")
    return report


def peer_list(text: str) -> list[Peer]:
    """The runtimes of --against; wrong usage for one that is not known."""
    from tilewright.tools.cli.peers import Peer

    names = [name for part in text.split(",") if (name := part.strip()) and name != "none"]
    try:
        return [Peer.parse(name) for name in dict.fromkeys(names)]
    except ValueError as unknown:
        raise click.BadParameter(str(unknown), param_hint="--against") from None


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
    screen: Screen,
    source: Path,
    given: bool,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
    max_error: float | None,
) -> Iterator[Path]:
    if given:
        yield source
    else:
        with temporary_artifact(screen, source, target, dims, jobs, max_error) as path:
            yield path


@dataclass(frozen=True)
class Job:
    """One model at one number of threads."""

    path: Path
    model: Path | None
    session: Session
    feeds: dict[str, Array]
    threads: int
    rounds: int
    budget: float

    def plan(self) -> dict[str, Any]:
        """The entry of plan.json for the variant in use."""
        from tilewright.runtime.loader import open_artifact
        from tilewright.tools.inspect_artifact import read_plan

        found: dict[str, Any] = read_plan(open_artifact(self.path))["variants"]
        bits, target = self.session.slice, self.session.variant
        return dict(found.get(f"{target}.slice{bits}" if bits else target, {}))


_PAUSE_S = 0.02
"""Before each call with several threads: other runtimes' threads spin for milliseconds after a run,
on the cores that the next one needs."""


def _models(screen: Screen, job: Job, peers: list[Peer], kernels: bool) -> dict[str, Any]:
    """The whole model in all runtimes, and our kernels."""
    from tilewright.tools.bench.timing import interleave

    ours = partial(job.session.run, None, job.feeds)
    with ExitStack() as stack:
        found, errors, skipped = _open_peers(job, peers, ours(), stack)
        # The first contender is what the ratios are to: a peer where there is one.
        contenders: dict[str, Callable[[], object]] = {**found, OURS: ours}
        with screen.working(f"timing {', '.join(contenders)}"):
            timings = interleave(
                contenders,
                rounds=job.rounds,
                budget_s=job.budget,
                pause_s=_PAUSE_S if job.threads > 1 and found else 0.0,
            )
            table = _kernels(screen, job, min(timings[OURS].rounds, 10)) if kernels else []
    for name, reason in skipped.items():
        screen.warn(f"skipped {name}: {reason}")
    base = next(iter(contenders))
    rows = [{**asdict(timings[n]), "error_to_ours": errors.get(n)} for n in (OURS, *found)]
    _show_models(screen, base, rows, timings[OURS])
    if table:
        from tilewright.tools.cli.profile import show_profile

        show_profile(screen, table)
    return {
        "threads": job.threads,
        "base": base,
        "timings": rows,
        "skipped": skipped,
        "kernels": table,
    }


def _show_models(screen: Screen, base: str, rows: list[dict[str, Any]], ours: Timing) -> None:
    screen.table(
        f"{ours.rounds} interleaved rounds",
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


def _kernels(screen: Screen, job: Job, runs: int) -> list[dict[str, Any]]:
    """Our launches, slowest first, beside their roofline where the compiler is installed."""
    from tilewright.tools.cli.profile import profile_rows

    rows = job.session.profile(job.feeds, runs)
    table = profile_rows(rows, runs)
    roofline = _roofline(screen, job)
    if roofline is None:
        return table
    from tilewright.tools.bench.roofline import rows_with_bounds

    return rows_with_bounds(rows, table, roofline)


def _roofline(screen: Screen, job: Job) -> Roofline | None:
    try:
        from tilewright.backends.profile import profile_for
        from tilewright.backends.target import lookup
    except ModuleNotFoundError:
        screen.note("without the compiler there is no machine profile to compare kernels with")
        return None
    from tilewright.tools.bench.roofline import Roofline

    return Roofline(profile_for(lookup(job.session.variant)), job.plan(), job.threads)


def _open_peers(
    job: Job, peers: list[Peer], ours: list[Array], stack: ExitStack
) -> tuple[dict[str, Callable[[], object]], dict[str, float], dict[str, str]]:
    """The contenders, how far their outputs are from ours (relative L2), and who is skipped why."""
    import numpy as np

    from tilewright.tools.cli.peers import PeerMissing, open_peer

    found: dict[str, Callable[[], object]] = {}
    errors: dict[str, float] = {}
    skipped: dict[str, str] = {}
    outputs = [output.name for output in job.session.get_outputs()]
    for peer in peers:
        if job.model is None:
            reason = "an artifact alone does not tell its model; try: --model MODEL.onnx"
            skipped[peer.label] = reason
            continue
        try:
            opened = open_peer(peer, job.model, job.threads, outputs, job.feeds, stack)
        except PeerMissing as missing:
            skipped[peer.label] = str(missing)
            continue
        pairs = zip(ours, opened.outputs, strict=True)
        errors[peer.label] = max(
            (
                float(np.linalg.norm(a.astype("f8") - b) / (np.linalg.norm(b.astype("f8")) or 1))
                for a, b in pairs
            ),
            default=0.0,
        )
        found[peer.label] = opened.run
    return found, errors, skipped


def _layers(screen: Screen, job: Job, peers: list[Peer], max_error: float | None) -> dict[str, Any]:
    """Products with constant weights, one by one, beside PyTorch's."""
    from importlib.util import find_spec

    from tilewright.backends.profile import profile_for
    from tilewright.backends.target import lookup
    from tilewright.runtime.feeds import resolve_dims
    from tilewright.tools.bench.linear import layers, time_layers

    if find_spec("torch") is None:
        skipped = {p.label: "torch is not installed; try: pip install torch" for p in peers}
        peers = []
    else:
        skipped = {p.label: "--linear compares with torch" for p in peers if p.name != "torch"}
        peers = [p for p in peers if p.name == "torch"]
    for name, reason in skipped.items():
        screen.warn(f"skipped {name}: {reason}")
    manifest = job.session.manifest
    shapes = [job.feeds[tensor.name].shape for tensor in manifest.inputs]
    sizes = resolve_dims(str(job.path), manifest, shapes)
    target = lookup(job.session.variant)
    profile = profile_for(target)
    asked = {p.label: (p.precision, p.environment) for p in peers}
    rows: list[dict[str, Any]] = []
    with screen.working("timing layers") as update:
        found = layers(job.plan(), sizes)
        for timed in time_layers(found, target, profile, max_error, asked, job.rounds, job.budget):
            layer = timed.layer
            update(f"{layer.m} x {layer.k} x {layer.n}")
            rows.append({**asdict(timed), "gflop": 2e-9 * layer.m * layer.k * layer.n})
    columns = [f">{label} GFLOP/s" for label in asked] + [f">time / {p}" for p in asked]
    screen.table(
        "layers, the most operations first; the time of ours by the other's",
        ("M x K x N", ">count", "kernel", ">GFLOP/s", *columns),
        [
            (
                "{m} x {k} x {n}".format(**row["layer"]),
                row["layer"]["count"],
                row["kernel"],
                f"{row['gflop'] / row['ms'][row['kernel']] * 1e3:.1f}",
                *(f"{row['gflop'] / row['ms'][p] * 1e3:.1f}" for p in asked),
                *(f"{1 / row['ratio'][p]:.2f}" for p in asked),
            )
            for row in rows
        ],
    )
    return {"threads": 1, "base": OURS, "timings": rows, "skipped": skipped, "kernels": []}
