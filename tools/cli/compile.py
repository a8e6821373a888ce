"""`tilewright compile`: an ONNX model to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilewright.compiler.errors import UserError, nearest
from tilewright.tools.cli.contract import show_contract, show_formats, show_slices
from tilewright.tools.cli.files import check_output
from tilewright.tools.cli.interrupt import ends_workers
from tilewright.tools.cli.options import (
    STAGES,
    ByteCount,
    dim_option,
    jobs_option,
    kept_formats,
    model_argument,
    path_type,
    selection_options,
    subcommand,
    target_option,
    widths,
)
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.compiler.driver import CompileResult
    from tilewright.passes.pipelines import Step

EXAMPLES = """
tilewright compile model.onnx -o model.tw
tilewright compile model.onnx --target x86-64-v3,x86-64-v4 --dim batch=1..8 --dim seq=1..512
tilewright compile model.onnx --stop-after passes --print-after fuse-regions
tilewright compile model.onnx --max-error 1e-2
tilewright compile model.onnx --calibrate samples.npz --max-error 0.02
tilewright compile model.onnx --calibrate data/ --max-error 0.02 --keep '*lm_head*=bf16'
tilewright compile model.onnx --calibrate mine:texts --metric mine:perplexity --max-error 0.05
tilewright compile model.onnx --calibrate samples.npz --slices 8,4
tilewright compile model.onnx --plan plan.json
tilewright compile model.onnx --dim batch=1..8 --max-memory 512M
tilewright compile decoder.onnx --last-token logits
tilewright compile decoder.onnx --kv-cache int8
tilewright compile model.onnx --abft
tilewright compile model.onnx --dump dump/
"""

UNMEASURED = (
    "warning: --max-error {:g} without --calibrate chooses kernels by the class of their error;"
    " the error of outputs is not measured and may be more, and weights keep their precision"
)


@subcommand("compile", EXAMPLES)
@model_argument
@click.option("-o", "--output", type=path_type, help="The artifact; MODEL's name with .tw if none.")
@target_option
@dim_option
@jobs_option
@click.option(
    "--stop-after", type=click.Choice(STAGES), help="Stop after a stage; nothing is written."
)
@click.option("--print-after", multiple=True, metavar="PASS", help="Print the IR after a pass.")
@click.option("--print-after-each", is_flag=True, help="Print the IR after every pass.")
@click.option(
    "--dump", type=path_type, metavar="DIR", help="Write the IR of every step and the LLVM IR."
)
@click.option("--name", help="Name of the model in the artifact.")
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    metavar="E",
    help="Relative L2 error that every output may have. With --calibrate it is measured and kept;"
    " without, kernels are chosen by the class of their error (bf16 from 1e-2 on), and what was"
    " reached is not measured.  [default: as exact as float32]",
)
@click.option(
    "--max-memory",
    type=ByteCount(),
    metavar="BYTES",
    help="Refuse to use more for weights and intermediate tensors, at the upper bounds of all"
    " dimensions. 64K, 2M and 1G are understood.  [default: no cap]",
)
@click.option(
    "--fast-memory",
    type=ByteCount(),
    metavar="BYTES",
    help="Let every step work in the first BYTES of the arena; what waits is copied behind them.",
)
@click.option(
    "--last-token",
    multiple=True,
    metavar="OUTPUT",
    help="Give only the last position of OUTPUT, [.., 1, vocabulary] of logits [.., sequence,"
    " vocabulary], and compute no other (repeatable).",
)
@click.option(
    "--calibrate",
    metavar="SAMPLES",
    help="Measure errors on SAMPLES (an .npz file, a folder of them, or module:function that yields"
    " feeds), choose formats of weights by them, and keep --max-error on samples held out.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="PATTERN=FORMAT",
    help="Numerics of the operations whose ONNX nodes match PATTERN: a weight format or f32,"
    " bf16x3, f16, bf16 (repeatable; with --calibrate).",
)
@click.option(
    "--optimize",
    type=click.Choice(("latency", "size")),
    default="latency",
    show_default=True,
    help="What to make least under the error bound (with --calibrate).",
)
@click.option(
    "--max-size",
    type=ByteCount(),
    metavar="BYTES",
    help="Most bytes of packed weights.  [default: no cap]",
)
@click.option(
    "--metric",
    metavar="MODULE:FUNCTION",
    help="A number that FUNCTION(run, samples) gives, less being better; --max-error then bounds by"
    " how much it grows on the held-out samples (with --calibrate).",
)
@click.option(
    "--fisher",
    metavar="FILE.npz",
    help="Fisher information, by which low rank keeps what matters to a loss: by initializer an"
    " array of its shape, or a number for each input channel (with --calibrate).",
)
@click.option(
    "--kv-cache",
    type=click.Choice(("int8", "int4", "auto")),
    help="Take and give back key-value caches in 8 or 4 bits instead of f32; a decoding loop feeds"
    " outputs as inputs as before, with their scales. auto: by the error (with --calibrate).",
)
@click.option(
    "--plan",
    metavar="PLAN",
    help="Take the formats that a plan.json (or an artifact) lists under `formats`.",
)
@click.option(
    "--slices",
    callback=widths,
    metavar="BITS,..",
    help="Store weights once, as codes of the most of BITS of which fewer can be read: `load(path,"
    " slice=4)`. The error of every slice is measured (with --calibrate); --max-error bounds all.",
)
@click.option(
    "--abft",
    is_flag=True,
    help="Check every product with constant weights against checksums of them: a run whose weights"
    " or results were corrupted in memory fails. Costs time; CPUs only.",
)
@selection_options
def command(
    screen: Screen,
    model: Path,
    output: Path | None,
    target: str,
    dims: dict[str, str],
    jobs: int | None,
    stop_after: str | None,
    print_after: tuple[str, ...],
    print_after_each: bool,
    dump: Path | None,
    name: str | None,
    max_error: float | None,
    max_memory: int | None,
    fast_memory: int | None,
    last_token: tuple[str, ...],
    calibrate: str | None,
    keep: tuple[str, ...],
    optimize: str,
    max_size: int | None,
    metric: str | None,
    fisher: str | None,
    kv_cache: str | None,
    plan: str | None,
    slices: tuple[int, ...],
    abft: bool,
    typical: dict[str, int],
    for_threads: int,
    tuned: bool,
) -> dict[str, Any]:
    """Compile MODEL, an ONNX file, into an artifact.

    The artifact holds native code for every target and the packed weights; `tilewright run` and
    `tilewright.load` run it without the compiler.
    """
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.ir.print import print_graph
    from tilewright.compiler.options import Options

    path = output or Path(model.with_suffix(".tw").name)
    if stop_after in (None, "package"):
        check_output(path)
    wanted = set(print_after)
    check_passes(wanted)
    printed: list[dict[str, str]] = []

    def watch(step: Step) -> None:
        if print_after_each or pass_name(step.name) in wanted:
            text = print_graph(step.after, weights=False)
            printed.append({"pass": step.name, "ir": text})
            screen.text(f"# after {step.name}\n{text}")

    options = Options(
        targets=(target,),
        dims=dims,
        jobs=jobs,
        stop_after=stop_after,
        name=name,
        max_error=max_error,
        max_memory=max_memory,
        fast_memory=fast_memory,
        last_token=last_token,
        typical=typical,
        threads=for_threads,
        tuned=tuned,
        calibrate=calibrate,
        keep=kept_formats(keep),
        optimize=optimize,
        max_size=max_size,
        metric=metric,
        fisher=fisher,
        kv_cache=kv_cache,
        plan=plan,
        slices=slices,
        abft=abft,
    )
    if max_error and calibrate is None and stop_after in (None, "package"):
        screen.warn(UNMEASURED.format(max_error))
    with screen.working(f"compiling {model}") as update, ends_workers():
        result = compile_model(
            model,
            path,
            options,
            progress=lambda stage, what: update(f"{stage}: {what}"),
            observer=watch,
        )
    if dump is not None:
        with screen.working(f"writing {dump}"):
            write_dump(dump, result)
    report = summary(result, model)
    if printed:
        report["printed"] = printed
    show(screen, report)
    return report


def pass_name(spec: str) -> str:
    """`fuse-bias` of `fuse-bias{max-rank=2}`."""
    return spec.partition("{")[0].strip()


def check_passes(names: set[str]) -> None:
    """Raise UserError for a name that no pass has."""
    from tilewright.passes.registry import passes

    for name in sorted(names - passes().keys()):
        raise UserError(f"pass {name!r}", "there is no such pass", hint=nearest(name, passes()))


def summary(result: CompileResult, model: Path) -> dict[str, Any]:
    """What a compile did, as the document of --json; sizes in bytes, times in seconds."""
    from tilewright.backends.artifact.error_report import numerics_report
    from tilewright.backends.artifact.structure_report import structure_counts, structure_report

    contract = result.contract
    return {
        "model": str(model),
        "artifact": str(result.path) if result.path is not None else None,
        "artifact_bytes": result.bytes,
        "model_bytes": model.stat().st_size,
        "seconds": dict(result.seconds),
        "operations": len(result.graph.ops),
        "contract": None if contract is None else contract.document(),
        "slices": None if result.slices is None else result.slices.document(),
        "passes": [
            {
                "name": s.name,
                "seconds": s.seconds,
                "changed": s.changed,
                "operations": len(s.after.ops),
            }
            for s in result.steps
        ],
        "variants": [
            {
                "target": lowered.name,
                "launches": len(lowered.launches),
                "kernels": len(lowered.specs),
                "weight_bytes": sum(weight.bytes for weight in lowered.weights),
                "numerics": numerics_report(lowered.state.selection)
                if lowered.state.selection is not None
                else {},
                "structures": structure_counts(structure_report(lowered.state)),
                "memory": {
                    "arena": str(plan.arena),
                    "arena_bytes": plan.nominal,
                    "max_live": plan.bound,
                    "at": dict(plan.env),
                    "method": plan.method,
                    "certificate": plan.conclusion(),
                },
            }
            for lowered, plan in zip(result.variants, result.plans, strict=True)
        ],
    }


def show(screen: Screen, report: dict[str, Any]) -> None:
    """The tables of a compile."""
    seconds = report["seconds"]
    rows = [(stage, f"{time:.2f}") for stage, time in seconds.items()]
    screen.table(
        report["model"], ("stage", ">seconds"), [*rows, ("all", f"{sum(seconds.values()):.2f}")]
    )
    if screen.verbose:
        screen.table(
            "passes",
            ("pass", ">ms", ">operations", "changed"),
            [
                (
                    p["name"],
                    f"{p['seconds'] * 1e3:.1f}",
                    p["operations"],
                    "yes" if p["changed"] else "",
                )
                for p in report["passes"]
            ],
        )
    if report["contract"] is not None:
        show_contract(screen, report["contract"])
    if report["slices"] is not None:
        show_slices(screen, report["slices"])
    for variant in report["variants"]:
        if report["contract"] is not None or report["slices"] is not None:
            show_formats(screen, variant)
        memory = variant["memory"]
        at = ", ".join(f"{name} = {size}" for name, size in memory["at"].items())
        bytes_at = f" bytes with {at}" if at else " bytes"
        screen.table(
            variant["target"],
            ("", ""),
            [
                ("kernels", f"{variant['kernels']} for {variant['launches']} launches"),
                ("weights", f"{variant['weight_bytes']:,} bytes"),
                ("arena", f"{memory['arena_bytes']:,}{bytes_at}"),
                ("max-live bound", f"{memory['max_live']:,}{bytes_at}"),
                ("plan", memory["method"]),
                ("certificate", memory["certificate"]),
            ],
        )
    if report["artifact"] is not None:
        screen.text(
            f"{report['artifact']}: {report['artifact_bytes']:,} bytes "
            f"(the model has {report['model_bytes']:,})"
        )


def write_dump(folder: Path, result: CompileResult) -> None:
    """Write the IR after import and each pass, and the LLVM IR of every kernel as it was emitted.

    Raises UserError when the folder cannot be written.
    """
    from tilewright.backends.llvm.backend import entry_points
    from tilewright.backends.llvm.emitters import emit_text, kernel_name
    from tilewright.compiler.ir.print import print_graph

    graphs = [("import", result.steps[0].before if result.steps else result.graph)]
    graphs += [(pass_name(step.name), step.after) for step in result.steps]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, graph) in enumerate(graphs):
            (folder / f"{number:02}-{name}.ir").write_text(print_graph(graph))
        for lowered in result.variants:
            place = folder / lowered.target.name
            place.mkdir(exist_ok=True)
            for spec in (*lowered.specs, entry_points(lowered)):
                name = kernel_name(spec, lowered.target)
                text, _ = emit_text(spec, lowered.target, name)
                (place / f"{name}.ll").write_text(text)
    except OSError as refusal:
        found = f"the system says: {refusal.strerror}"
        raise UserError(
            str(folder), "the dump cannot be written", found, "choose another folder"
        ) from None
