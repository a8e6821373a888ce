"""`tilewright inspect`: what is in a model or an artifact."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tilewright.compiler.errors import UserError
from tilewright.tools.cli.build import imported
from tilewright.tools.cli.choices import show_choices, show_explained
from tilewright.tools.cli.contract import show_contract, show_slices, show_structure_rows
from tilewright.tools.cli.files import is_artifact
from tilewright.tools.cli.gpu_kernel import show_gpu_kernel
from tilewright.tools.cli.options import dim_option, path_type, sizes, subcommand
from tilewright.tools.cli.screen import Screen

EXAMPLES = """
tilewright inspect model.onnx
tilewright inspect model.tw --plan
tilewright inspect model.tw --explain encoder.layer.0.query
tilewright inspect model.tw --explain worst
tilewright inspect model.tw --memory --shape seq=128
tilewright inspect model.onnx --structure
tilewright inspect model.onnx --ir fuse-regions
tilewright inspect model.onnx --diff recognize-attention fuse-regions
tilewright inspect model.onnx --kernel f32_matmul --llvm
tilewright inspect model.tw --kernel encoder.layer.0.query
tilewright inspect model.onnx --target sm_90a --kernel encoder.layer.0.query --asm
"""


@subcommand("inspect", EXAMPLES)
@click.argument("path", type=path_type, metavar="MODEL.onnx|ARTIFACT.tw")
@click.option("--plan", "plan_", is_flag=True, help="Every kernel launch: its work and ONNX nodes.")
@click.option(
    "--explain",
    metavar="NODE",
    help="Why an ONNX node runs on the kernel it has, and what other formats would cost; `worst` is"
    " the node that costs the most error.",
)
@click.option("--memory", is_flag=True, help="The map of the arena.")
@click.option(
    "--structure",
    is_flag=True,
    help="What each weight of a model has in common with sparse, low-rank and structured matrices,"
    " beside what chance would have.",
)
@click.option(
    "--shape",
    multiple=True,
    callback=sizes,
    metavar="NAME=SIZE",
    help="Dimensions for --memory (repeatable).",
)
@click.option(
    "--ir", "ir", metavar="STAGE", help="IR after `import` or a pass; PASS:2 is its second run."
)
@click.option("--diff", nargs=2, metavar="STAGE STAGE", help="What changes between two stages.")
@click.option("--kernel", metavar="NAME", help="Code of one kernel: a symbol, a part, or a node.")
@click.option(
    "--llvm",
    is_flag=True,
    help="With --kernel: LLVM IR as emitted (models only); of a GPU kernel its source, mostly CUDA"
    " C++.",
)
@click.option(
    "--asm",
    is_flag=True,
    help="With --kernel: the assembly; of a GPU kernel PTX, and SASS where cuobjdump is installed.",
)
@click.option("--target", help="Which target, or which variant of an artifact.")
@dim_option
def command(
    screen: Screen,
    path: Path,
    plan_: bool,
    explain: str | None,
    memory: bool,
    structure: bool,
    shape: dict[str, int],
    ir: str | None,
    diff: tuple[str, str] | None,
    kernel: str | None,
    llvm: bool,
    asm: bool,
    target: str | None,
    dims: dict[str, str],
) -> dict[str, Any]:
    """Show a model's or artifact's signature, plan, memory map, IR or code.

    Nothing of an artifact is executed; one for another machine can be inspected too.
    """
    if (llvm or asm) and kernel is None:
        raise click.UsageError("--llvm and --asm say what to show of a --kernel NAME.")
    if is_artifact(path):
        if ir is not None or diff is not None or structure:
            lacks = "holds its weights in kernels' formats" if structure else "holds no IR"
            hint = "inspect the ONNX model it was made from"
            raise UserError(str(path), f"an artifact {lacks}", "", hint)
        return _artifact(screen, path, plan_, explain, memory, shape, kernel, llvm, asm, target)
    if structure:
        return _structure(screen, path, dims, target or "native")
    if ir is not None or diff is not None:
        return _stages(screen, path, dims, ir, diff)
    if kernel is not None or explain is not None or plan_ or memory:
        native = target or "native"
        return _lowered(
            screen, path, dims, native, plan_, explain, memory, shape, kernel, llvm, asm
        )
    from tilewright.tools.inspect_model import describe_model

    report = describe_model(path, imported(screen, path, dims))
    _signature(screen, f"{path}: {report['name']}", report)
    weights = report["weights"]
    screen.text(f"{weights['count']} constants of {weights['bytes']:,} bytes")
    _counts(screen, "ONNX operators", report["onnx_operators"])
    _counts(screen, "operations of the IR after import", report["operations"])
    return report


def _structure(screen: Screen, path: Path, dims: dict[str, str], target: str) -> dict[str, Any]:
    from tilewright.compiler.options import Options
    from tilewright.tools import inspect_structure

    graph, options = imported(screen, path, dims), Options(targets=(target,), dims=dims)
    with screen.working(f"looking for structure in {path}") as update:
        found = inspect_structure.describe_structure(graph, options, update)
    weights, rewrites = found["weights"], found["rewrites"]
    if not weights:
        raise UserError(
            str(path),
            "no weights to look at",
            "constants of f32 that products, convolutions or lookups read",
        )
    columns = ("weight", ">K x N", "exact", "nearest", ">lost", ">by chance", "verdict")
    screen.table("structure of the weights", columns, inspect_structure.structure_rows(weights))
    screen.text(inspect_structure.summary(weights))
    _rewrites(screen, rewrites)
    return {"model": str(path), **found}


def _rewrites(screen: Screen, rewrites: list[dict[str, Any]]) -> None:
    """What was made of structure in weights."""
    from tilewright.tools.inspect_structure import REWRITE_COLUMNS, rewrite_rows

    if rewrites:
        screen.table("rewrites", REWRITE_COLUMNS, rewrite_rows(rewrites))


def _stages(
    screen: Screen,
    path: Path,
    dims: dict[str, str],
    ir: str | None,
    diff: tuple[str, str] | None,
) -> dict[str, Any]:
    from tilewright.compiler.ir.print import print_graph
    from tilewright.tools.inspect_model import IMPORT, all_stages, difference, stage

    graph = imported(screen, path, dims)
    if ir == IMPORT and diff is None:
        stages = [(IMPORT, graph)]
    else:
        with screen.working(f"passes over {path}"):
            stages = all_stages(graph)
    report: dict[str, Any] = {"model": str(path), "stages": [name for name, _ in stages]}
    if ir is not None:
        report["ir"] = print_graph(stage(stages, ir), weights=False)
        screen.text(report["ir"].rstrip("\n"))
    if diff is not None:
        report["diff"] = difference(stages, *diff)
        screen.text(report["diff"] or f"no difference between {diff[0]} and {diff[1]}")
    return report


def _lowered(
    screen: Screen,
    path: Path,
    dims: dict[str, str],
    target: str,
    plan_: bool,
    explain: str | None,
    memory: bool,
    shape: dict[str, int],
    kernel: str | None,
    llvm: bool,
    asm: bool,
) -> dict[str, Any]:
    """Plan, memory map and kernels of a model: everything but linking."""
    from collections import defaultdict

    from tilewright.backends.artifact.package import Variant, plan_report
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.options import Options
    from tilewright.tools.inspect_cuda import from_model as gpu_from_model
    from tilewright.tools.inspect_kernel import from_model
    from tilewright.tools.inspect_memory import certificate

    with screen.working(f"lowering {path}"):
        options = Options(targets=(target,), dims=dims, stop_after="lower")
        result = compile_model(path, None, options)
    lowered, planned = result.variants[0], result.plans[0]
    report: dict[str, Any] = {"model": str(path), "target": lowered.target.name}
    if plan_ or memory or explain is not None:
        # The tier is known once the code is made; this stops before.
        tiers: defaultdict[str, str] = defaultdict(lambda: "-")
        whole = plan_report([Variant(lowered, {}, planned, tiers)], result.steps)
        variant = whole["variants"][lowered.target.name]
        _plan_and_memory(screen, report, variant, plan_, explain, memory, shape)
    if memory:
        with screen.working("searching better orders of the steps"):
            searched = dataclasses.replace(planned, certificate=certificate(lowered, planned))
        report["memory"]["proof"] = searched.proof()
        _proof(screen, report["memory"])
    if kernel is not None:
        both = not (llvm or asm)
        if lowered.target.gpu:
            with screen.working(f"compiling {kernel}"):
                show_gpu_kernel(screen, report, gpu_from_model(lowered, kernel), llvm, asm)
            return report
        with screen.working(f"generating {kernel}"):
            code = from_model(lowered, kernel, llvm or both, asm or both)
        report["kernel"] = {
            "name": code.name,
            "tier": code.tier,
            "llvm": code.llvm,
            "assembly": code.assembly,
        }
        screen.text("\n\n".join(part.strip("\n") for part in (code.llvm, code.assembly) if part))
    return report


def _artifact(
    screen: Screen,
    path: Path,
    plan_: bool,
    explain: str | None,
    memory: bool,
    shape: dict[str, int],
    kernel: str | None,
    llvm: bool,
    asm: bool,
    target: str | None,
) -> dict[str, Any]:
    from tilewright.tools.inspect_artifact import (
        describe_artifact,
        open_whole,
        read_plan,
        variant_plan,
    )
    from tilewright.tools.inspect_cuda import from_artifact as gpu_from_artifact
    from tilewright.tools.inspect_kernel import from_artifact

    file = open_whole(path)
    plan = read_plan(file)
    name, variant = variant_plan(str(path), plan, target)
    report = describe_artifact(file, plan)
    chosen = next(v for v in file.manifest.variants if _named(v) == name)
    if kernel is not None and chosen.machine == "cuda":
        show_gpu_kernel(screen, report, gpu_from_artifact(file, chosen, kernel), llvm, asm)
        return report
    if kernel is not None:
        if llvm:
            hint = f"tilewright inspect MODEL.onnx --kernel {kernel} --llvm"
            raise UserError(str(path), "an artifact holds no LLVM IR", "", hint)
        code = from_artifact(file, chosen, kernel)
        report["kernel"] = {"name": code.name, "assembly": code.assembly}
        screen.text(code.assembly.rstrip("\n"))
        return report
    if plan_ or memory or explain is not None:
        if plan_ and "contract" in plan:
            report["contract"] = plan["contract"]
            show_contract(screen, plan["contract"])
        if plan_ and plan.get("rewrites"):
            report["rewrites"] = plan["rewrites"]
            _rewrites(screen, plan["rewrites"])
        _plan_and_memory(screen, report, variant, plan_, explain, memory, shape)
        if memory:
            _proof(screen, report["memory"])
        return report
    _signature(screen, f"{path}: {report['name']}, by {report['producer']}", report)
    if "slices" in plan:
        report["slices"] = plan["slices"]
        show_slices(screen, plan["slices"])
    screen.table(
        "variants",
        ("target", "machine", ">code bytes", "runs here", "features"),
        [
            (
                f"{v['target']}, {v['slice']} bits" if v["slice"] else v["target"],
                v["machine"],
                f"{v['bytes']:,}",
                "yes" if v["runs_here"] else "no",
                " ".join(v["features"]),
            )
            for v in report["variants"]
        ],
    )
    entries = [(entry, f"{size:,}") for entry, size in report["entries"].items()]
    screen.table("entries", ("file", ">bytes"), [*entries, ("all", f"{report['bytes']:,}")])
    _counts(screen, f"{report['launches']} kernel launches", report["operations"])
    return report


def _named(variant: Any) -> str:
    """The name of a variant in the plan."""
    return f"{variant.target}.slice{variant.slice}" if variant.slice else str(variant.target)


def _plan_and_memory(
    screen: Screen,
    report: dict[str, Any],
    variant: dict[str, Any],
    plan_: bool,
    explain: str | None,
    memory: bool,
    shape: dict[str, int],
) -> None:
    from tilewright.tools.inspect_artifact import memory_rows, picture
    from tilewright.tools.inspect_kernel import kernel_rows

    if plan_:
        keys = ("formats", "launches", "selection", "structures", "notes")
        report["plan"] = {key: variant[key] for key in keys if key in variant}
        rest = ("units", "flops", "bytes", "ONNX nodes")
        columns = (">#", "operation", "kernel", "tier", "joined", *rest)
        screen.table("kernel launches", columns, kernel_rows(variant["launches"]))
        show_choices(screen, variant["selection"])
        show_structure_rows(screen, variant.get("structures", ()))
        notes = dict.fromkeys((n["source"], n["note"]) for n in variant["notes"])
        if notes:
            screen.table("decisions", ("ONNX nodes", "note"), list(notes))
    if explain is not None:
        report["explain"] = show_explained(screen, variant["selection"], explain, report)
    if memory:
        found = variant["memory"]
        rows, arena, values = memory_rows(found, shape)
        report["memory"] = {**found, "at": values, "arena_bytes": arena, "buffers": rows}
        at = ", ".join(f"{name} = {size}" for name, size in values.items())
        title = (
            f"arena of {arena:,} bytes{f' with {at}' if at else ''}, planned by {found['method']}"
        )
        drawn = picture(rows, arena)
        screen.table(
            title,
            ("buffer", ">first", ">last", ">bytes", ">offset", "arena"),
            [
                (
                    r["name"],
                    r["first"],
                    r["end"] - 1,
                    f"{r['bytes_at']:,}",
                    f"{r['offset_at']:,}",
                    line,
                )
                for r, line in zip(rows, drawn, strict=True)
            ],
        )


def _proof(screen: Screen, memory: dict[str, Any]) -> None:
    at = ", ".join(f"{name} = {size}" for name, size in memory["arena_at"].items())
    if at:
        screen.text(f"with {at}:")
    screen.text("\n".join(memory["proof"]["text"]))


def _signature(screen: Screen, title: str, report: dict[str, Any]) -> None:
    rows = [
        (kind, t["name"], t["dtype"], f"[{', '.join(map(str, t['shape']))}]")
        for kind, key in (("input", "inputs"), ("output", "outputs"))
        for t in report[key]
    ]
    screen.table(title, ("", "name", "type", "shape"), rows)
    if report["dims"]:
        bounds = (
            f"{name} = {low}..{'' if high is None else high}"
            for name, (low, high) in report["dims"].items()
        )
        screen.text(f"dimensions: {', '.join(bounds)}")
    for key, value in report["metadata"].items():
        screen.text(f"{key}: {value}")


def _counts(screen: Screen, title: str, counts: dict[str, int]) -> None:
    screen.table(title, ("operation", ">count"), list(counts.items()))
