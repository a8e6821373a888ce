"""`tilewright run`, `bench` and `demo`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support.command_line import call

from tilewright.runtime.manifest import Manifest, TensorInfo, Variant
from tilewright.tools import demo
from tilewright.tools.cli.feeds import FeedOptions, make_feeds

MODEL = demo.model_path()


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_run_writes_what_the_model_computes(digits_artifact, capsys) -> None:
    images = demo.test_split()[0][:6]
    np.save("digits.npy", images)
    called = call(
        capsys, "run", digits_artifact, "--input", "image=digits.npy", "-o", "out.npz", "--json"
    )
    assert called.status == 0, called.err
    with np.load("out.npz") as found:
        logits = found["logits"]
    peer = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(logits, peer.run(None, {"image": images})[0], rtol=1e-4, atol=1e-4)
    (output,) = called.document["outputs"]
    assert output["shape"] == [6, 10]
    assert output["max"] == pytest.approx(float(logits.max()))
    assert output["first"] == pytest.approx(logits.reshape(-1)[:4].tolist())


def test_run_with_random_data_repeats_by_its_seed(digits_artifact, capsys) -> None:
    def logits(*words):
        words = ("run", digits_artifact, "--random", "--shape", "batch=3", *words, "--json")
        return call(capsys, *words).document["outputs"][0]["first"]

    assert logits("--seed", "1") == logits("--seed", "1", "--threads", "1")
    assert logits("--seed", "1") != logits("--seed", "2")


def test_profile_has_a_row_per_launch(digits_artifact, capsys) -> None:
    words = ("run", digits_artifact, "--random", "--shape", "batch=8", "--profile")
    rows = call(capsys, *words, "--json").document["profile"]
    launches = call(capsys, "inspect", digits_artifact, "--json").document["launches"]
    assert len(rows) == launches
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    convolution = next(row for row in rows if row["source"].startswith("conv2"))
    assert convolution["gflops"] == pytest.approx(8 * 589824 / convolution["ms"] / 1e6)
    assert "GFLOP/s" in call(capsys, *words).out


WITHOUT_COMPILER = """
import sys
for name in "onnx llvmlite ml_dtypes networkx highspy scipy google mlir torch_mlir".split():
    sys.modules[name] = None
from tilewright.tools.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--random", "--profile"),
        ("inspect", "--plan", "--memory"),
        ("inspect",),
        ("bench", "--against", "onnxruntime", "--model", MODEL, "--rounds", "2"),
    ],
)
def test_artifacts_need_no_compiler(words, digits_artifact) -> None:
    name, *options = map(str, words)
    command = [sys.executable, "-c", WITHOUT_COMPILER, name, str(digits_artifact), *options]
    made = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)


def test_random_feeds_keep_to_shapes_and_ranges() -> None:
    manifest = Manifest(
        producer="",
        name="",
        inputs=(
            TensorInfo("ids", "i64", ("batch", "seq")),
            TensorInfo("mask", "i64", ("batch", "seq + past")),
            TensorInfo("past", "f16", ("batch", "past")),
            TensorInfo("flags", "bool", (64,)),
        ),
        outputs=(),
        variants=(Variant("x", "x.so"),),
        dims={"batch": (1, 8), "seq": (1, None), "past": (0, None)},
    )
    np.save("past.npy", np.ones((2, 5), np.float16))
    options = FeedOptions(
        files={"past": "past.npy"}, shape={"seq": 300}, ranges={"ids": (0, 9)}, seed=3
    )
    feeds = make_feeds("m", manifest, options, random=True)
    assert {n: (str(a.dtype), a.shape) for n, a in feeds.items()} == {
        "ids": ("int64", (2, 300)),
        "mask": ("int64", (2, 305)),
        "past": ("float16", (2, 5)),
        "flags": ("bool", (64,)),
    }
    assert set(feeds["ids"].reshape(-1)) == set(range(10))
    assert (feeds["mask"] == 1).all()
    assert (feeds["past"] == 1).all()
    asked = FeedOptions(texts={"ids": "-3..-2"}, ranges={"ids": (0, 9)})
    assert set(make_feeds("m", manifest, asked, random=True)["ids"].reshape(-1)) <= {-3, -2}


