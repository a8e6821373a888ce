"""Everything a compile can be told, in one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.formats.sliced import WIDTHS

STAGES = ("import", "passes", "lower", "codegen", "package")
"""The stages of a compile, as `stop_after` names them."""

KV_CACHES = (*sorted(CACHES, reverse=True), "auto")
"""Formats of key-value caches, and the choice among them."""

OPTIMIZE = ("latency", "size")
"""What a choice under an error bound can make least."""


@dataclass(frozen=True)
class Options:
    """Options of one compile.

    targets: names of target rows, one variant each (`("native",)` is the best row that this machine
    can run). dims: ONNX dimension name -> "4", "1..8" or "1..". jobs: worker processes for code
    generation (None: one a core; 0: none, code is generated in this process). stop_after: name of
    the stage to stop after, or None. name: the model's name in the artifact (None: the file's
    stem).
    max_error: the relative L2 error that outputs may have (None: float32-faithful); from 1e-2 on,
    matmuls and convolutions with constant weights may multiply in bf16.
    max_memory: bytes that weights and intermediate tensors may take together at the upper bounds of
    all dimensions (the threads' scratch not counted). fast_memory: bytes that the tensors of a step
    lie in; others are copied to memory behind it. None: no cap.
    typical: sizes of dimensions that kernels are chosen for; those not named are taken at several.
    last_token: names of outputs of which only the last position is wanted, index -1 of the last
    axis but one; what computes the others is left away.
    threads: of the runs that kernels are chosen for; every artifact runs on any number.
    calibrate: samples to measure errors on (`samples.read_samples`): `max_error` is then measured
    on those held out, and formats of weights are chosen by it. keep: (pattern of ONNX node names,
    format or `f32`, `bf16x3`, `f16`, `bf16`) pairs, the first that matches decides. optimize:
    "latency" or "size". max_size: bytes of packed weights. metric: `module:function`; `max_error`
    then bounds by how much its value on the held-out samples grows (`metric.read_metric`). plan: a
    plan.json or an artifact whose `formats` operations get; what it does not list chooses.
    slices: bits of codes that the artifact can be read at, as (8, 4); every product then has them.
    Their errors are measured on samples; with `max_error` all have to keep it.
    fisher: .npz file of Fisher information of weights (`fisher.read_fisher`), by which low-rank
    formats then weigh what they keep; with calibrate.
    kv_cache: format of key-value caches, "int8" or "int4" (None: f32), or "auto": by its error.
    abft: check every product with constant weights against checksums of them, when it is run.
    tuned: choose by times that `tilewright tune` measured, where there are any, not predicted ones.
    """

    targets: tuple[str, ...] = ("native",)
    dims: Mapping[str, str] = field(default_factory=dict)
    jobs: int | None = None
    stop_after: str | None = None
    name: str | None = None
    max_error: float | None = None
    max_memory: int | None = None
    fast_memory: int | None = None
    typical: Mapping[str, int] = field(default_factory=dict)
    threads: int = 1
    calibrate: str | None = None
    keep: tuple[tuple[str, str], ...] = ()
    optimize: str = "latency"
    max_size: int | None = None
    metric: str | None = None
    plan: str | None = None
    tuned: bool = False
    last_token: tuple[str, ...] = ()
    kv_cache: str | None = None
    slices: tuple[int, ...] = ()
    abft: bool = False
    fisher: str | None = None

    @property
    def shrinks(self) -> bool:
        """Whether the size of the artifact is worth a little time of every run."""
        return self.max_size is not None or self.optimize == "size"


def check_options(options: Options) -> None:
    """Raise UserError for values that no compile can have, and for options that need others."""
    stage = options.stop_after
    if stage is not None and stage not in STAGES:
        hint = nearest(stage, STAGES)
        raise UserError(f"stage {stage!r}", "there is no such stage", hint=hint)
    bound = options.max_error
    if bound is not None and not 0 <= bound < inf:
        found = f"expected a number of 0 or more, found {bound}"
        raise UserError("max_error", "is no relative error", found, "give 0.01 for one percent")
    if options.optimize not in OPTIMIZE:
        hint = nearest(options.optimize, OPTIMIZE)
        raise UserError(f"optimize {options.optimize!r}", "there is no such objective", hint=hint)
    size = options.max_size
    if size is not None and size < 1:
        found = f"expected a number of bytes of 1 or more, found {size}"
        raise UserError("max_size", "is no size", found)
    _check_caches(options)
    if options.abft:
        _check_abft(options)
    if options.calibrate is None:
        _check_without_samples(options)
    elif bound is None and not options.slices:
        found = "calibration chooses formats by a bound"
        raise UserError("calibrate", "there is no error bound", found, "give --max-error 0.01")
    elif stage in ("lower", "codegen"):
        found = "formats are chosen by measuring whole artifacts"
        hint = "leave --calibrate away, or stop after passes"
        raise UserError("calibrate", f"cannot stop after {stage}", found, hint)
    if options.slices:
        _check_slices(options)
    if options.plan is not None and options.keep:
        hint = "edit the plan"
        raise UserError("keep", "the plan says which formats to take", hint=hint)


def _check_slices(options: Options) -> None:
    where = f"slices {','.join(map(str, options.slices))}"
    known = ", ".join(map(str, WIDTHS))
    if not set(options.slices) <= set(WIDTHS) or len(set(options.slices)) < len(options.slices):
        raise UserError(where, "are no slices", f"expected some of {known}, each once")
    if options.calibrate is None:
        found = "the error of every slice is measured on samples"
        raise UserError(where, "need calibration samples", found, "give --calibrate SAMPLES")
    for name, there in (
        ("plan", options.plan is not None),
        ("metric", options.metric is not None),
        ("optimize", options.optimize != "latency"),
        ("fisher", options.fisher is not None),
    ):
        if there:
            found = "all products have sliced codes, judged by the errors of outputs"
            raise UserError(name, "says nothing about slices", found, f"leave --{name} away")


def _check_abft(options: Options) -> None:
    for name, there in (
        ("max_error", options.max_error is not None),
        ("slices", bool(options.slices)),
        ("plan", options.plan is not None),
    ):
        if there:
            found = "checksums of floats are bounded by the rounding of f32"
            hint = f"leave --{name.replace('_', '-')} or --abft away"
            raise UserError(name, "lets products be rounded, which hides corruption", found, hint)


def _check_caches(options: Options) -> None:
    name = options.kv_cache
    if name is None:
        return
    if name not in KV_CACHES:
        hint = nearest(name, KV_CACHES)
        raise UserError(f"kv_cache {name!r}", "there is no such cache format", hint=hint)
    if name == "auto" and options.calibrate is None:
        found = "the format is chosen by the error that it makes on samples"
        hint = "give --calibrate SAMPLES, or --kv-cache int8 or int4"
        raise UserError("kv_cache auto", "needs calibration samples", found, hint)


def _check_without_samples(options: Options) -> None:
    given = {
        "keep": bool(options.keep),
        "metric": options.metric is not None,
        "optimize": options.optimize != "latency",
        "fisher": options.fisher is not None,
    }
    for name in (name for name, there in given.items() if there):
        found = "formats are chosen by errors that are measured on samples"
        raise UserError(name, "needs calibration samples", found, "give --calibrate SAMPLES")
