"""`tilewright targets`: the rows code can be compiled for, and what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilewright.tools.cli.files import check_output
from tilewright.tools.cli.options import path_type, subcommand
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.backends.profile import MachineProfile

EXAMPLES = """
tilewright targets
tilewright targets --json
tilewright targets --measure
tilewright targets --measure --row x86-64-v3 --output v3.json
"""


@subcommand("targets", EXAMPLES)
@click.option(
    "--measure",
    is_flag=True,
    help="Measure this machine (under a minute; best with nothing else running) and keep the "
    "result for later compiles.",
)
@click.option(
    "--row", metavar="NAME", help="With --measure: the target whose code measures, native if left."
)
@click.option(
    "--output",
    type=path_type,
    metavar="FILE",
    help="With --measure: write the profile here and leave the kept one as it is.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.01, max=4),
    default=1.5,
    show_default=True,
    help="With --measure: how long each unit runs before its rate counts as sustained.",
)
def command(
    screen: Screen, measure: bool, row: str | None, output: Path | None, seconds: float
) -> dict[str, Any]:
    """List the targets, which of them run here, and what this machine has.

    With --measure also how fast it multiplies, reads and writes. Compiles for `native` then
    choose kernels by these figures instead of the target row's.
    """
    if measure:
        return _measure(screen, row, output, seconds)
    for name, value in (("--row", row), ("--output", output)):
        if value is not None:
            raise click.UsageError(f"{name} goes with --measure")
    return _list(screen)


def _measure(
    screen: Screen, row: str | None, output: Path | None, seconds: float
) -> dict[str, Any]:
    from tilewright.backends.cost.measure import measure
    from tilewright.backends.profile import store
    from tilewright.backends.target import detect, lookup, runs_here
    from tilewright.compiler.errors import UserError

    target = detect() if row in (None, "native") else lookup(row)
    if not runs_here(target):
        raise UserError(target.name, "this machine cannot run code of this target")
    if target != detect() and output is None:
        raise click.UsageError("only the native target's profile is kept; name a file: --output")
    if output is not None:
        check_output(output)
    with screen.working("measuring") as update:
        profile = measure(
            target, seconds, lambda what, number, total: update(f"{what} ({number} of {total})")
        )
    path = store(profile, output)
    _show(screen, profile)
    screen.text(f"stored in {path}")
    return {"profile": _document(profile), "stored": str(path)}


def _document(profile: MachineProfile) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(profile), "digest": profile.digest}


def _show(screen: Screen, profile: MachineProfile) -> None:
    from dataclasses import fields

    rates = [(f.name, getattr(profile.rates, f.name)) for f in fields(profile.rates)]
    screen.table(
        f"{profile.target} on {profile.cpu}, {profile.cores} core(s): multiplications, one core",
        ("unit", ">burst Gop/s", ">sustained Gop/s"),
        [
            (name, f"{rate.burst / 1e9:.1f}", f"{rate.sustained / 1e9:.1f}")
            for name, rate in rates
            if rate is not None
        ],
    )
    levels = [
        (f"read {f.name.upper()}", getattr(profile.read, f.name)) for f in fields(profile.read)
    ]
    sizes = {"read L1": profile.l1, "read L2": profile.l2, "read L3": profile.l3}
    screen.table(
        "memory",
        ("", ">size", ">GB/s of one core", ">of each of two"),
        [
            (
                name,
                f"{sizes[name] >> 10} KiB" if name in sizes else "",
                f"{band.one / 1e9:.1f}",
                f"{band.two / 1e9:.1f}",
            )
            for name, band in (*levels, ("write DRAM", profile.write))
        ],
    )
    screen.text(
        f"elementwise {profile.vector / 1e9:.1f} Gop/s; parallel region {profile.region_ns:.0f} ns;"
        f" call {profile.launch_ns:.1f} ns"
    )
    screen.text(f"source: {profile.source}")


def _list(screen: Screen) -> dict[str, Any]:
    from tilewright.backends.cuda.here import device_here, why_not_here
    from tilewright.backends.cuda.toolchain import tools
    from tilewright.backends.profile import profile_for, stored_path
    from tilewright.backends.target import TARGETS, UnknownTargetError, cpu_flags, detect, runs_here
    from tilewright.runtime.cpu import host_architecture, host_features

    try:
        native = detect().name
    except UnknownTargetError:
        native = None
    rows, device = [], device_here()
    for target in TARGETS.values():
        refused = why_not_here(target) if target.gpu else ""
        missing = sorted(set(target.required_flags) - cpu_flags())
        rows.append(
            {
                "name": target.name,
                "inherits": target.inherits,
                "architecture": "cuda" if target.gpu else target.triple.split("-")[0],
                "vector_bits": target.vector_bits,
                "features": list(target.all_features),
                "runs_here": not refused if target.gpu else runs_here(target),
                "native": target.name == native,
                "missing": missing,
                "refused": refused,
                "profile": profile_for(target).describe(),
            }
        )
    screen.table(
        "targets",
        (
            "name",
            "inherits",
            "architecture",
            ">vector bits",
            ">f32 Gop/s a core or GPU",
            "runs here",
        ),
        [
            (
                row["name"],
                row["inherits"] or "",
                row["architecture"],
                row["vector_bits"],
                f"{profile_for(target).rates.f32.sustained / 1e9:.0f}",
                _runs(row, host_architecture()),
            )
            for row, target in zip(rows, TARGETS.values(), strict=True)
        ],
    )
    features = sorted(host_features())
    screen.text(f"this machine: {host_architecture()}, {len(features)} CPU features")
    screen.text(f"  {' '.join(features)}")
    compiler, assembler = tools()
    screen.text(f"GPU: {device or 'none that the driver can use'}")
    screen.text(f"  CUDA kernels by {compiler or 'nothing'}, cubins by {assembler or 'nothing'}")
    kept = stored_path()
    if native is not None:
        if kept.exists():
            _show(screen, profile_for(TARGETS[native]))
        else:
            screen.text("not measured; `tilewright targets --measure` does so")
    return {
        "targets": rows,
        "native": native,
        "machine": {
            "architecture": host_architecture(),
            "features": features,
            "measured": str(kept) if kept.exists() else None,
            "gpu": device or None,
            "cuda": {"compiler": compiler or None, "assembler": assembler or None},
        },
    }


def _runs(row: dict[str, Any], architecture: str) -> str:
    if row["native"]:
        return "yes: `native`"
    if row["runs_here"]:
        return "yes"
    if row["refused"]:
        return f"no: {row['refused'].partition(':')[0]}"
    if row["architecture"] != architecture:
        return "no: another architecture"
    return f"no: lacks {', '.join(row['missing'])}"
