"""Models whose weights are 8-bit floats: they are imported as what they are."""

import json
import zipfile

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright

TYPES = {
    "e4m3": (ml_dtypes.float8_e4m3fn, TensorProto.FLOAT8E4M3FN),
    "e5m2": (ml_dtypes.float8_e5m2, TensorProto.FLOAT8E5M2),
}
K, N = 100, 70
RANDOM = np.random.default_rng(5)
RAW = RANDOM.standard_normal((K, N)).astype(np.float32) * 4


def model(kind: str, raw: np.ndarray, scales: np.ndarray | None, axis: int = 1) -> bytes:
    """y = x W, W of 8-bit floats through DequantizeLinear, or Cast without scales."""
    dtype, number = TYPES[kind]
    codes = raw.astype(dtype)
    tensor = helper.make_tensor("q", number, raw.shape, codes.tobytes(), raw=True)
    initializers = [tensor]
    if scales is None:
        bring = helper.make_node("Cast", ["q"], ["w"], to=TensorProto.FLOAT)
    else:
        initializers.append(numpy_helper.from_array(scales, "s"))
        bring = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=axis)
    graph = helper.make_graph(
        [bring, helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "floats",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", raw.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", raw.shape[1]])],
        initializers,
    )
    opset = helper.make_opsetid("", 20)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return onnx.load_from_string(made.SerializeToString()).SerializeToString()


def compiled(source: bytes, path, **options):
    tilewright.compile(source, path, jobs=0, **options)
    with zipfile.ZipFile(path) as archive:
        plan = json.loads(archive.read("plan.json"))
        size = archive.getinfo("weights.safetensors").file_size
    (variant,) = plan["variants"].values()
    return [launch["operation"] for launch in variant["launches"]], size


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("scaled", ["columns", "one", "none"])
def test_products_read_the_models_own_numbers(kind, scaled, tmp_path):
    dtype, _ = TYPES[kind]
    scales = {
        "columns": RANDOM.random(N).astype(np.float32) + np.float32(0.01),
        "one": np.array(0.3, np.float32),
        "none": None,
    }[scaled]
    path = tmp_path / "m.tw"
    kernels, size = compiled(model(kind, RAW, scales), path)
    assert kernels == ["f8_coded_matmul"]
    assert K * N < size < 128 * 96 + 4 * 96 + 1024
    stored = RAW.astype(dtype).astype(np.float64) * (1 if scales is None else scales)
    for rows in (1, 5, 40):
        x = RANDOM.standard_normal((rows, K)).astype(np.float32)
        with tilewright.load(path, 1) as session:
            (found,) = session.run(None, {"x": x})
        np.testing.assert_allclose(found, x @ stored, rtol=1e-5, atol=1e-4)


def test_an_error_bound_lets_inputs_be_rounded(tmp_path):
    path = tmp_path / "m.tw"
    kernels, _ = compiled(model("e4m3", RAW, None), path, max_error=1e-2)
    assert kernels == ["f8_coded_matmul"]
    x = RANDOM.standard_normal((40, K)).astype(np.float32)
    with tilewright.load(path, 1) as session:
        (found,) = session.run(None, {"x": x})
    expected = x @ RAW.astype(TYPES["e4m3"][0]).astype(np.float64)
    assert np.linalg.norm(found - expected) <= 4e-3 * np.linalg.norm(expected)


def test_what_is_no_column_scale_or_not_finite_stays_f32(tmp_path):
    rows = RANDOM.random(K).astype(np.float32)
    kernels, _ = compiled(model("e4m3", RAW, rows, axis=0), tmp_path / "rows.tw")
    assert kernels[-1:] == ["f32_matmul"] or "f8_coded_matmul" not in kernels
    odd = RAW.copy()
    odd[3, 4] = np.nan
    path = tmp_path / "odd.tw"
    kernels, _ = compiled(model("e4m3", odd, None), path)
    assert "f8_coded_matmul" not in kernels
    with tilewright.load(path, 1) as session:
        (found,) = session.run(None, {"x": np.ones((2, K), np.float32)})
    assert np.isnan(found[:, 4]).all()
    assert np.isfinite(np.delete(found, 4, axis=1)).all()