def test_bench_measures_the_peers_in_the_same_rounds(digits_artifact, capsys) -> None:
    words = ("bench", digits_artifact, "--model", MODEL, "--against", "onnxruntime")
    called = call(capsys, *words, "--rounds", "4", "--record", "r/bench.json", "--json")
    assert called.status == 1, "the folder is not there"
    words = (*words, "--threads", "1,2")
    called = call(capsys, *words, "--rounds", "4", "--record", "bench.json", "--json")
    first, second = called.document["runs"]
    assert (first["threads"], second["threads"]) == (1, 2)
    for run in (first, second):
        assert [row["name"] for row in run["timings"]] == ["tilewright", "onnxruntime"]
        assert {row["rounds"] for row in run["timings"]} == {4}
    ours, theirs = first["timings"]
    assert (first["base"], theirs["ratio"]) == ("onnxruntime", 1)
    assert 0 < ours["min_ms"] <= ours["median_ms"]
    assert theirs["error_to_ours"] < 1e-5
    recorded = json.loads(Path("bench.json").read_text())
    rows = [row for run in (first, second) for row in run["timings"]]
    assert [row["median_ms"] for row in recorded["rows"]] == [row["median_ms"] for row in rows]
    assert [row["threads"] for row in recorded["rows"]] == [1, 1, 2, 2]
    assert recorded["machine"]["cores"] >= 1


def test_bench_compares_kernels_with_the_roofline(digits_artifact, capsys) -> None:
    words = ("bench", digits_artifact, "--against", "none", "--rounds", "2")
    kernels = call(capsys, *words, "--json").document["runs"][0]["kernels"]
    known = [row for row in kernels if row["bound"] is not None]
    assert {row["bound"] for row in known} <= {"compute", "memory"}
    for row in known:
        assert row["fraction"] > 0
        assert row["gap_ms"] == pytest.approx(row["ms"] * (1 - row["fraction"]))
    assert any(row["kernel"].startswith("f32_") for row in known)
    shown = call(capsys, *words).out
    assert "roofline" in shown
    assert "gap ms" in shown


def test_bench_says_who_is_left_out(digits_artifact, monkeypatch, capsys) -> None:
    called = call(capsys, "bench", digits_artifact, "--against", "onnxruntime", "--rounds", "1")
    assert called.err == (
        "skipped onnxruntime: an artifact alone does not tell its model; try: --model MODEL.onnx\n"
    )
    monkeypatch.setattr("tilewright.tools.cli.peers.find_spec", lambda name: None)
    words = ("--model", MODEL, "--against", "openvino:bf16", "--rounds", "1", "--json")
    (run,) = call(capsys, "bench", digits_artifact, *words).document["runs"]
    assert run["base"] == "tilewright"
    reason = "openvino is not installed; try: pip install openvino"
    assert run["skipped"] == {"openvino:bf16": reason}
    quiet = call(capsys, "bench", digits_artifact, "--against", "none", "--rounds", "1")
    assert quiet.err == ""


def test_bench_leaves_torch_to_linear_layers(digits_artifact, monkeypatch, capsys) -> None:
    monkeypatch.setattr("tilewright.tools.cli.peers.find_spec", lambda name: object())
    words = ("bench", digits_artifact, "--model", MODEL, "--against", "torch", "--rounds", "1")
    assert "torch reads no ONNX files; try: --linear" in call(capsys, *words).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--against", "onnxruntime:bf16"), "onnxruntime multiplies in f32"),
        (("--against", "onnxruntime@avx2"), "onnxruntime can be kept to nothing"),
        (("--against", "openvino@sse"), "openvino can be kept to avx2, avx512, vnni"),
        (("--against", "tensorrt"), "is not one of onnxruntime, openvino, torch, none"),
        (("--threads", "1,0"), "expected counts such as 1 or 1,2"),
        (("--max-error", "0.01"), "an artifact is compiled already"),
        (("--linear", "--threads", "2"), "--linear measures one thread"),
    ],
)
def test_bench_refuses_what_makes_no_sense(digits_artifact, words, message, capsys) -> None:
    called = call(capsys, "bench", digits_artifact, *words)
    assert called.status == 2
    assert message in called.err


def test_demo_prints_its_findings(digits_artifact, monkeypatch, capsys) -> None:
    """With the artifact that is there already: compiling it again would take a while."""
    import shutil

    from tilewright.tools.demo import run

    monkeypatch.setattr(
        "tilewright.compile", lambda model, path, target: shutil.copy(digits_artifact, path)
    )
    monkeypatch.setattr(run, "TIME_BUDGET_S", 0.05)
    report = call(capsys, "demo", "--json").document
    assert report["results"]["tilewright"]["accuracy"] >= 0.98
    assert report["results"]["tilewright"]["error"] < 1e-5
    assert "accuracy" in call(capsys, "demo").out
