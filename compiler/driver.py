"""A whole compile, read top to bottom: the only module that joins front end, passes and backends.

The stages that `--stop-after` takes: `import`, `passes`, `lower`, `codegen`, `package`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tilewright.backends import reference
from tilewright.backends.artifact.error_report import operations
from tilewright.backends.artifact.package import Variant, check_size, write_package
from tilewright.backends.llvm.backend import Lowered, build, prepare, share_weights
from tilewright.backends.llvm.codegen import Known
from tilewright.backends.llvm.lowering.offers import Offers
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.state import PackedWeight
from tilewright.backends.llvm.lowering.tables import OBJECTIVES
from tilewright.backends.target import Target, resolve_targets
from tilewright.backends.trial import (
    Feeds,
    Run,
    Times,
    interleaved,
    original,
    require_here,
    running,
    worst_errors,
    worst_value,
)
from tilewright.backends.tuning.cache import Cache, Measurements
from tilewright.compiler.contract import Contract, Errors, FrontPoint
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.last_token import keep_last_token
from tilewright.compiler.metric import read_metric
from tilewright.compiler.options import Options, check_options
from tilewright.compiler.samples import read_samples
from tilewright.compiler.stages import Stages
from tilewright.compiler.typical import check_typical
from tilewright.passes.memory.caps import Caps
from tilewright.passes.memory.plan import Plan
from tilewright.passes.memory.planner import MemoryPlanner
from tilewright.passes.pipelines import PIPELINES, Step, run_pipeline
from tilewright.passes.quantization import agreement
from tilewright.passes.quantization.planned import Planned, for_target, read_formats
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.selection.tables import solve_tables

Progress = Callable[[str, str], None]
"""Called with (stage, what is being done) as the compile goes on."""


@dataclass
class CompileResult:
    """What a compile made. `path` is None unless the artifact was written.

    `seconds` are the wall times of the stages; `steps` the passes that ran; `variants` the lowered
    programs, one a target; `plans` their memory plans. `contract`: how the error bound was kept, if
    samples were given to measure it on: the rounds, predicted and measured errors of every output.
    """

    graph: Graph
    path: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    variants: list[Lowered] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    tiers: list[dict[str, str]] = field(default_factory=list)
    bytes: int = 0
    contract: Contract | None = None


@dataclass
class _Built:
    """Code for all targets, to be written. at: where it was written to be measured."""

    variants: list[Variant]
    weights: list[PackedWeight]
    at: Path = Path()

    @property
    def predicted(self) -> Errors:
        """The worst of the targets, by output; empty where there was nothing to choose."""
        found = [s.predicted() for v in self.variants if (s := v.lowered.state.selection)]
        return tuple(max(errors) for errors in zip(*found, strict=True))


def compile_model(
    source: Any,
    output: str | Path | None,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    observer: Callable[[Step], None] | None = None,
) -> CompileResult:
    """Compile `source` (a path, bytes or ModelProto) and write the artifact to `output`.

    Raises `UserError` for the user's model, options or target, `CodegenError` and `VerifyError` for
    ours, `ArtifactWriteError` when the file cannot be written (nothing half-written stays).
    """
    options = options or Options()
    check_options(options)
    say = progress or _silent
    targets = resolve_targets(options.targets)
    done = Stages(options.stop_after)
    result = _import(source, options, done, say, observer)
    if done.stopped:
        return result
    if options.calibrate is not None:
        with contextlib.ExitStack() as stack:
            built = _keep_contract(source, _Workshop(result, targets, options, done, say, stack))
    else:
        made = _build(result, targets, options, done, say)
        if made is None:
            return result
        built = made
    if output is not None:
        with done.stage("package"):
            say("package", str(output))
            _package(result, built, output, options)
    return result


def compile_front(
    source: Any,
    folder: Path,
    options: Options,
    wanted: Sequence[tuple[float, str]],
    *,
    progress: Progress | None = None,
) -> list[FrontPoint]:
    """One artifact in `folder` for every bound and objective in `wanted`, from one calibration.

    A contract that cannot be kept is a point without an artifact. Raises as `compile_model`.
    """
    say, done = progress or _silent, Stages(None)
    options = replace(options, max_error=max(bound for bound, _ in wanted))
    check_options(options)
    targets = resolve_targets(options.targets)
    result = _import(source, options, done, say, None)
    found = []
    with contextlib.ExitStack() as stack:
        shop = _Workshop(result, targets, options, done, say, stack)
        made = _prepare(source, shop)
        for bound, objective in wanted:
            shop.options = replace(options, max_error=bound, optimize=objective)
            try:
                built, result.contract = agreement.agree(made.under(bound), shop.options, shop)
            except UserError as refusal:
                found.append(FrontPoint(bound, objective, refusal=refusal.found))
                continue
            path = folder / f"{bound:g}-{objective}.tw"
            _package(result, built, path, options)
            found.append(FrontPoint(bound, objective, path, result.bytes, result.contract))
    return found


def _import(
    source: Any,
    options: Options,
    done: Stages,
    say: Progress,
    observer: Callable[[Step], None] | None,
) -> CompileResult:
    """The stages before lowering."""
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
        result.graph = run_passes(graph, PIPELINES["default"], watch)
    return result


def compile_graph(
    graph: Graph,
    output: str | Path,
    targets: Sequence[str] = ("native",),
    jobs: int | None = None,
    known: Known | None = None,
) -> CompileResult:
    """Compile a graph as it is, without passes. known: kernels of other builds."""
    result, options = CompileResult(graph), Options(jobs=jobs)
    built = _build(result, resolve_targets(targets), options, Stages(None), _silent, None, known)
    assert built is not None
    _package(result, built, output, options)
    return result


def _silent(stage: str, what: str) -> None:
    """Progress that nobody asked for."""


def _build(
    result: CompileResult,
    targets: list[Target],
    options: Options,
    done: Stages,
    say: Progress,
    terms: Terms | None = None,
    known: Known | None = None,
) -> _Built | None:
    """The stages from lowering to code; None if one of them was the last asked for.

    known: kernels of earlier builds.
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

    images: list[bytes] = []
    with done.stage("codegen"):
        for lowered in result.variants:
            image, tiers = build(
                lowered,
                jobs=options.jobs,
                progress=lambda name: say("codegen", name),
                known=known,
            )
            images.append(image)
            result.tiers.append(tiers)
    if done.stopped:
        return None
    return _Built(list(map(Variant, result.variants, images, result.plans, result.tiers)), weights)


