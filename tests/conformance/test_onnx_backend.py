"""The ONNX backend tests: a fixed sample on every run, all of them under the mark conformance."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tilewright.runtime.cuda.device import open_device
from tilewright.runtime.errors import TargetError
from tilewright.tools import conformance

TABLE = Path(__file__).parent / "table.json"
SAMPLE_SHARE = 10  # one case of so many


def sample() -> list[str]:
    """The cases whose name hashes to zero, among those that the table lists as passing."""
    passing = conformance.read_table(TABLE)["reference"]
    return [
        name
        for name, outcome in passing.items()
        if outcome == "pass"
        and int(hashlib.sha256(name.encode()).hexdigest(), 16) % SAMPLE_SHARE == 0
    ]


@pytest.fixture(scope="module")
def cases() -> dict[str, conformance.Case]:
    return conformance.load_cases()


@pytest.mark.parametrize("name", sample())
def test_sample(name: str, cases: dict[str, conformance.Case]) -> None:
    assert conformance.run_case(cases[name], "reference") == "pass"


def test_the_sample_is_not_empty() -> None:
    assert len(sample()) > 100


@pytest.mark.conformance
@pytest.mark.parametrize("stage", conformance.STAGES)
def test_every_case_matches_the_table(stage: str, cases: dict[str, conformance.Case]) -> None:
    found = dict(conformance.run_all(cases, stage))
    assert {n: o for n, o in found.items() if not conformance.accepted(o)} == {}
    assert found == conformance.read_table(TABLE)[stage]


def test_the_gpu_passes_what_the_cpu_passes() -> None:
    table = conformance.read_table(TABLE)
    gpu = table[conformance.CUDA]
    assert gpu == {name: table["compiled"][name] for name in gpu}
    nodes = [name for name, outcome in gpu.items() if outcome == "pass" and "/" not in name]
    assert len(nodes) >= 700


@pytest.mark.cuda
@pytest.mark.conformance
def test_every_case_on_the_gpu_matches_the_table(cases: dict[str, conformance.Case]) -> None:
    try:
        open_device("tests")
    except TargetError as missing:
        pytest.skip(f"no GPU: {missing.what}")
    kept = conformance.read_table(TABLE)[conformance.CUDA]
    chosen = {name: cases[name] for name in kept}
    assert dict(conformance.run_all(chosen, conformance.CUDA, jobs=16)) == kept


def test_a_wrong_value_is_reported() -> None:
    with pytest.raises(conformance.Mismatch, match="output 0: Mismatched elements: 1 / 2"):
        conformance.compare([np.float32([1, 2])], [np.float32([1, 3])], 1e-3, 1e-7)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.float32([[1, 2]]), "shape"),
        (np.float64([1, 2]), "type float64, expected float32"),
    ],
)
def test_a_wrong_type_is_reported(found: np.ndarray, message: str) -> None:
    with pytest.raises(conformance.Mismatch, match=message):
        conformance.compare([found], [np.float32([1, 2])], 1e-3, 1e-7)


def test_a_missing_output_is_reported() -> None:
    with pytest.raises(conformance.Mismatch, match="0 outputs, expected 1"):
        conformance.compare([], [np.float32([1])], 1e-3, 1e-7)


def _case(name: str) -> conformance.Case:
    return conformance.Case(name, None, lambda: iter(()), 1e-3, 1e-7)


def test_a_worker_survives_crash_and_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    def pretend(case: conformance.Case, stage: str) -> str:
        if case.name == "dies":
            os._exit(3)
        if case.name == "hangs":
            time.sleep(60)
        return "pass"

    monkeypatch.setattr(conformance, "outcome_of", pretend)
    names = {n: _case(n) for n in ("dies", "fine", "hangs", "fine too")}
    assert dict(conformance.run_all(names, "reference", limit=0.5)) == {
        "dies": "crash: the process ended with status 3",
        "fine": "pass",
        "hangs": "hang: more than 0.5 s",
        "fine too": "pass",
    }
