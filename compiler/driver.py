"""Whole compiles, read top to bottom: with `driver_stages` the only modules that join front end,
passes and backends."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf, sqrt
from pathlib import Path
from typing import Any

from tilewright.backends.artifact.error_report import operations
from tilewright.backends.artifact.package import write_package
from tilewright.backends.cached_runs import stored
from tilewright.backends.cuda.here import why_not_here
from tilewright.backends.emulation import emulated
from tilewright.backends.llvm.codegen import Known
from tilewright.backends.llvm.lowering.lower import questions
from tilewright.backends.target import Target, resolve_targets
from tilewright.backends.trial import (
    Feeds,
    Run,
    Times,
    deviations,
    interleaved,
    original,
    require_here,
    running,
    worst_errors,
    worst_value,
)
from tilewright.compiler.contract import Errors, FrontPoint
from tilewright.compiler.driver_stages import (
    Built,
    CompileResult,
    Progress,
    build_code,
    compile_graph,
    import_model,
    join_slices,
    lower_for,
    package,
    rewriting_prices,
    run_passes,
    silent,
    with_caches,
    with_code,
)
from tilewright.compiler.errors import UserError
from tilewright.compiler.fisher import read_fisher
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.metric import read_metric
from tilewright.compiler.options import Options, check_options
from tilewright.compiler.samples import read_samples
from tilewright.compiler.stages import Stages
from tilewright.passes.pipelines import PIPELINES, Step
from tilewright.passes.prices import Prices
from tilewright.passes.quantization import agreement, slices
from tilewright.passes.quantization.cache_choice import choose_caches
from tilewright.passes.quantization.planned import Formats, Planned
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.shrinking import contract as shrinking
from tilewright.runtime.caches import cache_infos

__all__ = [
    "CompileResult",
    "compile_front",
    "compile_graph",
    "compile_model",
    "lower_for",
    "measure_plans",
    "run_passes",
]


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
    if options.slices and options.max_error is None:
        options = replace(options, max_error=inf)
    say = progress or silent
    targets = resolve_targets(options.targets)
    done = Stages(options.stop_after)
    result = import_model(source, options, done, say, observer)
    if done.stopped:
        return result
    if options.calibrate is not None:
        with contextlib.ExitStack() as stack:
            built = _keep_contract(source, _Workshop(result, targets, options, done, say, stack))
    else:
        made = build_code(result, targets, options, done, say)
        if made is None:
            return result
        built = made
    if output is not None:
        with done.stage("package"):
            say("package", str(output))
            package(result, built, output, options)
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
    say, done = progress or silent, Stages(None)
    options = replace(options, max_error=max(bound for bound, _ in wanted))
    check_options(options)
    targets = resolve_targets(options.targets)
    result = import_model(source, options, done, say, None)
    found = []
    with contextlib.ExitStack() as stack:
        shop = _Workshop(result, targets, options, done, say, stack)
        made = _prepare(source, shop)
        for bound, objective in wanted:
            shop.options = replace(options, max_error=bound, optimize=objective)
            try:
                built = shop.agreed(made.under(bound))
            except UserError as refusal:
                found.append(FrontPoint(bound, objective, refusal=refusal.found))
                continue
            path = folder / f"{bound:g}-{objective}.tw"
            package(result, built, path, options)
            found.append(FrontPoint(bound, objective, path, result.bytes, result.contract))
    return found


def measure_plans(
    source: Any,
    options: Options,
    draw: Callable[[agreement.Agreement, Sequence[agreement.Operation]], Iterator[Formats]],
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[Formats, Errors, Errors]]:
    """Of plans that `draw` gives from one calibration: predicted and measured errors by output.

    draw: called with the calibrated terms and what every operation could run in. Errors are
    relative L2 on the held-out samples. Raises as `compile_model`.
    """
    check_options(options)
    say, done = progress or silent, Stages(None)
    result = import_model(source, options, done, say, None)
    with contextlib.ExitStack() as stack:
        targets = resolve_targets(options.targets)
        shop = _Workshop(result, targets, options, done, say, stack)
        made = _prepare(source, shop)
        for plan in draw(made, shop.operations()):
            built, predicted = shop.build(replace(made.terms, bound=inf, fixed=plan))
            yield plan, predicted, shop.deviations(built, made.expected, made.samples.held_out)
            built.at.unlink(missing_ok=True)


def _keep_contract(source: Any, shop: _Workshop) -> Built:
    """Calibrate, then choose and build until the held-out samples keep the bound, measured against
    the model in ONNX Runtime or, where that cannot run it, against an exact artifact."""
    made = _prepare(source, shop)
    if shop.options.slices:
        builds, shop.result.slices = slices.agree(made, shop.options, shop)
        return join_slices(shop.result, builds, shop.options, shop.done, shop.say, shop.known)
    return shop.agreed(made)


def _prepare(source: Any, shop: _Workshop) -> agreement.Agreement:
    graph, options = shop.result.graph, shop.options
    require_here(shop.targets)
    assert options.calibrate is not None
    with shop.done.stage("calibrate"):
        metric = read_metric(options.metric) if options.metric is not None else None
        samples = read_samples(options.calibrate, graph.inputs)
        shop.say("calibrate", f"{len(samples.calibration)} samples")
        there = None if options.last_token else original(source, graph.output_names)
        fisher = None
        if options.fisher is not None:
            fisher = read_fisher(options.fisher, shop.result.steps[0].before)
        made = agreement.prepare(graph, samples, options, shop, there, metric, fisher)
        if options.kv_cache is None:
            return made
        return choose_caches(made, options.kv_cache, shop.store_caches, shop)


@dataclass
class _Workshop:
    """Compiles, runs and times for `passes.quantization.agreement`.

    stack: closes what is running, and removes the artifacts that were only measured. Builds for
    GPUs that this machine does not have are run in numpy; their code is generated in the end.
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
        self._absent = [t for t in self.targets if t.gpu and why_not_here(t)]
        self._here = [t for t in self.targets if t not in self._absent]
        self._passes = len(self.result.steps)

    @property
    def emulated(self) -> tuple[str, ...]:
        """Names of targets whose builds are run in numpy."""
        return tuple(target.name for target in self._absent)

    def _folder(self) -> Path:
        made = tempfile.TemporaryDirectory(prefix="tilewright-")
        return Path(self.stack.enter_context(made))

    @property
    def recognized(self) -> Graph:
        """The graph before anything of it was fused."""
        assert self.result.recognized is not None
        return self.result.recognized

    @property
    def prices(self) -> Prices:
        """What products take on the targets."""
        return rewriting_prices(self.recognized, self.options)

    def agreed(self, made: agreement.Agreement) -> Built:
        """The build that keeps the contract, with what was made of its dimensions on record."""
        built, self.result.contract, steps = shrinking.agree(made, self.options, self)
        self.result.steps[self._passes :] = steps
        return self.finished(built)

    @contextlib.contextmanager
    def narrower(self, recognized: Graph) -> Iterator[Graph]:
        """Inside of the block another graph is built; gives it as it is calibrated."""
        result = self.result
        before = result.recognized, result.exact, result.graph
        fuse = PIPELINES["fuse-checked" if self.options.abft else "fuse"]
        fused = run_passes(recognized, fuse)
        result.recognized, result.exact, result.graph = recognized, fused, fused
        try:
            yield fused
        finally:
            result.recognized, result.exact, result.graph = before

    def weight_bytes(self, built: Built) -> int:
        """Of all packed weights."""
        return sum(weight.bytes for weight in built.weights)

    def native(self, graph: Graph) -> Run:
        path = self._folder() / "exact.tw"
        compile_graph(graph, path, jobs=self.options.jobs, known=self.known)
        return self.stack.enter_context(running(path))

    def operations(self) -> list[agreement.Operation]:
        found: list[agreement.Operation] = []
        graph = self.result.graph
        for target in self.targets:
            found += (
                (*part, frozenset(c.numerics for c in q.candidates))
                for q in questions(graph, target, Planned(graph))
                for part in q.parts
                if len(q.parts) == 1
            )
        return found

    def build(self, terms: Terms) -> tuple[Built, Errors]:
        options = self.options
        if terms.sites is not None:  # not a choice, but a probe
            options = replace(options, max_size=None, plan=None)
        built = build_code(
            self.result,
            self.targets,
            options,
            self.done,
            self.say,
            terms,
            self.known,
            self.emulated,
        )
        assert built is not None
        built.at = self._folder() / "trial.tw"
        if self._here:
            ready = [v for v in built.variants if v.code]
            write_package(built.at, "trial", ready, built.weights, [], trial=True)
        for variant in built.variants:
            if not variant.code:
                chosen = operations(variant.lowered.state.selection)
                low = variant.lowered.state
                made = emulated(low.graph, chosen, terms.stored, low.handing.halves)
                built.emulations.append(made)
        predicted = built.predicted
        if terms.caches:
            squares = zip(predicted, terms.caches, strict=True)
            predicted = tuple(sqrt(error**2 + caches) for error, caches in squares)
        return built, predicted

    def store_caches(self, name: str) -> tuple[str, ...]:
        """Build with key-value caches in a format from now on, "" for f32; names of outputs that
        are caches."""
        exact = self.result.exact
        assert exact is not None
        self.result.graph = exact
        if not name:
            return ()
        self.result.graph, caches = with_caches(self.result, name, abft=self.options.abft)
        return tuple(cache.present for cache in caches)

    def deviations(self, built: Built, expected: Run, samples: Sequence[Feeds]) -> Errors:
        self.say("measure", f"{len(samples)} samples")
        exact = self.result.exact
        assert exact is not None
        names = exact.output_names
        with self.done.stage("measure"):
            rows = []
            if self._here:
                rows.append(worst_errors(built.at, self._here, expected, samples, names))
            for run in built.emulations:
                caches = stored(cache_infos(self.result.graph.metadata))
                found = deviations(run, expected, samples, names, caches)
                rows.append(tuple(d.error for d in found))
            return tuple(max(errors) for errors in zip(*rows, strict=True))

    def worst(self, built: Built, metric: Callable[[Run], float]) -> float:
        values = [metric(run) for run in built.emulations]
        return max([worst_value(built.at, self._here, metric)] * bool(self._here) + values)

    def finished(self, built: Built) -> Built:
        """With the code of all targets, of what was only run in numpy too."""
        return with_code(self.result, built, self.options, self.done, self.say, self.known)

    def chosen(self, built: Built) -> dict[str, str]:
        chosen = operations(built.variants[0].lowered.state.selection)
        return {source: numerics for source, _, numerics in chosen}

    def times(self, builds: Sequence[Built], samples: Sequence[Feeds]) -> list[Times]:
        self.say("time", f"{len(builds)} choices")
        paths = [built.at for built in builds]
        return interleaved(paths, self.targets[0].name, samples, self.options.threads)
