"""The benchmarks of a GPU in one call: limits of stages, what is kept of them, peers that wait."""

import sys
import time

import onnx
from support.contract_model import layered_model

from tilewright.compiler.frontend.load import load_onnx
from tilewright.tools import bench_gpu
from tilewright.tools.bench.gpu_model_cases import planned
from tilewright.tools.bench.gpu_peers import Peers
from tilewright.tools.bench_gpu_weights import KINDS, handed_on, spec_of

PEER = """
import sys, time
from tilewright.tools.bench.gpu_peers import answer
kind = sys.argv[1]
if kind == "slow":
    time.sleep(60)
if kind == "wrong":
    raise ValueError("no such model")
answer(lambda: {"microseconds": 7.0, "error": 0.5})
"""


def python(text, *words):
    return [sys.executable, "-c", text, *words]


def test_a_stage_keeps_its_lines_when_its_time_is_over(tmp_path):
    out = tmp_path / "stage.txt"
    text = "import time; print('measured', flush=True); time.sleep(60)"
    begun = time.monotonic()
    assert bench_gpu.run(python(text), out, 2) == "stopped after 2 s"
    assert time.monotonic() - begun < 30
    assert out.read_text() == "measured\n"
    assert bench_gpu.run(python("print(1)"), out, 60) == ""
    assert bench_gpu.run(python("raise SystemExit(3)"), out, 60) == "exit status 3"
    assert bench_gpu.run(python("print(1)"), out, 0) == "no time left"


def test_the_summary_has_what_is_known(tmp_path):
    texts = {
        "models": "case, us on the device\nwarning: a\nminilm_b1_s128    146.0   3.0\n",
        "gemm_f16": "64 64 64 1.0\n2^0..2^24     12 1.470\nall          60 1.100\n",
        "weights": (
            "weights       M     N     K        us    cuBLAS f16  ratio\n"
            "w4-g128       1  4096  4096      5.00         10.00   2.00     4.00 ( 80 %)  1e-6\n"
            "w4-g128       1  4096 14336      5.00         40.00   8.00     4.00 ( 80 %)  1e-6\n"
            "w4-g128/bf16  8  4096  4096      5.00         15.00   3.00     4.00 ( 80 %)  1e-3\n"
        ),
    }
    stages = {stage.name: stage for stage in bench_gpu.STAGES}
    ended = []
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
        ended.append((stages[name], 12.0, "" if name != "weights" else "stopped after 12 s"))
    assert bench_gpu.summary(tmp_path, ended).splitlines() == [
        "models           12.0 s  complete",
        "    case, us on the device",
        "    minilm_b1_s128    146.0   3.0",
        "gemm_f16         12.0 s  complete",
        "    2^0..2^24     12 1.470",
        "    all          60 1.100",
        "weights          12.0 s  stopped after 12 s",
        "    w4-g128 M = 1: 4.00 of 2 shapes",
        "    w4-g128/bf16 M = 8: 3.00 of 1 shapes",
    ]


def test_weights_are_read_beside_activations_of_their_kind():
    kinds = {kind: spec_of(kind, 256, 512) for kind in KINDS}
    assert [(name, handed_on(kind)) for kind, (name, _) in kinds.items()] == [
        ("grouped_mma", "f32"),
        ("grouped_mma", "bf16"),
        ("mma_matmul", "f32"),
    ]
    _, spec = kinds["w4-g128/bf16"]
    assert (spec.format.name, spec.a, spec.c) == ("w4-g128", "bf16", "bf16")


def test_stages_fit_into_a_call():
    assert sum(stage.expected for stage in bench_gpu.STAGES) < 500
    assert all(stage.expected < stage.limit for stage in bench_gpu.STAGES)


def test_peers_compile_first_and_are_measured_when_asked():
    names = ["good", "slow", "wrong", "late"]
    begun = time.monotonic()
    with Peers(names, lambda name: python(PEER, name), seconds=8) as peers:
        peers.wait()
        assert peers.measure("good") == {"microseconds": 7.0, "error": 0.5}
        assert peers.measure("slow") == "not compiled in time"
        assert peers.measure("wrong") == "failed: ValueError: no such model"
        peers.measure("late")
    assert time.monotonic() - begun < 60
    with Peers(["none"], lambda name: python(PEER, name), seconds=0) as peers:
        peers.wait()
        assert peers.measure("none") == "not started in time"


def test_a_plan_with_all_weights_in_a_format(tmp_path):
    onnx.save(layered_model(), tmp_path / "m.onnx")
    plan = planned(load_onnx(tmp_path / "m.onnx", {}), "w4-g32")
    assert plan["variants"]["sm_90a"]["formats"] == {
        "up0, tanh0": "w4-g32",
        "down0, add0": "w4-g32",
        "up1, tanh1": "w4-g32",
        "down1, add1": "w4-g32",
    }
