"""`tilewright inspect`."""

import re

import pytest
from support.command_line import call

from tilewright.runtime.session import load
from tilewright.tools import demo

MODEL = demo.model_path()


def test_a_model(capsys) -> None:
    report = call(capsys, "inspect", MODEL, "--json").document
    assert report["inputs"] == [{"name": "image", "dtype": "f32", "shape": ["batch", 1, 8, 8]}]
    assert report["outputs"] == [{"name": "logits", "dtype": "f32", "shape": ["batch", 10]}]
    assert report["dims"] == {"batch": [1, None]}
    assert report["onnx_operators"] == {"Relu": 4, "Conv": 3, "MaxPool": 2, "Gemm": 2, "Flatten": 1}
    assert report["operations"]["conv"] == 3
    table = call(capsys, "inspect", MODEL).out
    assert "[batch, 1, 8, 8]" in table
    assert "dimensions: batch = 1.." in table


def test_an_artifact(digits_artifact, capsys) -> None:
    report = call(capsys, "inspect", digits_artifact, "--json").document
    with load(digits_artifact, threads=1) as session:
        manifest = session.manifest
    assert report["inputs"][0]["shape"] == list(manifest.inputs[0].shape)
    assert report["launches"] == len(manifest.launches) == sum(report["operations"].values())
    assert report["bytes"] == digits_artifact.stat().st_size
    assert report["variants"][0]["runs_here"]
    assert "manifest.json" in call(capsys, "inspect", digits_artifact).out


def test_the_plan_names_the_same_launches_for_model_and_artifact(digits_artifact, capsys) -> None:
    written = call(capsys, "inspect", digits_artifact, "--plan", "--json").document["plan"]
    words = ("inspect", MODEL, "--plan", "--target", "x86-64-v2")
    planned = call(capsys, *words, "--json").document["plan"]
    names = [launch["kernel"] for launch in written["launches"]]
    assert names == [launch["kernel"] for launch in planned["launches"]]
    assert {launch["tier"] for launch in written["launches"]} <= {"llvm", "mlir"}
    table = call(capsys, *words).out
    assert all(name in table for name in names)


def test_the_plan_says_what_else_could_have_run(digits_artifact, capsys) -> None:
    written = call(capsys, "inspect", digits_artifact, "--plan", "--json").document["plan"]
    selection = written["selection"]
    assert selection["profile"]["target"] == "x86-64-v2"
    assert [point["batch"] for point in selection["points"]] == [1, 16, 128]
    assert sum(len(choice["sources"]) for choice in selection["choices"]) == 5
    for choice in selection["choices"]:
        first, *others = choice["candidates"]
        assert first["reason"] == "chosen"
        assert all(c["reason"].endswith("times the time") for c in others)
        assert all(len(c["microseconds"]) == 3 for c in choice["candidates"])
    table = call(capsys, "inspect", digits_artifact, "--plan").out
    assert "choices among kernels" in table
    assert all(choice["task"] in table for choice in selection["choices"])


def test_why_a_node_runs_on_its_kernel(capsys) -> None:
    words = ("inspect", MODEL, "--explain", "dense2", "--target", "sapphirerapids")
    (choice,) = call(capsys, *words, "--json").document["explain"]
    assert choice["task"].startswith("matmul k=")
    rough = [c for c in choice["candidates"] if c["accuracy"] > 0]
    assert {c["reason"] for c in rough} == {
        "errors of class 1e-05, allowed are 0",
        "errors of class 0.01, allowed are 0",
    }
    table = call(capsys, *words).out
    assert all(f"{c['family']} {c['spec']}".rstrip() in table for c in choice["candidates"])
    assert "profile of sapphirerapids" in table
    assert table.rstrip().endswith("dense2")


def test_a_node_without_a_choice(capsys) -> None:
    called = call(capsys, "inspect", MODEL, "--explain", "dense3", "--target", "x86-64-v2")
    assert called.status == 1
    assert called.err.rstrip() == (
        "node 'dense3': no kernel was chosen for it\n"
        "  did you mean 'dense2'?\n"
        "  try: `--plan` lists the choices"
    )


