"""The ONNX backend tests (onnx.backend.test): every case, each in a worker with a time limit.

    python -m tilewright.tools.conformance --stage reference
    python -m tilewright.tools.conformance --stage compiled --only attention
    python -m tilewright.tools.conformance --stage cuda --kind node --jobs 16

The stage `reference` imports a model and interprets it with numpy. `symbolic` first names the
dimensions above 1 of every input, `optimized` interprets what the compiler's passes make of it, and
`compiled` runs the artifact. `cuda` runs one on the GPU of this machine: no other can repeat it.
The outcome of every case is kept in tests/conformance/table.json; a run in the repository root
rewrites its stage there.
Exit status: 0 when every case passes or is refused with a message, 1 otherwise.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import queue
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler.errors import UserError

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
STAGES = ("reference", "symbolic", "optimized", "compiled")
CUDA = "cuda"
TABLE = Path("tests/conformance/table.json")  # from the repository root
LIMIT_SECONDS = 20.0
# One unit in the last place of float16, where the expected values were rounded after every step.
LOOSER_RTOL = dict.fromkeys(
    ("test_attention_4d_causal_fp16", "test_attention_4d_causal_fp16_expanded"), 2e-3
)
# Cases whose expected values are rounding noise around zero that only the same FFT would repeat.
LOOSER_ATOL = {"test_dft_inverse_opset19": 1e-6, "test_dft_inverse": 1e-6}


@dataclass(frozen=True)
class Case:
    """One backend test: a model and data sets of (inputs, expected outputs), by position."""

    name: str
    model: Any
    data_sets: Callable[[], Iterator[tuple[list[Any], list[Any]]]]
    rtol: float
    atol: float


class Mismatch(Exception):
    """The results are not the expected ones; the message says how."""


def load_cases(kinds: Sequence[str] = KINDS) -> dict[str, Case]:
    """Every case by `name` (of kind node) or `kind/name`."""
    from onnx.backend.test.loader import load_model_tests

    out: dict[str, Case] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in kinds:
            for test in load_model_tests(kind=kind):
                name = test.name if kind == "node" else f"{kind}/{test.name}"
                out[name] = _case(name, test)
    return out


def _case(name: str, test: Any) -> Case:
    atol, rtol = LOOSER_ATOL.get(name, test.atol), LOOSER_RTOL.get(name, test.rtol)
    if test.model is not None:
        return Case(name, test.model, lambda: iter(test.data_sets), rtol, atol)
    import onnx

    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    return Case(name, model, lambda: _stored(folder), rtol, atol)


def _stored(folder: Path) -> Iterator[tuple[list[Any], list[Any]]]:
    """The data sets below a model's folder; inputs and outputs are tensors."""
    from onnx import TensorProto

    for data in sorted(folder.glob("test_data_set_*")):
        sides: list[list[Any]] = []
        for stem in ("input", "output"):
            count = len(list(data.glob(f"{stem}_*.pb")))
            values: list[Any] = []
            for i in range(count):
                proto = TensorProto()
                proto.ParseFromString((data / f"{stem}_{i}.pb").read_bytes())
                values.append(proto)
            sides.append(values)
        yield sides[0], sides[1]


def as_array(data: Any) -> Any:
    """A tensor of a data set as an array (narrow types as ml_dtypes), anything else unchanged."""
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(data) if isinstance(data, TensorProto) else data


def run_case(case: Case, stage: str) -> str:
    """`pass`, or `unsupported: ...` when the model is refused.

    With symbols a model may also refuse its data: sizes that it took for equal are not.

    Raises Mismatch for wrong results, and whatever else goes wrong.
    """
    try:
        if stage in ("compiled", CUDA):
            runner = _compiled(case.model, "sm_90a" if stage == CUDA else "native")
        else:
            model = symbolic(case.model) if stage == "symbolic" else case.model
            runner = _interpreted(model, passes=stage == "optimized")
    except UserError as error:
        return f"unsupported: {_reason(error)}"
    for inputs, expected in case.data_sets():
        try:
            results = runner([as_array(x) for x in inputs])
        except UserError as error:
            if stage != "symbolic":
                raise
            return f"unsupported: when run: {_reason(error)}"
        compare(results, [as_array(x) for x in expected], case.rtol, case.atol)
    return "pass"


def _reason(error: UserError) -> str:
    """What is wrong, with the names of operators that are not supported."""
    names = re.findall(r"^\s*(\S+) \(.*?\) x\d+", error.found, re.MULTILINE)
    return f"{error.what}: {', '.join(sorted(names))}" if names else error.what


