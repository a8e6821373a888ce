"""The stages of a compile, from a model to a written artifact; `driver` runs them.

The stages that `--stop-after` takes: `import`, `passes`, `lower`, `codegen`, `package`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.backends import reference
from tilewright.backends.artifact.error_report import operations
from tilewright.backends.artifact.package import Variant, check_size, write_package
from tilewright.backends.cost.rewrites import Predicted
from tilewright.backends.cuda.backend import build as build_gpu
from tilewright.backends.kernels.candidates import allowed
from tilewright.backends.llvm.backend import Lowered, build, prepare, share_weights
from tilewright.backends.llvm.codegen import Known
from tilewright.backends.llvm.lowering.offers import Offers
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.state import PackedWeight
from tilewright.backends.llvm.lowering.tables import OBJECTIVES
from tilewright.backends.target import Target, resolve_targets
from tilewright.backends.tuning.cache import Cache, Measurements
from tilewright.compiler.contract import Contract, Errors
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.last_token import keep_last_token
from tilewright.compiler.options import Options
from tilewright.compiler.slice_contract import SliceContract
from tilewright.compiler.stages import Stages
from tilewright.compiler.typical import check_typical
from tilewright.passes.memory.caps import Caps
from tilewright.passes.memory.plan import Plan
from tilewright.passes.memory.planner import MemoryPlanner
from tilewright.passes.pipelines import PIPELINES, Step, run_pipeline
from tilewright.passes.prices import Prices
from tilewright.passes.quantization.caches import Cache as KvCache
from tilewright.passes.quantization.caches import quantize_caches
from tilewright.passes.quantization.planned import Planned, for_target, read_formats
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.selection.tables import solve_tables

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
Progress = Callable[[str, str], None]
"""Called with (stage, what is being done) as the compile goes on."""


@dataclass
class CompileResult:
    """What a compile made. `path` is None unless the artifact was written.

    `seconds` are the wall times of the stages; `steps` the passes that ran; `variants` the lowered
    programs, one a target; `plans` their memory plans. `contract`: how the error bound was kept, if
    samples were given to measure it on: the rounds, predicted and measured errors of every output.
    `slices`: the errors of all slices, of a compile with several. `exact`: the graph that errors
    are predicted on, whose caches are in f32; `recognized`: before anything of it was fused.
    """

    graph: Graph
    exact: Graph | None = None
    recognized: Graph | None = None
    path: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    variants: list[Lowered] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    tiers: list[dict[str, str]] = field(default_factory=list)
    bytes: int = 0
    contract: Contract | None = None
    slices: SliceContract | None = None


@dataclass
class Built:
    """Code for all targets, to be written. at: where it was written to be measured. emulations:
    what runs variants without code."""

    variants: list[Variant]
    weights: list[PackedWeight]
    at: Path = Path()
    emulations: list[Run] = field(default_factory=list)

    @property
    def predicted(self) -> Errors:
        """The worst of the targets, by output; empty where there was nothing to choose."""
        found = [s.predicted() for v in self.variants if (s := v.lowered.state.selection)]
        return tuple(max(errors) for errors in zip(*found, strict=True))


def import_model(
    source: Any,
    options: Options,
    done: Stages,
    say: Progress,
    observer: Callable[[Step], None] | None,
) -> CompileResult:
    """The stages before lowering."""
    if options.abft:
        _refuse_gpus(options)
    with done.stage("import"):
        say("import", str(source) if isinstance(source, str | Path) else "model")
        graph = keep_last_token(load_onnx(source, dict(options.dims)), options.last_token)
    result = CompileResult(graph, seconds=done.seconds)
    if done.stopped:
        return result

    def watch(step: Step) -> None:
        result.steps.append(step)
        say("passes", step.name)
        if observer is not None:
            observer(step)

    with done.stage("passes"):
        names = PIPELINES["recognize"] + (PIPELINES["shrink"] if options.shrinks else ())
        result.recognized = run_passes(graph, names, watch, rewriting_prices(graph, options))
        if options.kv_cache is None or options.calibrate is not None:
            fuse = PIPELINES["fuse-checked" if options.abft else "fuse"]
            result.graph = result.exact = run_passes(result.recognized, fuse, watch)
            if options.kv_cache is not None:  # a refusal now, not after calibration
                name = options.kv_cache
                quantize_caches(result.recognized, "int8" if name == "auto" else name)
        else:
            result.graph, _ = with_caches(result, options.kv_cache, watch, options.abft)
    return result


def _refuse_gpus(options: Options) -> None:
    for target in resolve_targets(options.targets):
        if target.gpu:
            found = "products are checked on CPUs only"
            hint = "leave --abft or this target away"
            raise UserError(f"target {target.name!r}", "checks no products", found, hint)


def with_caches(
    result: CompileResult,
    name: str,
    observer: Callable[[Step], None] | None = None,
    abft: bool = False,
) -> tuple[Graph, tuple[KvCache, ...]]:
    """The graph with key-value caches in the format `name`, and which they are. Raises UserError as
    `quantize_caches` says."""
    before = result.recognized
    assert before is not None
    start = time.perf_counter()
    after, caches = quantize_caches(before, name)
    if observer is not None:
        observer(
            Step(f"quantize-caches{{format={name}}}", before, after, time.perf_counter() - start)
        )
    fuse = PIPELINES["fuse-checked" if abft else "fuse"]
    return run_passes(after, fuse, observer), caches


def compile_graph(
    graph: Graph,
    output: str | Path,
    targets: Sequence[str] = ("native",),
    jobs: int | None = None,
    known: Known | None = None,
) -> CompileResult:
    """Compile a graph as it is, without passes. known: kernels of other builds."""
    result, options = CompileResult(graph), Options(jobs=jobs)
    built = build_code(result, resolve_targets(targets), options, Stages(None), silent, None, known)
    assert built is not None
    package(result, built, output, options)
    return result


def rewriting_prices(graph: Graph, options: Options) -> Prices:
    """What rewrites of products are judged by: kernels on the targets of a compile."""
    targets = resolve_targets(options.targets)
    return Predicted(targets, graph.symbols, options.typical, allowed(options.max_error))


def silent(stage: str, what: str) -> None:
    """Progress that nobody asked for."""


def build_code(
    result: CompileResult,
    targets: list[Target],
    options: Options,
    done: Stages,
    say: Progress,
    terms: Terms | None = None,
    known: Known | None = None,
    without: Sequence[str] = (),
) -> Built | None:
    """The stages from lowering to code; None if one of them was the last asked for.

    known: kernels of earlier builds. without: targets that get no code.
    """
    graph = result.graph
    for made in (result.variants, result.plans, result.tiers):
        made.clear()
    caps = Caps(options.max_memory, options.fast_memory)
    check_typical(graph, options.typical)
    plan = read_formats(options.plan) if options.plan is not None else None
    with done.stage("lower"):
        for target in targets:
            say("lower", target.name)
            offers: Offers | None = terms
            if plan is not None:
                wanted = for_target(plan, target.name)
                offers = Planned(graph, wanted) if terms is None else terms.under(wanted)
            how = selecting(options, target, offers)
            lowered, placed = lower_for(graph, target, options.max_error, caps, how)
            if plan is not None:
                wanted.check(operations(lowered.state.selection), target.name)
            result.variants.append(lowered)
            result.plans.append(placed)
        weights = share_weights(result.variants)
        check_size(weights, options.max_size)
    if done.stopped:
        return None

    return _generate(result, weights, options, done, say, known, without)


def with_code(
    result: CompileResult,
    built: Built,
    options: Options,
    done: Stages,
    say: Progress,
    known: Known,
) -> Built:
    """`built` with the code of all its variants."""
    result.variants[:] = [v.lowered for v in built.variants]
    if all(v.code for v in built.variants):
        return built
    result.plans[:] = [v.plan for v in built.variants if isinstance(v.plan, Plan)]
    result.tiers.clear()
    made = _generate(result, built.weights, options, done, say, known)
    assert made is not None
    return made


def join_slices(
    result: CompileResult,
    builds: Mapping[int, Built],
    options: Options,
    done: Stages,
    say: Progress,
    known: Known,
) -> Built:
    """One build of those of all slices, by their bits: with one copy of the weights."""
    for made in (result.variants, result.plans, result.tiers):
        made.clear()
    for bits, built in builds.items():
        for variant in built.variants:
            variant.lowered.slice = bits
            result.variants.append(variant.lowered)
            assert isinstance(variant.plan, Plan)
            result.plans.append(variant.plan)
    joined = _generate(result, share_weights(result.variants), options, done, say, known)
    assert joined is not None
    return joined


def _generate(
    result: CompileResult,
    weights: list[PackedWeight],
    options: Options,
    done: Stages,
    say: Progress,
    known: Known | None,
    without: Sequence[str] = (),
) -> Built | None:
    files: list[Mapping[str, bytes]] = []
    with done.stage("codegen"):
        for lowered in result.variants:
            if lowered.target.name in without:
                files.append({})
                result.tiers.append({})
                continue
            code, tiers = (build_gpu if lowered.target.gpu else build)(
                lowered,
                jobs=options.jobs,
                progress=lambda name: say("codegen", name),
                known=known,
            )
            files.append(code)
            result.tiers.append(tiers)
    if done.stopped:
        return None
    return Built(list(map(Variant, result.variants, files, result.plans, result.tiers)), weights)


def package(result: CompileResult, built: Built, output: str | Path, options: Options) -> None:
    """Write the artifact."""
    path = Path(output)
    name = options.name or result.graph.name or path.stem
    variants, weights = built.variants, built.weights
    record = result.contract or result.slices
    result.bytes = write_package(path, name, variants, weights, result.steps, record)
    result.path = path


def run_passes(
    graph: Graph,
    names: Sequence[str],
    observer: Callable[[Step], None] | None = None,
    prices: Prices | None = None,
) -> Graph:
    """Run passes with the reference interpreter as the evaluator of constants."""

    def evaluate(op: Any, arrays: Any) -> Any:
        return reference.evaluate_op(op, arrays, {})

    return run_pipeline(graph, names, observer, evaluate, prices)


def selecting(options: Options, target: Target, offers: Offers | None = None) -> Selecting:
    """How a compile chooses among kernels."""
    measured = Measurements(Cache(), target) if options.tuned else None
    return Selecting(
        options.typical,
        options.max_memory,
        solve_tables,
        measured,
        threads=options.threads,
        offers=offers,
        objective=OBJECTIVES[options.optimize] if offers is not None else None,
        max_size=options.max_size,
    )


def lower_for(
    graph: Graph,
    target: Target,
    max_error: float | None = None,
    caps: Caps | None = None,
    how: Selecting | None = None,
) -> tuple[Lowered, Plan]:
    """Lower `graph` for `target` under an error bound and plan its memory under caps.

    how: to choose among kernels; without it each operation takes the one predicted fastest.
    """
    planner = MemoryPlanner(graph.symbols, caps)
    lowered = prepare(graph, target, planner, max_error, how)
    assert planner.plan is not None
    return lowered, planner.plan
