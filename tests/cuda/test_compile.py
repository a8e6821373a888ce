"""Whole compiles for GPUs, without one: the program file, its reader, targets beside each other."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.decoder_model import decoder_model

from tilewright.backends.cuda import codegen, toolchain
from tilewright.backends.cuda.codegen import Job, compile_all
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.nvptx import Arity, wrapped
from tilewright.backends.cuda.program_file import _renamed
from tilewright.backends.llvm.codegen import CodegenError
from tilewright.backends.llvm.irregular import lower
from tilewright.backends.target import lookup
from tilewright.compiler.driver import compile_model
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.ops.reduce import Cumulate
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.options import Options
from tilewright.runtime.cuda.program import Program
from tilewright.runtime.cuda.reader import read_program
from tilewright.runtime.loader import open_artifact


def model(dim: str = "batch") -> onnx.ModelProto:
    """y = top 2 of relu(x w), and how many of y's elements are not zero."""
    rng = np.random.default_rng(0)
    w = onnx.numpy_helper.from_array(rng.normal(size=(8, 16)).astype(np.float32), "w")
    two = onnx.numpy_helper.from_array(np.array([2], np.int64), "two")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("TopK", ["r", "two"], ["y", "at"], "top"),
        helper.make_node("NonZero", ["y"], ["where"], "counted"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [dim, 8])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [dim, 2]),
            helper.make_tensor_value_info("where", TensorProto.INT64, [2, "found"]),
        ],
        [w, two],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def program(path: Path, target: str) -> Program:
    file = open_artifact(path)
    variant = next(v for v in file.manifest.variants if v.target == target)
    return read_program(file.where, file.read(variant.file))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "m.tw"
    compile_model(model(), path, Options(targets=("x86-64-v3", "sm_80", "sm_90a"), jobs=0))
    return path


def test_the_manifest_has_variants_of_both_kinds(artifact: Path) -> None:
    variants = open_artifact(artifact).manifest.variants
    assert [(v.target, v.machine, v.file) for v in variants] == [
        ("x86-64-v3", "x86_64", "model.x86-64-v3.so"),
        ("sm_80", "cuda", "model.sm_80.json"),
        ("sm_90a", "cuda", "model.sm_90a.json"),
    ]
    assert [v.features for v in variants[1:]] == [
        ("sm_80", "compute_80"),
        ("sm_90a", "compute_90a"),
    ]


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_the_runtime_reads_what_the_compiler_writes(artifact: Path, target: str) -> None:
    read = program(artifact, target)
    launches = next(
        v.launches or open_artifact(artifact).manifest.launches
        for v in open_artifact(artifact).manifest.variants
        if v.target == target
    )
    assert [read.kernels[step.kernel].name for step in read.steps] == [x.name for x in launches]
    (counted,) = [step for step in read.steps if step.counts]
    assert len(counted.counts) == 1


def test_every_module_has_machine_code_of_its_target_and_ptx(artifact: Path) -> None:
    file = open_artifact(artifact)
    for target in ("sm_80", "sm_90a"):
        document = json.loads(bytes(file.read(f"model.{target}.json")))
        code = bytes(file.read(document["code"]))
        for module in document["modules"]:
            (cubin, size), (ptx, length) = module["cubin"], module["ptx"]
            assert cubin % 64 == ptx % 64 == 0
            assert code[cubin : cubin + 4] == b"\x7fELF"
            text = code[ptx : ptx + length]
            assert text.endswith(b"\0")
            assert f".target {target}".encode() in text
            assert size > 0
            assert all(r["spill_stores"] == 0 for r in module["resources"])


def test_the_same_model_gives_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tw"
    options = Options(targets=("x86-64-v3", "sm_80", "sm_90a"), jobs=0, name="m")
    compile_model(model(), again, options)
    named = tmp_path / "m.tw"
    compile_model(model(), named, options)
    assert again.read_bytes() == named.read_bytes()


def test_symbols_that_the_grammar_does_not_have_are_renamed(tmp_path: Path) -> None:
    compile_model(model("min"), tmp_path / "m.tw", Options(targets=("sm_90a",), jobs=0))
    names = [symbol.name for symbol in program(tmp_path / "m.tw", "sm_90a").symbols]
    assert names[0] == "s_min"
    assert _renamed(["a b", "a_b", "s_a_b", "min"]) == {
        "a b": "s_a_b_",
        "a_b": "a_b",
        "s_a_b": "s_a_b",
        "min": "s_min",
    }


def test_an_error_in_a_kernel_names_it_and_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = CudaKernel("__device__ int x = y;", (Entry(("1", "1", "1"), (32, 1, 1)),))
    target = lookup("sm_90a")
    monkeypatch.setattr(codegen, "emit", lambda *_: codegen.Emitted(wrong, "cuda", False))
    op = Cumulate(x=Value(TensorType(DType.F32, (4,))), kind="sum", axis=0)
    job = Job(lower(op).spec, Arity(2, 0), target, "encoder/sum")
    with pytest.raises(
        CodegenError, match=rf"kernel {job.name} \(ONNX: encoder/sum\): .*identifier \"y\" is"
    ):
        compile_all([job], workers=0)


def test_a_missing_toolchain_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_compilers", lambda: ())
    with pytest.raises(UserError, match="no CUDA compiler is installed"):
        compile_model(model(), tmp_path / "m.tw", Options(targets=("sm_90a",), jobs=0))
    assert not (tmp_path / "m.tw").exists()


def test_no_thread_function_is_visible_but_the_kernel() -> None:
    op = Cumulate(x=Value(TensorType(DType.F32, (4, 8))), kind="sum", axis=1)
    text = wrapped(lower(op).spec, Arity(2, 0), lookup("sm_80"), "sums")
    assert "define ptx_kernel void @sums(" in text
    assert "define internal i32 @sums_units(" in text


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_caches_in_codes(tmp_path: Path, format: str) -> None:
    options = Options(targets=("sm_90a",), kv_cache=format, jobs=0)
    compile_model(decoder_model(past=True), tmp_path / "m.tw", options)
    names = [kernel.name for kernel in program(tmp_path / "m.tw", "sm_90a").kernels]
    for family in ("cached_attention", "encoded_rows"):
        assert any(name.startswith(family) for name in names), names


def test_rows_of_caches_that_no_kernel_takes(tmp_path: Path) -> None:
    options = Options(targets=("sm_90a",), kv_cache="int8", jobs=0)
    with pytest.raises(UserError) as refused:
        compile_model(decoder_model(past=True, size=264), tmp_path / "m.tw", options)
    assert str(refused.value) == (
        "--kv-cache int8: no kernel of sm_90a takes rows of caches that are so long\n"
        "  expected at most 256 elements, found 264\n"
        "  try: leave --kv-cache out"
    )
