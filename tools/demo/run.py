"""`tilewright demo`: compile the shipped model, run it, and compare it with ONNX Runtime."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import tilewright
from tilewright.tools.bench import Timing, interleave
from tilewright.tools.demo import model_path, network, test_split

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

OURS, PEER = "tilewright", "onnxruntime"
TIME_BUDGET_S = 2.0


def run_demo(
    console: Console, threads: int = 1, json: bool = False, target: str = "native"
) -> dict[str, Any]:
    """Compile the digit classifier for `target`, run its held-out images, and give the findings.

    Prints a table to `console` unless `json` is set, where the caller prints the returned value.
    ONNX Runtime is measured beside it where it is installed. Error is relative L2 over all logits,
    against the same network in float64; `error_to_peer` is against ONNX Runtime. Times are in
    milliseconds, from one interleaved run, for `threads` threads of both.
    """
    images, labels = test_split()
    with tempfile.TemporaryDirectory(prefix="tilewright-demo-") as folder:
        artifact = Path(folder) / "digits.tw"
        begin = time.perf_counter()
        tilewright.compile(model_path(), artifact, target=target)
        compile_s = time.perf_counter() - begin
        session = tilewright.load(artifact, threads=threads)
        runs: dict[str, Run] = {OURS: lambda x: session.run(["logits"], {"image": x})[0]}
        if find_spec(PEER) is not None:
            runs[PEER] = peer(threads)
        report: dict[str, Any] = {
            "images": len(images),
            "target": target,
            "threads": threads,
            "compile_s": compile_s,
            "model_bytes": model_path().stat().st_size,
            "artifact_bytes": artifact.stat().st_size,
            "results": compare(runs, images, labels),
        }
    if not json:
        show(console, report)
    return report


def peer(threads: int) -> Run:
    """The model in ONNX Runtime on the CPU, with the same number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(model_path()), options, providers=["CPUExecutionProvider"]
    )

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"image": images})[0]
        return logits

    return run


def compare(
    runs: Mapping[str, Run], images: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Accuracy, error and interleaved times of every contender, keyed by its name."""
    logits = {name: run(images) for name, run in runs.items()}
    exact = float64_logits(images)
    single = timed(runs, images[:1])
    whole = timed(runs, images)
    results: dict[str, dict[str, Any]] = {}
    for name, found in logits.items():
        results[name] = {
            "accuracy": float((found.argmax(axis=1) == labels).mean()),
            "error": relative_l2(found, exact),
            "batch_1": asdict(single[name]),
            f"batch_{len(images)}": asdict(whole[name]),
        }
        if name != PEER and PEER in logits:
            results[name]["error_to_peer"] = relative_l2(found, logits[PEER])
    return results


def timed(runs: Mapping[str, Run], images: NDArray[np.float32]) -> dict[str, Timing]:
    """Time one batch size; ratios are to ONNX Runtime where it takes part."""
    order = sorted(runs, key=lambda name: name != PEER)
    calls = {name: partial(runs[name], images) for name in order}
    return interleave(calls, rounds=500, budget_s=TIME_BUDGET_S)


def float64_logits(images: NDArray[np.float32]) -> network.Array:
    """The model's weights through the trainer's own network in float64: an independent oracle."""
    import onnx
    from onnx import numpy_helper

    initializers = onnx.load(model_path()).graph.initializer
    weights = {w.name: numpy_helper.to_array(w).astype(np.float64) for w in initializers}
    return network.forward(weights, images.astype(np.float64)).logits


def relative_l2(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """`||found - expected|| / ||expected||` over all elements, computed in float64."""
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact))


def show(console: Console, report: Mapping[str, Any]) -> None:
    """Print the findings as one table, a column a contender."""
    results = report["results"]
    table = Table(title=f"{report['images']} held-out images of digits, float32")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")

    def add(label: str, form: str, *path: str) -> None:
        """Add a row of what stands at `path` in each result; blank where a contender has none."""
        cells = []
        for row in results.values():
            value: Any = row
            for key in path:
                value = value.get(key, "")
            cells.append(format(value, form) if value != "" else "")
        table.add_row(label, *cells)

    beside = PEER in results
    add("accuracy", ".2%", "accuracy")
    add("relative L2 error to float64", ".1e", "error")
    if beside:
        add(f"relative L2 error to {PEER}", ".1e", "error_to_peer")
    for images in (1, report["images"]):
        table.add_section()
        add(f"batch {images}: median ms", ".3f", f"batch_{images}", "median_ms")
        add(f"batch {images}: minimum ms", ".3f", f"batch_{images}", "min_ms")
        if beside:
            add(f"batch {images}: time / {PEER}", ".2f", f"batch_{images}", "ratio")
    console.print(table)
    console.print(
        f"Target {report['target']}, {report['threads']} thread(s), compiled in "
        f"{report['compile_s']:.1f} s. Model {report['model_bytes']:,} bytes, "
        f"artifact {report['artifact_bytes']:,} bytes."
    )
