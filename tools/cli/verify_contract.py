"""`tilewright verify --calibrate`: an artifact's error contract, measured where it is to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tilewright.compiler.errors import UserError
from tilewright.tools.cli.build import imported
from tilewright.tools.cli.contract import number
from tilewright.tools.cli.screen import Screen


def check_contract(
    screen: Screen,
    model: Path,
    artifact: Path,
    source: str,
    dims: Mapping[str, str],
    threads: int | None,
    slice_: int | None,
) -> dict[str, Any]:
    """Run the artifact on the held-out part of the samples, against what its contract is against.

    Ends with exit status 1 where it is broken. Raises UserError for an artifact without a contract
    and as `read_samples` does.
    """
    from tilewright.backends.cached_runs import stored
    from tilewright.backends.trial import as_function, deviations, original
    from tilewright.compiler.metric import read_metric
    from tilewright.compiler.samples import read_samples
    from tilewright.runtime.session import load
    from tilewright.tools.inspect_artifact import open_whole, read_plan
    from tilewright.tools.verify import exact_outputs

    graph = imported(screen, model, dims)
    names = list(graph.output_names)
    held = read_samples(source, graph.inputs).held_out
    there = original(str(model), names)

    def exact(feeds: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(names, exact_outputs(graph, feeds), strict=True))

    expected = exact if there is None else there
    plan = read_plan(open_whole(artifact))
    contract = plan.get("contract") or plan.get("slices")
    if contract is None:
        hint = "compile it with --calibrate and --max-error"
        raise UserError(str(artifact), "has no error contract", hint=hint)
    bound = contract["bound"]
    with load(artifact, threads, slice=slice_) as session:
        run = as_function(session)
        with screen.working(f"running {len(held)} samples"):
            found = deviations(run, expected, held, names, stored(session.caches))
            change = None
            if "metric" in contract:
                metric = read_metric(contract["metric"])
                change = metric(run, held) - metric(expected, held)
        variant, bits = session.variant, session.slice
    before = _when_compiled(contract, bits)
    limit = bound if change is None else None
    rows = [
        {
            "name": d.output,
            "when_compiled": before.get(d.output),
            "error": d.error,
            "worst_sample": d.sample,
            "worst": d.worst,
            "passed": limit is None or d.error <= limit,
        }
        for d in found
    ]
    kept = all(row["passed"] for row in rows) and (change is None or change <= bound)
    report = {
        "model": str(model),
        "artifact": str(artifact),
        "variant": variant,
        "against": "float64" if there is None else "onnxruntime",
        "bound": bound,
        "samples": len(held),
        "outputs": rows,
        "metric": None if change is None else {"name": contract["metric"], "change": change},
        "passed": kept,
    }
    _show(screen, report)
    if not kept:
        screen.warn(f"{artifact} [{variant}]: does not keep its error contract here")
        screen.finish(report)
        raise click.exceptions.Exit(1)
    return report


def _when_compiled(contract: Mapping[str, Any], bits: int) -> dict[str, float]:
    """The errors by output that were measured then; of a slice, those of its bits."""
    row = next((r for r in contract.get("slices", ()) if r["bits"] == bits), contract)
    return dict(zip(contract["outputs"], row["measured"], strict=True))


def _show(screen: Screen, report: Mapping[str, Any]) -> None:
    bound = "-" if report["bound"] is None or report["metric"] else f"{report['bound']:g}"
    screen.table(
        f"error contract of {report['artifact']} [{report['variant']}],"
        f" {report['samples']} held-out samples, against {report['against']}",
        ("output", ">bound", ">when compiled", ">here", ""),
        [
            (
                row["name"],
                bound,
                number(row["when_compiled"]),
                number(row["error"]),
                "kept" if row["passed"] else "BROKEN",
            )
            for row in report["outputs"]
        ],
    )
    metric = report["metric"]
    if metric is not None:
        screen.text(f"{metric['name']} grew by {number(metric['change'])}, of {report['bound']:g}")
