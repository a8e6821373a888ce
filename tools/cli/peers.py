"""Other runtimes that models are compared with; each is optional and says why it is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Runner = Callable[[Mapping[str, Array]], list[Array]]
"""Feeds by input name to the outputs in the model's order."""

PEERS = ("onnxruntime", "openvino")


class PeerMissing(Exception):
    """A peer cannot take part; the text is the reason."""


def open_peer(name: str, model: Path, threads: int, outputs: Sequence[str]) -> Runner:
    """The model in another runtime on the CPU in float32. Raises PeerMissing with the reason."""
    if find_spec(name) is None:
        raise PeerMissing(f"{name} is not installed; try: pip install {name}")
    try:
        if name == "onnxruntime":
            return _onnxruntime(model, threads, outputs)
        return _openvino(model, threads, outputs)
    # Both raise subclasses of RuntimeError for models that they do not support.
    except (RuntimeError, ValueError, TypeError) as refusal:
        first = str(refusal).strip().partition("\n")[0]
        raise PeerMissing(f"{name} refuses the model: {first}") from None


def checked(name: str, runner: Runner, feeds: Mapping[str, Array]) -> list[Array]:
    """One run of a peer. Raises PeerMissing when it fails."""
    try:
        return runner(feeds)
    except (RuntimeError, ValueError, TypeError) as refusal:
        first = str(refusal).strip().partition("\n")[0]
        raise PeerMissing(f"{name} fails on this input: {first}") from None


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


def _openvino(model: Path, threads: int, outputs: Sequence[str]) -> Runner:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # It would take bfloat16 on CPUs that have it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(model)), "CPU", settings)
    infer = request.create_infer_request()

    def run(feeds: Mapping[str, Array]) -> list[Array]:
        results = infer.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return [np.asarray(results[name]) for name in outputs]

    return run
