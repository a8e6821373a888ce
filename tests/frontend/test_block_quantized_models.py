"""MatMulNBits, GatherBlockQuantized and blocked DequantizeLinear beside ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from support.compiled_graph import build, run_artifact

from tilewright.backends.kernels.candidates import allowed
from tilewright.backends.kernels.coded_matmul import CodedMatmulTask
from tilewright.backends.llvm.lowering.lower import lower, lower_ops
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.backends.llvm.program import Place
from tilewright.backends.reference import run
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.driver import run_passes
from tilewright.compiler.errors import UserError
from tilewright.compiler.formats import named
from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.frontend.blocks import packed
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.passes.pipelines import PIPELINES

MS = "com.microsoft"
SHAPES = [(bits, block, k) for bits in (2, 4, 8) for block, k in ((16, 40), (32, 32), (64, 100))]
SHAPES += [(4, 128, 300), (8, 256, 256), (4, 32, 7)]
TARGET = next(t for t in reversed(TARGETS.values()) if t.name.startswith("x86") and runs_here(t))


def model_of(nodes, inputs, constants, dims=None) -> ModelProto:
    """`y` of `nodes`; inputs: name -> array, constants likewise."""
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in inputs.items()}
    given = [
        helper.make_tensor_value_info(k, kinds[k], (dims or {}).get(k, v.shape))
        for k, v in inputs.items()
    ]
    stored = [
        v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v), k)
        for k, v in constants.items()
    ]
    graph = helper.make_graph(nodes, "g", given, [helper.make_empty_tensor_value_info("y")], stored)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def by_onnxruntime(model: ModelProto, inputs) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)[0]


def random(bits: int, block: int, k: int, n: int, zeros: str, dtype=np.float32):
    """Constants of a MatMulNBits node and the matrix f64 [K, N] that they stand for."""
    rng = np.random.default_rng([bits, block, k, n])
    groups = -(-k // block)
    codes = rng.integers(0, 2**bits, (n, groups * block)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.1, (n, groups)).astype(dtype)
    points = np.full((n, groups), 2 ** (bits - 1), np.float64)
    found = {"B": packed(codes, bits).reshape(n, groups, -1), "s": scales}
    if zeros == "integers":
        points = rng.integers(0, 2**bits, points.shape).astype(np.float64)
        filled = np.zeros((n, -(-groups * bits // 8) * (8 // bits)), np.uint8)
        filled[:, :groups] = points
        found["z"] = packed(filled, bits)
    elif zeros == "floats":
        found["z"] = rng.uniform(0, 2**bits, points.shape).astype(dtype)
        points = found["z"].astype(np.float64)
    wide = [np.repeat(x.astype(np.float64), block, 1)[:, :k] for x in (points, scales)]
    return found, ((codes[:, :k] - wide[0]) * wide[1]).T


def nbits(bits, block, k, n, constants, bias=False, level=0, **more):
    names = ["x", "B", "s", "z" if "z" in constants else "", "", "b" if bias else ""]
    while not names[-1]:
        names.pop()
    return helper.make_node(
        "MatMulNBits", names, ["y"], name="product", domain=MS, K=k, N=n, bits=bits,
        block_size=block, accuracy_level=level, **more,
    )  # fmt: skip


def passes(model: ModelProto) -> Graph:
    return run_passes(load_onnx(model), PIPELINES["default"])


def relative(found: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(found - want) / np.linalg.norm(want))


@pytest.mark.parametrize("zeros", ["none", "integers", "floats"])
@pytest.mark.parametrize(("bits", "block", "k"), SHAPES)
def test_products_are_those_of_the_decoded_matrix(bits, block, k, zeros, tmp_path: Path) -> None:
    constants, w = random(bits, block, k, 37, zeros)
    model = model_of(
        [nbits(bits, block, k, 37, constants)], {"x": np.zeros((2, 5, k), np.float32)}, constants,
        {"x": ("b", "m", k)},
    )  # fmt: skip
    graph = passes(model)
    low = build(graph, tmp_path / "m.tw", TARGET)
    (question,) = low.state.choices.questions
    assert isinstance(question.task, CodedMatmulTask)
    assert {c.family.name for c in question.candidates} == {"coded_matmul"}
    for shape in ((1, 1, k), (2, 2, k), (2, 5, k)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        exact = x.astype(np.float64) @ w
        for found in (run(graph, [x])[0], run_artifact(tmp_path / "m.tw", graph, [x])[0]):
            assert relative(found, exact) < 1e-6
        if zeros != "floats" or bits == 4:
            assert relative(by_onnxruntime(model, {"x": x}), exact) < 1e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_bias_is_added_and_halves_are_computed_wide(dtype, tmp_path: Path) -> None:
    constants, w = random(4, 32, 70, 24, "integers", dtype)
    constants["b"] = np.random.default_rng(2).standard_normal(24).astype(dtype)
    x = np.random.default_rng(3).standard_normal((3, 70)).astype(dtype)
    model = model_of([nbits(4, 32, 70, 24, constants, bias=True)], {"x": x}, constants)
    graph = passes(model)
    low = build(graph, tmp_path / "m.tw", TARGET)
    assert [q.task.format.name for q in low.state.choices.questions] == [
        "w4a32-g32" if dtype == np.float16 else "w4a32-g32-s32"
    ]
    (found,) = run_artifact(tmp_path / "m.tw", graph, [x])
    exact = x.astype(np.float64) @ w + constants["b"]
    assert found.dtype == dtype
    assert relative(found, exact) < (3e-4 if dtype == np.float16 else 1e-6)
    assert relative(by_onnxruntime(model, {"x": x}), exact) < (
        2e-3 if dtype == np.float16 else 1e-5
    )


def test_projections_are_merged_with_their_codes(tmp_path: Path) -> None:
    nodes, constants, matrices = [], {}, []
    for i in range(3):
        given, w = random(4, 32, 64, 32 + 8 * i, "integers")
        names = {name: f"{name}{i}" for name in given}
        constants |= {names[name]: array for name, array in given.items()}
        node = nbits(4, 32, 64, 32 + 8 * i, given)
        node.input[:] = ["x", *(names[n] for n in ("B", "s", "z"))]
        node.output[:] = [f"p{i}"]
        nodes += [node, helper.make_node("Softmax", [f"p{i}"], [f"t{i}"])]
        matrices.append(w)
    nodes.append(helper.make_node("Concat", ["t0", "t1", "t2"], ["y"], axis=1))
    x = np.random.default_rng(3).standard_normal((4, 64)).astype(np.float32)
    graph = passes(model_of(nodes, {"x": x}, constants))
    low = build(graph, tmp_path / "m.tw", TARGET)
    *apart, together = sorted(low.state.choices.questions, key=lambda q: len(q.parts))
    assert [q.task.n for q in apart] == [32, 40, 48]
    assert isinstance(together.task, CodedMatmulTask)
    assert together.task.n == 32 + 40 + 48
    assert low.state.choices.launched == [together]
    parts = [np.exp(x.astype(np.float64) @ w) for w in matrices]
    want = np.concatenate([p / p.sum(axis=1, keepdims=True) for p in parts], axis=1)
    assert relative(run_artifact(tmp_path / "m.tw", graph, [x])[0], want) < 1e-5


@pytest.mark.parametrize("kind", ["i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("block", [16, 32, 0])
@pytest.mark.parametrize("axis", [0, 1])
def test_dequantized_blocks_are_read_as_codes(kind, block, axis, tmp_path: Path) -> None:
    rng = np.random.default_rng(block)
    bits, low = int(kind[1]), -(2 ** (int(kind[1]) - 1)) if kind[0] == "i" else 0
    codes = rng.integers(low, low + 2**bits, (70, 24) if axis == 0 else (24, 70))
    shape = list(codes.shape)
    shape[axis] = -(-70 // block) if block else 1
    zeros = rng.integers(low, low + 2**bits, shape)
    scales = rng.uniform(0.01, 0.1, shape).astype(np.float32)
    size = block or 70
    wide = [np.repeat(p, size, axis).take(range(70), axis) for p in (zeros, scales.astype(float))]
    w = (codes - wide[0]) * wide[1]
    if not block:
        zeros, scales = zeros.reshape(-1), scales.reshape(-1)
    number = {"i4": TensorProto.INT4, "u4": TensorProto.UINT4}.get(kind)
    number = number or {"i8": TensorProto.INT8, "u8": TensorProto.UINT8}[kind]
    stored = {"s": scales}
    for name, array in (("q", codes), ("z", zeros)):
        stored[name] = helper.make_tensor(name, number, array.shape, array.reshape(-1).tolist())
    attributes = {"axis": axis, "block_size": block} if block else {"axis": 1 - axis}
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes)]
    if axis:
        nodes.append(helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["x", "t" if axis else "w"], ["y"]))
    x = rng.standard_normal((3, 70)).astype(np.float32)
    model = model_of(nodes, {"x": x}, stored)
    graph = passes(model)
    lowered = build(graph, tmp_path / "m.tw", TARGET)
    (question,) = lowered.state.choices.questions
    assert isinstance(question.task, CodedMatmulTask) == (block > 0 or bits < 8)
    exact = x.astype(np.float64) @ (w.T if axis else w)
    assert relative(run_artifact(tmp_path / "m.tw", graph, [x])[0], exact) < 1e-6
    assert relative(by_onnxruntime(model, {"x": x}), exact) < 1e-5


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(
    ("kind", "bits", "axes"),
    [("u8", 4, (0, 1)), ("u8", 2, (0, 1)), ("u8", 8, (0, 1)), ("i4", 4, (0, 1)), ("u4", 4, (1, 0))],
)
def test_rows_of_coded_tables(kind, bits, axes, zeros, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits)
    gather, quantize = axes
    low = -8 if kind == "i4" else 0
    codes = rng.integers(low, low + 2**bits, (48, 96))
    shape = [48, 96]
    shape[quantize] = -(-shape[quantize] // 32)
    scales = rng.uniform(0.01, 0.1, shape).astype(np.float32)
    points = rng.integers(low, low + 2**bits, shape)
    if kind == "u8" and bits < 8:  # whole bytes
        points = np.pad(points, ((0, 0), (0, -points.shape[1] % (8 // bits))))
    stored = {"s": scales}
    for name, array in (("t", codes), ("z", points)):
        if kind == "u8":
            stored[name] = packed(array.astype(np.uint8), bits)
        else:
            number = TensorProto.INT4 if kind == "i4" else TensorProto.UINT4
            stored[name] = helper.make_tensor(name, number, array.shape, array.reshape(-1).tolist())
    names = ["t", "i", "s", "z"] if zeros else ["t", "i", "s"]
    if not zeros:
        del stored["z"]
    bits_of = {"bits": bits} if kind == "u8" else {}
    node = helper.make_node(
        "GatherBlockQuantized", names, ["y"], domain=MS, gather_axis=gather, quantize_axis=quantize,
        block_size=32, **bits_of,
    )  # fmt: skip
    at = np.array([[3, 0], [47, -1]])
    model = model_of([node], {"i": at}, stored)
    graph = passes(model)
    default = 2 ** (bits - 1) if kind == "u8" else 0
    used = points[:, : shape[1]] if zeros else np.full(shape, default)
    size = codes.shape[quantize]
    wide = [np.repeat(p, 32, quantize).take(range(size), quantize) for p in (used, scales)]
    want = ((codes - wide[0]) * wide[1].astype(np.float32)).take(at, gather)
    build(graph, tmp_path / "m.tw", TARGET)
    for found in (
        run(graph, [at])[0], run_artifact(tmp_path / "m.tw", graph, [at])[0],
        by_onnxruntime(model, {"i": at}),
    ):  # fmt: skip
        np.testing.assert_allclose(found, want, rtol=1e-6)
    outside = np.array([[1000, 0], [47, -1000]])
    (found,) = run_artifact(tmp_path / "m.tw", graph, [outside])
    moved = np.moveaxis(found, (gather, gather + 1), (0, 1))
    assert not moved[0, 0].any()
    assert not moved[1, 1].any()
    assert moved[0, 1].any()


def test_codes_take_few_bytes(tmp_path: Path) -> None:
    constants, _ = random(4, 32, 512, 512, "none")
    model = model_of(
        [nbits(4, 32, 512, 512, constants)], {"x": np.zeros((1, 512), np.float32)}, constants
    )
    build(passes(model), tmp_path / "m.tw", TARGET)
    assert (tmp_path / "m.tw").stat().st_size < 512 * 512 * (0.5 + 4 / 32) + (1 << 17)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bits": 3}, "codes of 3 bits"),
        ({"block": 24}, "block_size 24"),
        ({"weight_prepacked": 1}, "packed for a GPU"),
        ({"n": 38}, "B does not fit"),
        ({"g_idx": True}, "g_idx"),
    ],
)
def test_what_is_refused_says_why(change, says) -> None:
    constants, _ = random(4, 32, 64, 37, "none")
    node = nbits(
        change.get("bits", 4), change.get("block", 32), 64, change.get("n", 37), constants,
        **{k: v for k, v in change.items() if k == "weight_prepacked"},
    )  # fmt: skip
    if "g_idx" in change:
        constants["g"] = np.zeros(64, np.int32)
        node.input[:] = ["x", "B", "s", "", "g"]
    model = model_of([node], {"x": np.zeros((1, 64), np.float32)}, constants)
    with pytest.raises(UserError, match=says):
        load_onnx(model)


@pytest.mark.parametrize(("level", "bound", "reads"), [
    (0, None, set()),
    (1, None, set()),
    (2, None, set()),
    (0, 1e-2, {"w4-g32"}),
    (3, None, {"w4-g32"}),
    (4, None, {"w4-g32", "w4a8b32-g32"}),
])  # fmt: skip
def test_the_accuracy_level_says_how_rows_may_be_read(level, bound, reads, tmp_path: Path) -> None:
    constants, w = random(4, 32, 128, 64, "integers")
    x = np.random.default_rng(3).standard_normal((3, 128)).astype(np.float32)
    graph = passes(model_of([nbits(4, 32, 128, 64, constants, level=level)], {"x": x}, constants))
    state = lower(graph, TARGET, bound)
    (question,) = state.choices.questions
    assert {c.format for c in question.candidates} == {"", *reads}
    assert {c.family.name for c in question.candidates if not c.format} == {"coded_matmul"}
    for candidate in question.candidates:
        answers = {question.key: candidate.spec}
        (stored,) = [p for _, p in relower(graph, bound, answers).weights.values()]
        held = candidate.family.unpack(stored.load(), candidate.spec)
        decoded = (named(candidate.format) if candidate.format else Blocks(4, 32)).decode(held)
        assert relative(decoded, w) < (3e-4 if candidate.format else 1e-7)
    build(graph, tmp_path / "m.tw", TARGET)
    found = relative(run_artifact(tmp_path / "m.tw", graph, [x])[0], x.astype(np.float64) @ w)
    assert found < {3: 5e-3, 4: 1.2e-2}.get(level, 1e-6)


def relower(graph: Graph, bound, answers) -> Lowering:
    low = Lowering(graph, TARGET, allowed(bound), answers)
    for index, value in enumerate(graph.inputs):
        strides = dense_strides(value.shape)
        low.views[value] = View(Place("input", index), value.dtype, value.shape, strides)
    lower_ops(low, graph.ops)
    return low
