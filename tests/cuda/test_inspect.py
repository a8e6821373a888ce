"""`tilewright inspect` and `targets` on GPU variants, without a GPU."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.command_line import call, refused

from tilewright.backends.cuda import toolchain
from tilewright.backends.cuda.here import device_here, why_not_here
from tilewright.backends.target import lookup
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A model with a region and a loop nest, and its artifact for two targets."""
    folder = tmp_path_factory.mktemp("inspect")
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 8])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 8])
    axis = onnx.numpy_helper.from_array(np.array(1), "axis")
    nodes = [
        onnx.helper.make_node("CumSum", ["x", "axis"], ["h"], "sums"),
        onnx.helper.make_node("Softmax", ["h"], ["y"], "soft", axis=1),
    ]
    graph = onnx.helper.make_graph(nodes, "both", [x], [y], [axis])
    model, artifact = folder / "m.onnx", folder / "m.tw"
    onnx.save(onnx.helper.make_model(graph), model)
    compile_model(model, artifact, Options(targets=("x86-64-v3", "sm_90a"), jobs=0))
    return model, artifact


@pytest.mark.parametrize("index", [0, 1], ids=["model", "artifact"])
def test_a_region_is_cuda_with_ptx_and_resources(files, index, capsys) -> None:
    words = ("inspect", files[index], "--target", "sm_90a", "--kernel", "soft", "--json")
    kernel = call(capsys, *words).document["kernel"]
    assert (kernel["tier"], kernel["target"]) == ("cuda", "sm_90a")
    assert "__global__" in kernel["source"]
    assert "struct __align__(64) TensorMap" in kernel["source"]
    assert ".target sm_90a" in kernel["ptx"]
    (entry, *_) = kernel["resources"]
    assert entry["entry"].startswith(kernel["name"])
    assert 0 < entry["registers"] <= 255
    assert {entry[key] for key in ("stack", "spill_stores", "spill_loads")} == {0}


def test_a_loop_nest_is_llvm_ir_of_the_model_and_ptx_of_the_artifact(files, capsys) -> None:
    words = ("--target", "sm_90a", "--kernel", "sums", "--json")
    of_model = call(capsys, "inspect", files[0], *words).document["kernel"]
    of_artifact = call(capsys, "inspect", files[1], *words).document["kernel"]
    assert of_model["tier"] == of_artifact["tier"] == "llvm"
    assert "define ptx_kernel void" in of_model["source"]
    assert of_artifact["source"] == ""
    assert of_model["ptx"] == of_artifact["ptx"]
    assert of_model["resources"] == of_artifact["resources"]


def test_what_was_asked_for_is_printed(files, capsys) -> None:
    words = ("inspect", files[1], "--target", "sm_90a", "--kernel", "soft")
    whole = call(capsys, *words).out
    assert "registers" in whole
    source, assembly = (call(capsys, *words, flag).out for flag in ("--llvm", "--asm"))
    assert "__global__" in source
    assert ".visible .entry" not in source
    assert ".visible .entry" in assembly
    assert "__global__" not in assembly


def test_sass_comes_from_cuobjdump(files, capsys, monkeypatch, tmp_path) -> None:
    words = ("inspect", files[1], "--target", "sm_90a", "--kernel", "soft", "--asm")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "WHEEL_TOOL", "nothing")
    without = call(capsys, *words).out
    assert "// no SASS: there is no cuobjdump on this machine" in without
    tool = tmp_path / "cuobjdump"
    tool.write_text('#!/bin/sh\necho "MUFU.EX2 of $1"\n')
    os.chmod(tool, 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert "MUFU.EX2 of -sass" in call(capsys, *words).out


def test_the_plan_has_launches_and_tiers_of_a_gpu_variant(files, capsys) -> None:
    words = ("inspect", files[1], "--target", "sm_90a", "--plan", "--json")
    launches = call(capsys, *words).document["plan"]["launches"]
    assert [launch["tier"] for launch in launches] == ["llvm", "cuda"]
    assert all("_sm_90a_" in launch["kernel"] for launch in launches)


def test_an_unknown_kernel_is_refused(files, capsys) -> None:
    words = ("inspect", files[1], "--target", "sm_90a", "--kernel", "nothing")
    assert "there is no such kernel" in refused(capsys, *words)


def test_targets_lists_gpu_rows_and_the_tools(capsys) -> None:
    report = call(capsys, "targets", "--json").document
    rows = {row["name"]: row for row in report["targets"]}
    assert rows["sm_90a"]["architecture"] == "cuda"
    assert rows["sm_90a"]["inherits"] == "sm_80"
    assert report["machine"]["cuda"] == {"compiler": "nvrtc", "assembler": "nvjitlink"}
    here = device_here()
    assert report["machine"]["gpu"] == (here or None)
    assert rows["sm_80"]["refused"] == why_not_here(lookup("sm_80"))
    assert rows["sm_80"]["runs_here"] == bool(here and not rows["sm_80"]["refused"])
