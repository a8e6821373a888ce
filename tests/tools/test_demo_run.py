"""The demo from end to end: compile, run, compare."""

import io

import numpy as np
import pytest
from rich.console import Console

from tilewright.tools import demo
from tilewright.tools.demo import run


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TIME_BUDGET_S", 0.05)


def test_the_demo_compiles_runs_and_reports() -> None:
    text = io.StringIO()
    report = run.run_demo(Console(file=text, width=100), threads=2)
    ours, peer = report["results"]["tilewright"], report["results"]["onnxruntime"]
    assert ours["accuracy"] >= 0.98
    # The promise of a compile without --max-error.
    assert ours["error"] <= max(1e-6, 2 * peer["error"])
    assert report["artifact_bytes"] > report["model_bytes"] / 2
    assert ours["batch_450"]["median_ms"] >= ours["batch_450"]["min_ms"] > 0
    shown = text.getvalue()
    assert f"{ours['accuracy']:.2%}" in shown
    assert f"artifact {report['artifact_bytes']:,} bytes" in shown
    assert "batch 450: time / onnxruntime" in shown


def test_json_prints_nothing() -> None:
    text = io.StringIO()
    report = run.run_demo(Console(file=text), threads=1, json=True)
    assert text.getvalue() == ""
    assert report["threads"] == 1


def test_a_wrong_contender_shows_in_every_figure() -> None:
    """The comparison must be able to fail: a model that is off by 1 % or answers at random."""
    images, labels = demo.test_split()
    right = run.peer(threads=1)
    runs = {
        "off": lambda x: right(x) * np.float32(1.01),
        "random": lambda x: np.random.default_rng(0).random((len(x), 10), np.float32),
        "onnxruntime": right,
    }
    results = run.compare(runs, images[:90], labels[:90])
    assert results["off"]["error"] == pytest.approx(0.01, rel=1e-3)
    assert results["off"]["error_to_peer"] == pytest.approx(0.01, rel=1e-3)
    assert results["off"]["accuracy"] == results["onnxruntime"]["accuracy"]
    assert results["random"]["accuracy"] < 0.5
    assert results["onnxruntime"]["error"] < 1e-6
    assert results["onnxruntime"]["batch_1"]["ratio"] == 1
    assert results["onnxruntime"]["batch_90"]["ratio"] == 1
