"""Error contracts of GPU targets on a machine without one: numerics in numpy stand for kernels."""

import json
import zipfile

import numpy as np
import onnx
import pytest
from support.command_line import call, refused
from support.contract_model import layered_model, layered_samples

import tilewright

SAMPLES = layered_samples(8, 40)
SAID = (
    "sm_90a was not run: its errors are those of its numerics in numpy; on such a machine"
    " `tilewright verify MODEL ARTIFACT --calibrate SAMPLES` measures them"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("emulated")
    onnx.save(layered_model(), path / "layers.onnx")
    np.savez(path / "samples.npz", x=SAMPLES)
    return path


KEEP = (("up*", "w8a8-sym"), ("down*", "w8a8-sym"))


@pytest.fixture(scope="module")
def coded(files):
    """For this CPU, with weights and inputs in 8 bits."""
    path = files / "cpu.tw"
    given = {"calibrate": str(files / "samples.npz"), "max_error": 0.1, "jobs": 0, "keep": KEEP}
    tilewright.compile(files / "layers.onnx", path, **given)
    return path


def plan_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("plan.json"))


def test_errors_are_those_of_kernels_in_the_same_numerics(files, coded, capsys):
    """Weights and inputs in 8 bits for the GPU, emulated, and for this CPU, run."""
    words = ("--calibrate", files / "samples.npz", "--max-error", "0.1", "--jobs", "1")
    keep = ("--keep", "up*=w8a8-sym", "--keep", "down*=w8a8-sym")
    model, gpu = files / "layers.onnx", files / "gpu.tw"
    called = call(capsys, "compile", model, "-o", gpu, "--target", "sm_90a", *words, *keep)
    assert called.status == 0, called.err
    assert SAID in called.out.replace("\n", " ")
    contract = plan_of(gpu)["contract"]
    assert contract["emulated"] == ["sm_90a"]
    assert "timing" not in contract
    measured = plan_of(coded)["contract"]
    assert "emulated" not in measured
    assert contract["measured"] == pytest.approx(measured["measured"], rel=3e-2)
    assert plan_of(gpu)["variants"]["sm_90a"]["formats"] == {
        "up0, tanh0": "w8a8-sym",
        "down0, add0": "w8a8-sym",
        "up1, tanh1": "w8a8-sym",
        "down1, add1": "w8a8-sym",
    }
    with zipfile.ZipFile(gpu) as archive:
        assert json.loads(archive.read("model.sm_90a.json"))["kernels"]


@pytest.mark.slow
def test_a_bound_that_kernels_would_break_is_kept_by_others(files):
    """Rounding to bf16 makes 0.26 %: under 0.1 % every product is in something better."""
    given = {"calibrate": str(files / "samples.npz"), "jobs": 0, "target": "sm_90a"}
    tilewright.compile(files / "layers.onnx", files / "tight.tw", max_error=1e-3, **given)
    plan = plan_of(files / "tight.tw")
    (error,) = plan["contract"]["measured"]
    assert error <= 1e-3
    assert "bf16" not in set(plan["variants"]["sm_90a"]["formats"].values())


@pytest.mark.slow
def test_both_kinds_of_targets_in_one_contract(files):
    given = {"calibrate": str(files / "samples.npz"), "jobs": 0, "max_error": 0.1}
    path = files / "both.tw"
    tilewright.compile(files / "layers.onnx", path, target="native,sm_80", **given)
    plan = plan_of(path)
    assert plan["contract"]["emulated"] == ["sm_80"]
    assert len(plan["variants"]) == 2
    with tilewright.load(path, threads=1) as session:
        assert session.run(None, {"x": SAMPLES[0]})[0].shape == SAMPLES[0].shape


def test_the_contract_of_an_artifact_is_checked_where_it_runs(files, coded, capsys):
    model, path, samples = files / "layers.onnx", coded, files / "samples.npz"
    called = call(capsys, "verify", model, path, "--calibrate", samples, "--json")
    assert called.status == 0, called.err
    (row,) = called.document["outputs"]
    assert row["error"] == pytest.approx(row["when_compiled"], rel=1e-3)
    assert (called.document["bound"], called.document["samples"]) == (0.1, 2)
    assert " kept" in call(capsys, "verify", model, path, "--calibrate", samples).out


def test_a_broken_contract_is_an_error(files, coded, capsys):
    samples, path = files / "samples.npz", coded
    onnx.save(layered_model(gain=0.3), files / "other.onnx")
    called = call(capsys, "verify", files / "other.onnx", path, "--calibrate", samples, "--json")
    assert called.status == 1
    assert not called.document["passed"]
    variant = called.document["variant"]
    assert called.err.strip() == f"{path} [{variant}]: does not keep its error contract here"


def test_contracts_that_cannot_be_checked(files, capsys):
    model, path, samples = files / "layers.onnx", files / "plain.tw", files / "samples.npz"
    assert call(capsys, "compile", model, "-o", path, "--jobs", "1").status == 0
    message = refused(capsys, "verify", model, path, "--calibrate", samples)
    assert message == (
        f"{path}: has no error contract\n  try: compile it with --calibrate and --max-error"
    )
    called = call(capsys, "verify", model, "--calibrate", samples)
    assert called.status == 2
    assert "--calibrate goes with an ARTIFACT, whose contract it checks" in called.err
