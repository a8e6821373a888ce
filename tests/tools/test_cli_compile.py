"""`tilewright compile` and `tilewright opt`."""

import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from llvmlite import binding as llvm
from support.command_line import call, expected, small_model

from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.print import print_graph
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.registry import passes
from tilewright.runtime.session import load

DEFAULT = PIPELINES["default"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(small_model(), "small.onnx")


def test_compile_reports_what_it_wrote(tmp_path, capsys) -> None:
    words = ("small.onnx", "--target", "x86-64-v2,x86-64-v3", "--jobs", "1", "--name", "tiny")
    called = call(capsys, "compile", *words, "--dump", "dump", "--json")
    assert called.status == 0, called.err
    report = called.document
    path = tmp_path / "small.tw"
    assert report["artifact"] == "small.tw"
    assert report["artifact_bytes"] == path.stat().st_size
    assert list(report["seconds"]) == ["import", "passes", "lower", "codegen", "package"]
    assert [p["name"] for p in report["passes"]] == list(DEFAULT)
    assert [v["target"] for v in report["variants"]] == ["x86-64-v2", "x86-64-v3"]
    for variant in report["variants"]:
        assert (variant["kernels"], variant["launches"], variant["weight_bytes"]) == (1, 1, 16)
        memory = variant["memory"]
        assert memory["arena_bytes"] == memory["max_live"] == 0
        assert memory["certificate"] == "optimal: no order of the steps and no packing needs less"
    with zipfile.ZipFile(path) as archive:
        assert {"model.x86-64-v2.so", "model.x86-64-v3.so"} <= set(archive.namelist())
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    with load(path, threads=1) as session:
        assert session.get_modelmeta().graph_name == "tiny"
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected(x))
    check_dump(tmp_path / "dump", load_onnx("small.onnx").weights)


def check_dump(folder, store):
    texts = sorted(folder.glob("*.ir"))
    assert [p.stem.partition("-")[2] for p in texts] == ["import", *DEFAULT]
    for path in texts:
        text = path.read_text()
        assert print_graph(parse_graph(text, str(path), store)) == text
    for target in ("x86-64-v2", "x86-64-v3"):
        modules = list((folder / target).glob("*.ll"))
        assert len(modules) == 2, "one kernel and the entry points"
        for path in modules:
            llvm.parse_assembly(path.read_text()).verify()


def test_compile_prints_tables(capsys) -> None:
    words = ("small.onnx", "-o", "t.tw", "--target", "x86-64-v2", "--jobs", "1", "-v")
    called = call(capsys, "compile", *words)
    assert called.status == 0
    assert f"t.tw: {os.path.getsize('t.tw'):,} bytes" in called.out
    assert " optimal: no order of the steps and no packing needs less" in called.out
    lines = called.err.split("\n")
    assert lines[0] == "import: small.onnx"
    assert [x for x in lines if x.startswith("passes: ")] == [f"passes: {n}" for n in DEFAULT]
    assert lines[-2] == "package: t.tw"


def test_print_after(capsys) -> None:
    words = ("compile", "small.onnx", "--stop-after", "passes", "--print-after", "fuse-regions")
    called = call(capsys, *words)
    assert called.out.count("graph @small(") == 1
    assert called.out.startswith("# after fuse-regions\ngraph @small(%x: f32[n, 4]) {\n")
    assert " = fused " in called.out
    every = call(capsys, "compile", "small.onnx", "--stop-after", "passes", "--print-after-each")
    assert every.out.count("graph @small(") == len(DEFAULT)
    document = call(capsys, *words, "--json").document
    assert [row["pass"] for row in document["printed"]] == ["fuse-regions"]
    assert not os.path.exists("small.tw")


@pytest.mark.parametrize("stage", ["import", "lower"])
def test_stop_after_writes_nothing(stage, tmp_path, capsys) -> None:
    report = call(capsys, "compile", "small.onnx", "--stop-after", stage, "--json").document
    assert list(report["seconds"])[-1] == stage
    assert report["artifact"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]


def test_bounds_of_dimensions_reach_the_graph(capsys) -> None:
    words = ("compile", "small.onnx", "--stop-after", "passes", "--print-after", "fuse-regions")
    assert "    n: 2..8 shape(0, 0)\n" in call(capsys, *words, "--dim", "n=2..8").out
    assert "%x: f32[3, 4]" in call(capsys, *words, "--dim", "n=3").out
    assert "    n: 1..* shape(0, 0)\n" in call(capsys, *words).out


def test_opt_lists_every_pass(capsys) -> None:
    rows = call(capsys, "opt", "--list", "--json").document
    assert [row["name"] for row in rows] == list(passes())
    for row in rows:
        assert row["doc"] == passes()[row["name"]].doc.partition("\n")[0]
    assert "max-ops: int" in call(capsys, "opt", "--list").out


def test_opt_runs_the_passes_it_is_given(capsys) -> None:
    report = call(
        capsys, "opt", "small.onnx", "--passes", "fold-constants,fuse-regions{max-ops=8}", "--json"
    ).document
    assert [p["name"] for p in report["passes"]] == ["fold-constants", "fuse-regions{max-ops=8}"]
    assert [p["changed"] for p in report["passes"]] == [False, True]
    whole = call(capsys, "opt", "small.onnx", "--json").document
    assert [p["name"] for p in whole["passes"]] == list(DEFAULT)


def test_opt_reads_what_it_wrote(capsys) -> None:
    assert call(capsys, "opt", "small.onnx", "--passes", "", "-o", "imported.ir").out == ""
    text = Path("imported.ir").read_text()
    assert text == print_graph(load_onnx("small.onnx"))
    again = call(capsys, "opt", "imported.ir", "--passes", "")
    assert again.out == text
    fused = call(capsys, "opt", "imported.ir", "--passes", "fuse-regions", "--time")
    assert " = fused " in fused.out
    assert fused.err.split()[1] == "ms"
    assert "fuse-regions" in fused.err


def test_opt_takes_large_constants_from_the_model(tmp_path, capsys) -> None:
    from tilewright.tools import demo

    model = demo.model_path()
    assert call(capsys, "opt", model, "--passes", "", "-o", "d.ir").status == 0
    alone = call(capsys, "opt", "d.ir", "--passes", "")
    assert alone.status == 1
    assert "no weight f32[16, 1, 3, 3] with this hash" in alone.err
    whole = call(capsys, "opt", "d.ir", "--passes", "", "--weights", model)
    assert whole.out == (tmp_path / "d.ir").read_text()
