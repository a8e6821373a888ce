"""A whole compile, read top to bottom: the only module that joins front end, passes and backends.

The stages that `--stop-after` takes: `import`, `passes`, `lower`, `codegen`, `package`.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tilewright.backends import reference
from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.llvm.backend import Lowered, build, prepare, share_weights
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.tables import Objective
from tilewright.backends.target import Target, UnknownTargetError, detect, parse
from tilewright.backends.trial import Run, deviations, original, running
from tilewright.backends.tuning.cache import Cache, Measurements
from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.last_token import keep_last_token
from tilewright.compiler.options import Options
from tilewright.compiler.samples import Samples, read_samples
from tilewright.passes.memory.caps import Caps
from tilewright.passes.memory.plan import Plan
from tilewright.passes.memory.planner import MemoryPlanner
from tilewright.passes.pipelines import PIPELINES, Step, run_pipeline
from tilewright.passes.quantization.calibration import GAIN_SAMPLES, SMALL, calibrate
from tilewright.passes.quantization.negotiate import Broken, Kept, negotiate
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.selection.problem import InfeasibleError
from tilewright.passes.selection.tables import solve_tables

STAGES = ("import", "passes", "lower", "codegen", "package")

OBJECTIVES = {"latency": Objective(), "size": Objective(time=1e-2, size=1.0)}
"""What `--optimize` minimizes; the other quantity decides among equals."""

Progress = Callable[[str, str], None]
"""Called with (stage, what is being done) as the compile goes on."""


@dataclass
class CompileResult:
    """What a compile made. `path` is None unless the artifact was written.

    `seconds` are the wall times of the stages; `steps` the passes that ran; `variants` the lowered
    programs, one a target; `plans` their memory plans. `contract`: how the error bound was kept, if
    it was measured.
    """

    graph: Graph
    path: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    variants: list[Lowered] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    tiers: list[dict[str, str]] = field(default_factory=list)
    bytes: int = 0
    contract: Kept[Path] | None = None


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
    if options.stop_after is not None and options.stop_after not in STAGES:
        hint = nearest(options.stop_after, STAGES)
        raise UserError(f"stage {options.stop_after!r}", "there is no such stage", hint=hint)
    bound = options.max_error
    if bound is not None and not 0 <= bound < math.inf:
        found = f"expected a number of 0 or more, found {bound}"
        raise UserError("max_error", "is no relative error", found, "give 0.01 for one percent")
    say = progress or (lambda stage, what: None)
    targets = resolve_targets(options.targets)
    done = _Stages(options.stop_after)

    with done.stage("import"):
        say("import", str(source) if isinstance(source, str | Path) else "model")
        graph = keep_last_token(load_onnx(source, dict(options.dims)), options.last_token)
    result = CompileResult(graph, seconds=done.seconds)
    if done.stopped:
        return result

    with done.stage("passes"):

        def watch(step: Step) -> None:
            result.steps.append(step)
            say("passes", step.name)
            if observer is not None:
                observer(step)

        result.graph = graph = run_passes(graph, PIPELINES["default"], watch)
    if done.stopped:
        return result

    if options.calibrate is not None:
        _keep_contract(source, result, targets, output, options, done, say)
    else:
        _build(result, targets, output, options, done, say)
    return result


def compile_graph(
    graph: Graph,
    output: str | Path,
    targets: Sequence[str] = ("native",),
    jobs: int | None = None,
) -> CompileResult:
    """Compile a graph as it is, without passes; for tests and for looking at single steps."""
    result = CompileResult(graph)
    done = _Stages(None)
    _build(
        result, resolve_targets(targets), output, Options(jobs=jobs), done, lambda stage, what: None
    )
    return result


def _build(
    result: CompileResult,
    targets: list[Target],
    output: str | Path | None,
    options: Options,
    done: _Stages,
    say: Progress,
    terms: Terms | None = None,
) -> None:
    """The stages after the passes: lower, generate code, write the artifact."""
    graph = result.graph
    for made in (result.variants, result.plans, result.tiers):
        made.clear()
    caps = Caps(options.max_memory, options.fast_memory)
    check_typical(graph, options.typical)
    with done.stage("lower"):
        for target in targets:
            say("lower", target.name)
            how = selecting(options, target, terms)
            lowered, plan = lower_for(graph, target, options.max_error, caps, how)
            result.variants.append(lowered)
            result.plans.append(plan)
        weights = share_weights(result.variants)
    if done.stopped:
        return

    images: list[bytes] = []
    with done.stage("codegen"):
        for lowered in result.variants:
            image, tiers = build(
                lowered, jobs=options.jobs, progress=lambda name: say("codegen", name)
            )
            images.append(image)
            result.tiers.append(tiers)
    if done.stopped or output is None:
        return

    with done.stage("package"):
        say("package", str(output))
        variants = [
            Variant(lowered, image, plan, tiers)
            for lowered, image, plan, tiers in zip(
                result.variants, images, result.plans, result.tiers, strict=True
            )
        ]
        result.path = Path(output)
        name = options.name or graph.name or result.path.stem
        result.bytes = write_package(result.path, name, variants, weights, result.steps)


def _keep_contract(
    source: Any,
    result: CompileResult,
    targets: list[Target],
    output: str | Path | None,
    options: Options,
    done: _Stages,
    say: Progress,
) -> None:
    """Calibrate, then choose and build until the held-out samples keep the bound.

    The artifact is measured as it is, against the model in ONNX Runtime or, where that cannot run
    it, against an exact artifact.
    """
    graph, bound = result.graph, options.max_error
    if bound is None:
        found = "calibration chooses formats by a bound"
        raise UserError("calibrate", "there is no error bound", found, "give --max-error 0.01")
    assert options.calibrate is not None
    samples = read_samples(options.calibrate, graph.inputs)
    names = graph.output_names
    with (
        tempfile.TemporaryDirectory(prefix="tilewright-") as folder,
        contextlib.ExitStack() as stack,
    ):
        made: list[Path] = []

        def native(other: Graph) -> Run:
            made.append(Path(folder) / f"{len(made)}.tw")
            compile_graph(other, made[-1], jobs=options.jobs)
            return stack.enter_context(running(made[-1]))

        with done.stage("calibrate"):
            say("calibrate", f"{len(samples.calibration)} samples")
            calibration = calibrate(graph, samples.calibration, native)
            terms = Terms(calibration, bound, keep=options.keep)
            terms = replace(terms, rest=_rest(terms, samples, options, Path(folder), native))
            expected = None if options.last_token else original(source, names)
            expected = expected or native(graph)
        trial = Path(folder) / "trial.tw"

        def build_under(terms: Terms) -> Path:
            _build(result, targets, trial, options, done, say, terms)
            return trial

        def measure(path: Path) -> tuple[float, ...]:
            say("measure", f"{len(samples.held_out)} samples held out")
            with done.stage("measure"):
                worst = [0.0] * len(names)
                for target in targets:
                    with running(path, target.name) as run:
                        found = deviations(run, expected, samples.held_out, names)
                    worst = [max(w, d.error) for w, d in zip(worst, found, strict=True)]
            return tuple(worst)

        try:
            result.contract = negotiate(terms, build_under, measure)
        except InfeasibleError as tight:
            least = math.sqrt(tight.least) * bound
            found = f"the choice of least error is predicted to make {least:.2g}"
            raise UserError(f"max-error {bound:g}", "cannot be kept", found) from None
        except Broken as broken:
            least = min(max(r.errors) for r in broken.rounds)
            found = (
                f"the best of {len(broken.rounds)} choices makes {least:.3g} on held-out samples"
            )
            raise UserError(f"max-error {bound:g}", "cannot be kept", found) from None
        if output is not None:
            result.path = Path(output)
            beside = result.path.with_name(f".{result.path.name}.part")
            shutil.copyfile(trial, beside)
            beside.replace(result.path)


def _rest(
    terms: Terms, samples: Samples, options: Options, folder: Path, native: Callable[[Graph], Run]
) -> dict[str, tuple[float, ...]]:
    """What operations that were not calibrated make together in the numerics that they could run
    in, by running the graph with only them in these."""
    graph, (target,) = terms.calibration.graph, resolve_targets(["native"])
    silent = dict.fromkeys(("f16", "bf16"), (0.0,) * len(graph.outputs))
    probe = replace(terms, bound=math.inf, keep=(), rest=silent, sites="f32")
    lowered, _ = lower_for(graph, target, how=selecting(options, target, probe))
    could = {
        c.numerics
        for q in lowered.state.choices.questions
        if terms.squares(q.source, q.constant, "f32") is None
        for c in q.candidates
    }
    tried = samples.calibration[:GAIN_SAMPLES]
    exact: Run | None = None
    found: dict[str, tuple[float, ...]] = {}
    for numerics in sorted(could - SMALL.keys()):
        exact = exact or native(graph)
        only = CompileResult(graph)
        alone = replace(probe, others_as=numerics)
        path = folder / f"{numerics}.tw"
        _build(only, [target], path, options, _Stages(None), lambda stage, what: None, alone)
        with running(path) as run:
            rows = deviations(run, exact, tried, graph.output_names)
        found[numerics] = tuple(row.error**2 for row in rows)
    return found


def resolve_targets(names: Sequence[str]) -> list[Target]:
    """The target rows of `names`; `native` is the best one that this machine can run."""
    found: list[Target] = []
    for name in names:
        if name == "native":
            found.append(detect())
            continue
        try:
            found.extend(parse(name))
        except UnknownTargetError as error:
            raise UserError(f"--target {name}", str(error)) from None
    return list(dict.fromkeys(found))


def run_passes(
    graph: Graph, names: Sequence[str], observer: Callable[[Step], None] | None = None
) -> Graph:
    """Run passes with the reference interpreter as the evaluator of constants."""

    def evaluate(op: Any, arrays: Any) -> Any:
        return reference.evaluate_op(op, arrays, {})

    return run_pipeline(graph, names, observer, evaluate)


def selecting(options: Options, target: Target, terms: Terms | None = None) -> Selecting:
    """How a compile chooses among kernels."""
    measured = Measurements(Cache(), target) if options.tuned else None
    return Selecting(
        options.typical,
        options.max_memory,
        solve_tables,
        measured,
        threads=options.threads,
        offers=terms,
        objective=OBJECTIVES[options.optimize] if terms is not None else None,
        max_size=options.max_size,
    )


def check_typical(graph: Graph, typical: Mapping[str, int]) -> None:
    """Raise UserError for a typical size of no dimension, or outside of its bounds."""
    known = {name: s for name, s in graph.symbols.items() if s.source[0] == "shape"}
    for name, size in typical.items():
        symbol = known.get(name)
        if symbol is None:
            hint = nearest(name, known) if known else "this model has no symbolic dimensions"
            raise UserError(f"typical {name}={size}", "there is no such dimension", hint=hint)
        if size < symbol.low or (symbol.high is not None and size > symbol.high):
            bounds = f"{symbol.low}..{'' if symbol.high is None else symbol.high}"
            found = f"{name} is {bounds}"
            raise UserError(f"typical {name}={size}", "the dimension does not allow it", found)


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


class _Stages:
    """Times the stages and remembers whether the last one asked for was done."""

    def __init__(self, stop_after: str | None) -> None:
        self.stop_after = stop_after
        self.seconds: dict[str, float] = {}
        self.stopped = False

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.stopped = name == self.stop_after
