"""Everything a compile can be told, in one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    "latency" or "size". max_size: bytes of packed weights.
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
    tuned: bool = False
    last_token: tuple[str, ...] = ()