@pytest.mark.parametrize("batch", [1, 7])
def test_the_memory_map_holds_live_buffers_apart(batch, digits_artifact, capsys) -> None:
    words = ("inspect", digits_artifact, "--memory", "--shape", f"batch={batch}")
    memory = call(capsys, *words, "--json").document["memory"]
    rows = memory["buffers"]
    assert memory["at"] == {"batch": batch}
    assert len(rows) >= 5
    for i, a in enumerate(rows):
        assert 0 < a["bytes_at"] <= memory["arena_bytes"] - a["offset_at"]
        for b in rows[i + 1 :]:
            together = a["first"] < b["end"] and b["first"] < a["end"]
            apart = (
                a["offset_at"] + a["bytes_at"] <= b["offset_at"]
                or b["offset_at"] + b["bytes_at"] <= a["offset_at"]
            )
            assert apart or not together
    drawn = [line for line in call(capsys, *words).out.split("\n") if "#" in line]
    assert len(drawn) == len(rows)


def test_the_certificate_of_a_model_bounds_its_arena(capsys) -> None:
    memory = call(capsys, "inspect", MODEL, "--memory", "--json").document["memory"]
    proven = memory["proof"]["certificate"]
    assert proven["working_set"] <= proven["best_bound"] <= proven["best_peak"]
    assert proven["best_peak"] <= proven["max_live"] <= proven["arena"]
    assert proven["max_live"] == memory["max_live"]
    assert proven["buffers"] == len(memory["buffers"])
    samples = memory["proof"]["samples"]
    assert [s["at"] for s in samples] == [{"batch": 1}, {"batch": 11}]
    assert all(s["max_live"] <= s["arena"] for s in samples)


def test_an_artifact_keeps_what_was_proven(digits_artifact, capsys) -> None:
    words = ("inspect", digits_artifact, "--memory")
    lines = call(capsys, *words, "--json").document["memory"]["proof"]["text"]
    assert [line.split()[0] for line in lines[:4]] == ["arena", "max-live", "best", "largest"]
    printed = call(capsys, *words).out
    assert "with batch = 128:\n" + "\n".join(lines) in printed


def test_ir_after_a_stage(capsys) -> None:
    imported = call(capsys, "inspect", MODEL, "--ir", "import").out
    assert imported.count(" = conv ") == 3
    assert " = transpose " in imported
    final = call(capsys, "inspect", MODEL, "--ir", "fuse-epilogues").out
    fused = [" body(" in line for line in final.split("\n") if " = conv " in line]
    assert fused == [True] * 3
    assert " body(" not in imported
    first = call(capsys, "inspect", MODEL, "--ir", "fold-constants:1").out
    assert first.count(" = conv ") == 3


def test_the_difference_between_two_stages(capsys) -> None:
    lines = call(capsys, "inspect", MODEL, "--diff", "import", "fuse-epilogues").out.split("\n")
    assert lines[:2] == ["--- import", "+++ fuse-epilogues"]
    removed = [x for x in lines if x.startswith("-") and " = conv " in x]
    added = [x for x in lines if x.startswith("+") and " = conv " in x]
    assert (len(removed), len(added)) == (3, 3)
    assert [" body(" in x for x in removed + added] == [False] * 3 + [True] * 3
    same = call(capsys, "inspect", MODEL, "--diff", "import", "import").out
    assert same == "no difference between import and import\n"


def test_the_code_of_a_kernel_of_a_model(capsys) -> None:
    words = ("inspect", MODEL, "--kernel", "dense2", "--target", "x86-64-v3")
    both = call(capsys, *words, "--json").document["kernel"]
    assert both["name"].startswith("f32_matmul_x86_64_v3_")
    assert f'@"{both["name"]}"' in both["llvm"]
    assert f"{both['name']}:" in both["assembly"]
    assert "%ymm" in both["assembly"]
    assert "%zmm" not in both["assembly"]
    only = call(capsys, *words, "--llvm").out
    assert only.strip() == both["llvm"].strip()


def test_a_name_that_fits_several_kernels(capsys) -> None:
    called = call(capsys, "inspect", MODEL, "--kernel", "_v3_", "--target", "x86-64-v3")
    assert called.status == 1
    assert re.match(r"kernel '_v3_': \d+ kernels match\n  \w+_x86_64_v3_\w+, ", called.err)


def test_the_code_of_a_kernel_of_an_artifact(digits_artifact, capsys) -> None:
    called = call(capsys, "inspect", digits_artifact, "--kernel", "dense2", "--json")
    if called.status:
        assert "there is no disassembler on this machine" in called.document["error"]["message"]
        pytest.skip("no objdump here")
    kernel = called.document["kernel"]
    assert f"<{kernel['name']}>:" in kernel["assembly"].split("\n")[0]
    assert "ret" in kernel["assembly"].split()