def _package(result: CompileResult, built: _Built, output: str | Path, options: Options) -> None:
    """Write the artifact."""
    path = Path(output)
    name = options.name or result.graph.name or path.stem
    variants, weights = built.variants, built.weights
    result.bytes = write_package(path, name, variants, weights, result.steps, result.contract)
    result.path = path


def _keep_contract(source: Any, shop: _Workshop) -> _Built:
    """Calibrate, then choose and build until the held-out samples keep the bound, measured against
    the model in ONNX Runtime or, where that cannot run it, against an exact artifact."""
    built, shop.result.contract = agreement.agree(_prepare(source, shop), shop.options, shop)
    shop.result.variants = [v.lowered for v in built.variants]
    return built


def _prepare(source: Any, shop: _Workshop) -> agreement.Agreement:
    graph, options = shop.result.graph, shop.options
    require_here(shop.targets)
    assert options.calibrate is not None
    with shop.done.stage("calibrate"):
        metric = read_metric(options.metric) if options.metric is not None else None
        samples = read_samples(options.calibrate, graph.inputs)
        shop.say("calibrate", f"{len(samples.calibration)} samples")
        there = None if options.last_token else original(source, graph.output_names)
        return agreement.prepare(graph, samples, options, shop, there, metric)


@dataclass
class _Workshop:
    """Compiles, runs and times for `passes.quantization.agreement`.

    stack: closes what is running, and removes the artifacts that were only measured.
    """

    result: CompileResult
    targets: list[Target]
    options: Options
    done: Stages
    say: Progress
    stack: contextlib.ExitStack
    known: Known = field(default_factory=Known)

    def __post_init__(self) -> None:
        self.stack.callback(self.known.close)

    def _folder(self) -> Path:
        made = tempfile.TemporaryDirectory(prefix="tilewright-")
        return Path(self.stack.enter_context(made))

    def native(self, graph: Graph) -> Run:
        path = self._folder() / "exact.tw"
        compile_graph(graph, path, jobs=self.options.jobs, known=self.known)
        return self.stack.enter_context(running(path))

    def operations(self) -> list[agreement.Operation]:
        found: list[agreement.Operation] = []
        graph = self.result.graph
        for target in self.targets:
            how = selecting(self.options, target, Planned(graph))
            lowered, _ = lower_for(graph, target, how=replace(how, max_size=None))
            found += (
                (q.source, q.constant, frozenset(c.numerics for c in q.candidates))
                for q in lowered.state.choices.questions
            )
        return found

    def build(self, terms: Terms) -> tuple[_Built, Errors]:
        options = self.options
        if terms.sites is not None:  # not a choice, but a probe
            options = replace(options, max_size=None, plan=None)
        built = _build(self.result, self.targets, options, self.done, self.say, terms, self.known)
        assert built is not None
        built.at = self._folder() / "trial.tw"
        write_package(built.at, "trial", built.variants, built.weights, [], trial=True)
        return built, built.predicted

    def deviations(self, built: _Built, expected: Run, samples: Sequence[Feeds]) -> Errors:
        self.say("measure", f"{len(samples)} samples")
        names = self.result.graph.output_names
        with self.done.stage("measure"):
            return worst_errors(built.at, self.targets, expected, samples, names)

    def worst(self, built: _Built, metric: Callable[[Run], float]) -> float:
        return worst_value(built.at, self.targets, metric)

    def chosen(self, built: _Built) -> dict[str, str]:
        chosen = operations(built.variants[0].lowered.state.selection)
        return {source: numerics for source, _, numerics in chosen}

    def times(self, builds: Sequence[_Built], samples: Sequence[Feeds]) -> list[Times]:
        self.say("time", "with and without weight formats")
        paths = [built.at for built in builds]
        return interleaved(paths, self.targets[0].name, samples, self.options.threads)


def run_passes(
    graph: Graph, names: Sequence[str], observer: Callable[[Step], None] | None = None
) -> Graph:
    """Run passes with the reference interpreter as the evaluator of constants."""

    def evaluate(op: Any, arrays: Any) -> Any:
        return reference.evaluate_op(op, arrays, {})

    return run_pipeline(graph, names, observer, evaluate)


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
