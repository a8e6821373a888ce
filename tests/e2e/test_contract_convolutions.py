"""Error contracts of convolutions, from options to what the artifact computes."""

import json
import zipfile
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.backends.llvm import codegen
from tilewright.compiler.errors import UserError
from tilewright.compiler.samples import HELD_OUT

SHAPE = (1, 8, 18, 17)
FORMAT = "w8a8-tensor"
RANDOM = np.random.default_rng(9)
SAMPLES = RANDOM.standard_normal((8, *SHAPE)).astype(np.float32)
HELD = SAMPLES[HELD_OUT - 1 :: HELD_OUT]


def network() -> onnx.ModelProto:
    """8 channels to 64 by `first`, `second` behind its ReLU, `across` beside it with strides, a
    grouped `apart`."""
    nodes, weights = [], {}

    def conv(name: str, x: str, c: int, o: int, k: int, **attributes: object) -> str:
        w = RANDOM.standard_normal((o, c, k, k)) * np.sqrt(2 / (c * k * k))
        weights[f"{name}.w"] = w.astype(np.float32)
        weights[f"{name}.b"] = (RANDOM.standard_normal(o) * 0.1).astype(np.float32)
        inputs = [x, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}.y"], name=name, **attributes))
        return f"{name}.y"

    def relu(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [f"{x}.r"], name=f"{x}.relu"))
        return f"{x}.r"

    h = relu(conv("first", "x", 8, 64, 3, pads=[1] * 4))
    main = conv("second", h, 64, 64, 3, pads=[1] * 4, strides=[2, 2])
    side = conv("across", h, 64, 64, 1, strides=[2, 2])
    nodes.append(helper.make_node("Add", [main, side], ["sum"], name="sum"))
    conv("apart", relu("sum"), 2, 64, 3, group=32)
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 7, 7])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module", autouse=True)
def _kernels_once():
    """Equal kernels of the compiles of this module are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen, "compile_kernel", cache(codegen.compile_kernel))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("convolutions")
    onnx.save(network(), path / "m.onnx")
    np.savez(path / "samples.npz", x=SAMPLES)
    return path


def compiled(files, name, **options):
    path = files / name
    given = {"calibrate": str(files / "samples.npz"), "jobs": 0, **options}
    tilewright.compile(files / "m.onnx", path, **given)
    with zipfile.ZipFile(path) as archive:
        return path, json.loads(archive.read("plan.json"))


def measured(files, path):
    """The relative L2 error of an artifact on the held-out samples, by ONNX Runtime."""
    reference = ort.InferenceSession(files / "m.onnx", providers=["CPUExecutionProvider"])
    off = whole = 0.0
    with tilewright.load(path, threads=1) as session:
        for x in HELD:
            (want,), (got,) = (s.run(None, {"x": x}) for s in (reference, session))
            off += float(np.sum((got.astype(np.float64) - want) ** 2))
            whole += float(np.sum(want.astype(np.float64) ** 2))
    return np.sqrt(off / whole)


@pytest.fixture(scope="module")
def coded(files):
    keep = dict.fromkeys(("first", "second", "across"), FORMAT)
    return compiled(files, "coded.tw", max_error=0.2, keep=keep)


def test_convolutions_take_the_format_that_they_are_given(files, coded):
    path, plan = coded
    (variant,) = plan["variants"].values()
    formats = {source.split(", ")[0]: made for source, made in variant["formats"].items()}
    assert {node: formats[node] for node in ("first", "second", "across")} == dict.fromkeys(
        ("first", "second", "across"), FORMAT
    )
    assert formats["apart"] in ("f32", "bf16")  # of groups there are no such kernels
    (predicted,) = plan["contract"]["predicted"]
    error = measured(files, path)
    assert error == pytest.approx(plan["contract"]["measured"][0], rel=1e-3)
    assert predicted / 1.5 < error < 1.5 * predicted
    assert 0.002 < error < 0.05


def test_a_bound_is_kept_and_rejected_formats_have_reasons(files, coded):
    bound = 0.5 * float(measured(files, coded[0]))
    path, plan = compiled(files, "kept.tw", max_error=bound)
    assert measured(files, path) <= bound
    (variant,) = plan["variants"].values()
    rows = {
        row["numerics"]
        for choice in variant["selection"]["choices"]
        if "second" in choice["sources"][0].split(", ")
        for row in choice["candidates"]
    }
    assert {FORMAT, "f32"} <= rows


def test_a_plan_with_the_format_needs_samples(files, coded):
    with pytest.raises(UserError) as refusal:
        tilewright.compile(files / "m.onnx", files / "no.tw", plan=str(coded[0]), max_error=0.2)
    assert "w8a8-tensor is fitted to samples\n  try: give samples by --calibrate" in str(
        refusal.value
    )


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_targets_without_tiles_have_the_same_codes(files, coded, target):
    _, plan = coded
    keep = dict.fromkeys(("first", "second", "across"), FORMAT)
    path, other = compiled(files, f"{target}.tw", max_error=0.2, keep=keep, target=target)
    assert other["contract"]["measured"][0] == pytest.approx(
        plan["contract"]["measured"][0], rel=0.05
    )
    assert measured(files, path) < 0.05
