"""`tilewright run`: an artifact over given or random data. Needs numpy, click and rich alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.tools.cli.files import check_output, written
from tilewright.tools.cli.options import (
    feed_options,
    path_type,
    slice_option,
    subcommand,
    threads_option,
)
from tilewright.tools.cli.screen import Screen

EXAMPLES = """
tilewright run model.tw --input image=digit.npy --output logits.npz
tilewright run model.tw --inputs feeds.npz
tilewright run model.tw --random --shape batch=4,seq=128 --range ids=0..30000 --profile
tilewright run sliced.tw --inputs feeds.npz --slice 4
"""


@subcommand("run", EXAMPLES)
@click.argument("artifact", type=path_type)
@feed_options
@click.option("--random", is_flag=True, help="Random arrays for inputs that no file gives.")
@click.option("-o", "--output", type=path_type, metavar="FILE.npz", help="Where the outputs go.")
@threads_option
@click.option("--variant", help="The variant to run instead of the best one.")
@slice_option
@click.option("--profile", is_flag=True, help="Time every kernel over --runs runs.")
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True)
def command(
    screen: Screen,
    artifact: Path,
    files: dict[str, str],
    bundle: Path | None,
    shape: dict[str, int],
    ranges: dict[str, str],
    seed: int,
    random: bool,
    output: Path | None,
    threads: int | None,
    variant: str | None,
    slice_: int | None,
    profile: bool,
    runs: int,
) -> dict[str, Any]:
    """Run ARTIFACT once and show its outputs.

    Outputs of types that numpy lacks (bfloat16, float8) are written as the integers of their bits.
    """
    from tilewright.runtime.session import load
    from tilewright.tools.cli.feeds import FeedOptions, describe, make_feeds

    if output is not None:
        check_output(output)
    with load(artifact, threads, variant=variant, slice=slice_) as session:
        options = FeedOptions(files, bundle, shape, ranges, seed)
        feeds = make_feeds(str(artifact), session.manifest, options, random)
        with screen.working(f"running {artifact}"):
            arrays = session.run(None, feeds)
            rows = session.profile(feeds, runs) if profile else []
        results = {t.name: a for t, a in zip(session.get_outputs(), arrays, strict=True)}
        report: dict[str, Any] = {
            "artifact": str(artifact),
            "variant": session.variant,
            "slice": session.slice or None,
            "threads": session.threads,
            "arena_bytes": session.arena_bytes,
            "feeds": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in feeds.items()},
            "outputs": [_describe(name, array) for name, array in results.items()],
        }
    if output is not None:
        _save(output, results)
        report["output"] = str(output)
    code = report["variant"] + (f", {report['slice']} bits" if report["slice"] else "")
    screen.text(f"{artifact} [{code}], {report['threads']} thread(s): {describe(feeds)}")
    screen.table(
        "outputs",
        ("name", "type", "shape", ">least", ">mean", ">greatest", "first elements"),
        [
            (
                o["name"],
                o["dtype"],
                o["shape"],
                *(
                    ("-",) * 3
                    if o["min"] is None
                    else (f"{o[k]:.6g}" for k in ("min", "mean", "max"))
                ),
                " ".join(f"{x:.6g}" for x in o["first"]),
            )
            for o in report["outputs"]
        ],
    )
    if profile:
        from tilewright.tools.cli.profile import profile_rows, show_profile

        report["profile"] = profile_rows(rows, runs)
        show_profile(screen, report["profile"])
    return report


def _describe(name: str, array: Any) -> dict[str, Any]:
    import numpy as np

    exact = array.astype(np.float64)
    filled = exact.size > 0
    return {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "min": float(exact.min()) if filled else None,
        "mean": float(exact.mean()) if filled else None,
        "max": float(exact.max()) if filled else None,
        "first": [float(x) for x in exact.reshape(-1)[:4]],
    }


def _save(path: Path, results: dict[str, Any]) -> None:
    import numpy as np

    plain = {
        # numpy would write its own unnamed kind for the types of ml_dtypes.
        name: array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
        for name, array in results.items()
    }
    with written(path) as file:
        np.savez(file, allow_pickle=False, **plain)
