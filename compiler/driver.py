"""A whole compile, read top to bottom: the only module that joins front end, passes and backends.

The stages that `--stop-after` takes: `import`, `passes`, `lower`, `codegen`, `package`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilewright.backends import reference
from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.llvm.backend import Lowered, build, prepare, share_weights
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.target import Target, UnknownTargetError, detect, parse
from tilewright.backends.tuning.cache import Cache, Measurements
from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.last_token import keep_last_token
from tilewright.compiler.options import Options
from tilewright.passes.memory.caps import Caps
from tilewright.passes.memory.plan import Plan
from tilewright.passes.memory.planner import MemoryPlanner
from tilewright.passes.pipelines import PIPELINES, Step, run_pipeline
from tilewright.passes.selection.tables import solve_tables

STAGES = ("import", "passes", "lower", "codegen", "package")

Progress = Callable[[str, str], None]
"""Called with (stage, what is being done) as the compile goes on."""


@dataclass
class CompileResult:
    """What a compile made. `path` is None unless the artifact was written.

    `seconds` are the wall times of the stages; `steps` the passes that ran; `variants` the lowered
    programs, one a target; `plans` their memory plans.
    """

    graph: Graph
    path: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    variants: list[Lowered] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    tiers: list[dict[str, str]] = field(default_factory=list)
    bytes: int = 0


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
) -> None:
    """The stages after the passes: lower, generate code, write the artifact."""
    graph = result.graph
    caps = Caps(options.max_memory, options.fast_memory)
    check_typical(graph, options.typical)
    with done.stage("lower"):
        for target in targets:
            say("lower", target.name)
            how = selecting(options, target)
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


def selecting(options: Options, target: Target) -> Selecting:
    """How a compile chooses among kernels."""
    measured = Measurements(Cache(), target) if options.tuned else None
    return Selecting(
        options.typical, options.max_memory, solve_tables, measured, threads=options.threads
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
        self.seconds[name] = time.perf_counter() - start
        self.stopped = name == self.stop_after
