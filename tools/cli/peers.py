"""Other runtimes that models are compared with; each is optional and says why it is left out.

A peer is written NAME[:PRECISION][@ISA]: `openvino`, `openvino:bf16`, `openvino@avx2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.tools.bench.peer_process import PeerProcess
from tilewright.tools.bench.timing import Elapsed

Array = np.ndarray[Any, Any]
Runner = Callable[[Mapping[str, Array]], list[Array]]
"""Feeds by input name to the outputs in the model's order."""

PRECISIONS = {"onnxruntime": ("f32",), "openvino": ("f32", "bf16"), "torch": ("f32", "bf16")}
"""Peers and what they can be told to multiply in; f32 where nothing is said."""

PEERS = tuple(PRECISIONS)

ISAS = {
    "avx2": ("AVX2", "AVX2", "avx2"),
    "avx512": ("AVX512_CORE", "AVX512", "avx512"),
    "vnni": ("AVX512_CORE_VNNI", "AVX512_E1", "avx512"),
}
"""Instruction sets a peer can be kept to: the names of oneDNN, MKL (PyTorch's f32 products) and
PyTorch."""

LIMITS = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
"""Environment variables that take them."""

RESTRICTED = ("openvino", "torch")
"""Peers whose libraries take a limit from the environment when they are loaded."""


class PeerMissing(Exception):
    """A peer cannot take part; the text is the reason."""


@dataclass(frozen=True)
class Peer:
    """A runtime, the element type it multiplies in and the instruction set it is kept to."""

    name: str
    precision: str = "f32"
    isa: str = ""

    @property
    def label(self) -> str:
        precision = "" if self.precision == "f32" else f":{self.precision}"
        return f"{self.name}{precision}{'@' if self.isa else ''}{self.isa}"

    @property
    def environment(self) -> dict[str, str]:
        """What keeps it to its instruction set."""
        return dict(zip(LIMITS, ISAS[self.isa], strict=True)) if self.isa else {}

    @classmethod
    def parse(cls, text: str) -> Peer:
        """`openvino:bf16@avx512`. Raises ValueError that says what is known."""
        rest, at, isa = text.partition("@")
        name, colon, precision = rest.partition(":")
        if name not in PEERS:
            raise ValueError(f"{text!r} is not one of {', '.join(PEERS)}, none")
        if colon and precision not in PRECISIONS[name]:
            known = ", ".join(PRECISIONS[name])
            raise ValueError(f"{text!r}: {name} multiplies in {known}")
        if at and (isa not in ISAS or name not in RESTRICTED):
            known = ", ".join(ISAS) if name in RESTRICTED else "nothing"
            raise ValueError(f"{text!r}: {name} can be kept to {known}")
        return cls(name, precision or "f32", isa)


@dataclass(frozen=True)
class Opened:
    """A peer with a model: its outputs for the feeds, and one timed run with them."""

    outputs: list[Array]
    run: Callable[[], object]


def open_peer(
    peer: Peer,
    model: Path,
    threads: int,
    outputs: Sequence[str],
    feeds: Mapping[str, Array],
    stack: ExitStack,
) -> Opened:
    """The model in another runtime on the CPU; ``stack`` ends what has to be ended.

    Raises PeerMissing with the reason why the peer cannot take part.
    """
    if find_spec(peer.name) is None:
        raise PeerMissing(f"{peer.name} is not installed; try: pip install {peer.name}")
    if peer.name == "torch":
        raise PeerMissing("torch reads no ONNX files; try: --linear")
    opens = partial(_open, peer, model, threads, tuple(outputs))
    try:
        if peer.isa:
            process = PeerProcess(opens, peer.environment)
            stack.callback(process.close)
        else:
            runner = opens()
    # Peers raise subclasses of RuntimeError for models that they do not support.
    except (RuntimeError, ValueError, TypeError) as refusal:
        raise PeerMissing(f"{peer.name} refuses the model: {_first_line(refusal)}") from None
    try:
        if peer.isa:
            return Opened(process.set(feeds), lambda: Elapsed(process.run()))
        return Opened(runner(feeds), partial(runner, feeds))
    except (RuntimeError, ValueError, TypeError) as refusal:
        raise PeerMissing(f"{peer.name} fails on this input: {_first_line(refusal)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _open(peer: Peer, model: Path, threads: int, outputs: Sequence[str]) -> Runner:
    if peer.name == "onnxruntime":
        return _onnxruntime(model, threads, outputs)
    return _openvino(model, threads, outputs, peer.precision)


def _onnxruntime(model: Path, threads: int, outputs: Sequence[str]) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings about a model are not our user's business
    session = _session(onnxruntime, model, options)

    def run(feeds: Mapping[str, Array]) -> list[Array]:
        found: list[Array] = session.run(list(outputs), dict(feeds))
        return found

    return run


def _session(onnxruntime: Any, model: Path, options: Any) -> Any:
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.NotImplemented, errors.InvalidGraph) as refusal:
        raise RuntimeError(str(refusal)) from None


def _openvino(model: Path, threads: int, outputs: Sequence[str], precision: str) -> Runner:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # It would take bfloat16 on CPUs that have it.
        "INFERENCE_PRECISION_HINT": precision,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(model)), "CPU", settings)
    infer = request.create_infer_request()

    def run(feeds: Mapping[str, Array]) -> list[Array]:
        results = infer.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return [np.asarray(results[name]) for name in outputs]

    return run