def symbolic(model: Any) -> Any:
    """A copy with symbols for the dimensions above 1 of inputs of rank 2 and more.

    Equal sizes share one; outputs lose their declared shapes.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.type.WhichOneof("value") == "tensor_type":
            dims = value.type.tensor_type.shape.dim
            for dim in dims:
                if len(dims) > 1 and dim.dim_value > 1:
                    dim.dim_param = f"size_{dim.dim_value}"
    for value in copy.graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")
    return copy


def _interpreted(model: Any, passes: bool) -> Callable[[list[Any]], list[Any]]:
    from tilewright.backends import reference
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.frontend.load import load_onnx
    from tilewright.compiler.options import Options

    if passes:
        graph = compile_model(model, None, Options(stop_after="passes")).graph
    else:
        graph = load_onnx(model)
    return lambda inputs: reference.run(graph, [np.asarray(x) for x in inputs])


def _compiled(model: Any, target: str) -> Callable[[list[Any]], list[Any]]:
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.options import Options
    from tilewright.runtime.session import load

    folder = tempfile.TemporaryDirectory(prefix="conformance-")
    path = Path(folder.name) / "model.tw"
    compile_model(model, path, Options(targets=(target,), jobs=0))
    session = load(path)
    names = [i.name for i in session.get_inputs()]

    def run(inputs: list[Any]) -> list[Any]:
        with folder:
            feeds = dict(zip(names, map(np.asarray, inputs), strict=True))
            return list(session.run(None, feeds))

    return run


def compare(found: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    """Raise Mismatch unless count, shapes, types and values agree as ONNX's own runner asks."""
    if len(found) != len(expected):
        raise Mismatch(f"{len(found)} outputs, expected {len(expected)}")
    for index, (have, want) in enumerate(zip(found, expected, strict=True)):
        array, target = np.asarray(have), np.asarray(want)
        if array.shape != target.shape:
            raise Mismatch(f"output {index}: shape {array.shape}, expected {target.shape}")
        if array.dtype != target.dtype:
            raise Mismatch(f"output {index}: type {array.dtype}, expected {target.dtype}")
        # Two units in the last place of bfloat16, as ONNX's runner allows.
        slack = max(rtol, 2**-6) if target.dtype.name == "bfloat16" else rtol
        if not np.issubdtype(target.dtype, np.number):
            array, target = (a.astype(np.float64) for a in (array, target))
        try:
            np.testing.assert_allclose(array, target, rtol=slack, atol=atol)
        except AssertionError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise Mismatch(f"output {index}: {'; '.join(lines[1:4])}") from None


def outcome_of(case: Case, stage: str) -> str:
    """The line of the table for one case, whatever happens short of a fault of the process."""
    try:
        return run_case(case, stage)
    except Mismatch as error:
        return f"wrong: {error}"
    except Exception as error:  # noqa: BLE001 - reported in the table, and the run fails
        text = str(error).splitlines()
        return f"crash: {type(error).__name__}: {text[0] if text else ''}"


def _serve(cases: dict[str, Case], stage: str, pipe: Connection) -> None:
    os.setpgrp()  # with the processes that the compiler starts, so that all can be ended
    with contextlib.suppress(EOFError):  # the run is over
        while True:
            name = pipe.recv()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipe.send(outcome_of(cases[name], stage))


class Worker:
    """A process that runs cases one at a time; it is replaced when it dies or hangs."""

    def __init__(self, cases: dict[str, Case], stage: str, limit: float) -> None:
        self.cases, self.stage, self.limit = cases, stage, limit
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, child = context.Pipe()
        arguments = (self.cases, self.stage, child)
        self.process = context.Process(target=_serve, args=arguments)
        self.process.start()
        child.close()

    def run(self, name: str) -> str:
        """The outcome of a case; `hang` after the limit, `crash` when the process dies."""
        self.pipe.send(name)
        try:
            if self.pipe.poll(self.limit):
                outcome = str(self.pipe.recv())
                if self.stage != CUDA or accepted(outcome):
                    return outcome
                # a fault in a kernel ends the work of its whole process on the device
            else:
                outcome = f"hang: more than {self.limit:g} s"
        except EOFError:
            self.process.join()
            outcome = f"crash: the process ended with status {self.process.exitcode}"
        self.stop()
        self._start()
        return outcome

    def stop(self) -> None:
        """End the process and those that it started."""
        self.pipe.close()
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def run_all(
    cases: dict[str, Case], stage: str, limit: float = LIMIT_SECONDS, jobs: int = 1
) -> Iterator[tuple[str, str]]:
    """(case, outcome) for every case, in order."""
    if stage in ("compiled", CUDA):
        from tilewright.backends.kernels.registry import families

        # Here once, not in every worker within the limit of its first case.
        families()
        for module in ("compiler.driver", "runtime.session"):
            importlib.import_module(f"tilewright.{module}")
    workers = [Worker(cases, stage, limit) for _ in range(jobs)]
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def run(name: str) -> tuple[str, str]:
        worker = free.get()
        try:
            return name, worker.run(name)
        finally:
            free.put(worker)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(run, cases)
    finally:
        for worker in workers:
            worker.stop()


def read_table(path: Path = TABLE) -> dict[str, dict[str, str]]:
    """stage -> case -> outcome, as kept in the repository."""
    table = json.loads(path.read_text()) if path.exists() else {}
    return {stage: dict(table.get(stage, {})) for stage in (*STAGES, CUDA)}


def write_table(table: dict[str, dict[str, str]]) -> None:
    """Rewrite the kept table, sorted."""
    ordered = {stage: dict(sorted(cases.items())) for stage, cases in table.items()}
    TABLE.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def accepted(outcome: str) -> bool:
    """Whether an outcome is a pass or a refusal with a message."""
    return outcome == "pass" or outcome.startswith("unsupported: ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases, print what is not accepted and the counts, and update the table."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--stage", choices=(*STAGES, CUDA), default="compiled")
    parser.add_argument("--jobs", type=int, default=1, help="cases that run at once")
    parser.add_argument("--only", default="", help="a regular expression of case names")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for a case")
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all kinds")
    parser.add_argument("--unsupported", action="store_true", help="print refusals too")
    parser.add_argument("--dry", action="store_true", help="leave the table as it is")
    options = parser.parse_args(arguments)
    cases = load_cases(options.kind or KINDS)
    chosen = {n: c for n, c in cases.items() if re.search(options.only, n)}
    table = read_table()
    counts: Counter[str] = Counter()
    failed = False
    for name, outcome in run_all(chosen, options.stage, options.limit, options.jobs):
        table[options.stage][name] = outcome
        counts[outcome.split(":")[0]] += 1
        failed |= not accepted(outcome)
        if not accepted(outcome) or (options.unsupported and outcome != "pass"):
            print(f"{name}: {outcome}", flush=True)
    if not options.dry:
        write_table(table)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
