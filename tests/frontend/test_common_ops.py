"""The common operators, imported and interpreted, against ONNX Runtime."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilewright.backends.reference import run
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx

rng = np.random.default_rng(7)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return (rng.random(shape) + 0.5).astype(np.float32)


def ints(low, high, *shape):
    return rng.integers(low, high, shape)


@dataclass
class Case:
    """One node: run-time operands, constant operands by position, attributes."""

    op: str
    operands: list
    constants: dict = field(default_factory=dict)
    attributes: dict = field(default_factory=dict)
    opset: int = 20
    outputs: int = 1


def C(op, *operands, constants=None, opset=20, outputs=1, **attributes):
    return Case(op, list(operands), constants or {}, attributes, opset, outputs)


def build(case, symbolic=False):
    names, feeds, weights = [], {}, []
    total = len(case.operands) + len(case.constants)
    rest = iter(case.operands)
    for i in range(total):
        array = case.constants[i] if i in case.constants else next(rest)
        if array is None:
            names.append("")
            continue
        names.append(f"i{i}")
        if i in case.constants:
            weights.append(numpy_helper.from_array(np.asarray(array), f"i{i}"))
        else:
            feeds[f"i{i}"] = np.asarray(array)
    outputs = [f"o{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, **case.attributes)
    infos = []
    for name, array in feeds.items():
        code = helper.np_dtype_to_tensor_dtype(array.dtype)
        sizes = [f"d{d}" if symbolic and d > 1 else d for d in array.shape]
        infos.append(helper.make_tensor_value_info(name, code, sizes))
    outs = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([node], "g", infos, outs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])
    model.ir_version = 10
    return model, feeds


def expected(model, feeds):
    known = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(known.SerializeToString())
    return session.run(None, feeds)


CASES = [
    C("Add", normal(2, 3), normal(3)),
    C("Sub", normal(2, 1, 3), normal(4, 1)),
    C("Div", ints(-9, 9, 6), ints(1, 4, 6)),
    C("Mod", ints(-9, 9, 6), ints(1, 4, 6)),
    C("Mod", normal(6), positive(6), fmod=1),
    C("Pow", positive(4), np.float32(1.5)),
    C("Pow", ints(-3, 4, 5), np.array(2)),
    C("BitShift", ints(0, 99, 4).astype(np.uint8), np.uint8([1, 2, 3, 4]), direction="RIGHT"),
    C("BitwiseXor", ints(-50, 99, 4).astype(np.int32), ints(-50, 99, 4).astype(np.int32)),
    C("Max", normal(3), normal(2, 3), normal(1, 1)),
    C("Mean", normal(3), normal(2, 3), normal(1, 3)),
    C("Where", ints(0, 2, 2, 1).astype(bool), normal(3), normal(2, 3)),
    C("Equal", ints(0, 2, 6).astype(bool), ints(0, 2, 6).astype(bool)),
    C("LessOrEqual", normal(6), normal(6), opset=16),
    C("PRelu", normal(2, 3, 4), positive(3, 1)),
    C("Clip", normal(8), np.float32(-0.5), np.float32(0.5)),
    C("Clip", normal(8), constants={1: None, 2: np.float32(0.1)}),
    C("Clip", normal(8), opset=6, min=-0.25),
    *[C(op, normal(9)) for op in ("Abs", "Neg", "Sign", "Relu", "Exp", "Erf", "Tanh", "Sin")],
    *[C(op, positive(9)) for op in ("Sqrt", "Log", "Reciprocal", "Acosh")],
    *[C(op, normal(9)) for op in ("Ceil", "Floor", "Round", "Sigmoid", "Softplus", "Softsign")],
    *[C(op, normal(9) * 3) for op in ("Elu", "Selu", "LeakyRelu", "HardSigmoid", "Celu")],
    C("HardSwish", normal(9) * 3),
    C("Cos", normal(9)),
    C("Elu", np.float32([-200, -1, 0, 200]), alpha=0.3),
    C("ThresholdedRelu", normal(9), alpha=0.2),
    C("Mish", normal(9)),
    C("Shrink", normal(9), lambd=0.3, bias=0.1),
    C("Gelu", normal(9)),
    C("Gelu", normal(9), approximate="tanh"),
    C("IsInf", np.float32([np.inf, -np.inf, 0]), detect_negative=0),
    C("IsNaN", np.float32([np.nan, 1])),
    C("Cast", normal(6) * 9, to=TensorProto.INT32),
    C("Cast", np.float32([0, 0.3, -2]), to=TensorProto.BOOL),
    C("CastLike", normal(6) * 9, np.int64([1])),
    C("Reshape", normal(2, 3, 4), constants={1: np.array([0, -1])}),
    C("Flatten", normal(2, 3, 4), axis=2),
    C("Transpose", normal(2, 3, 4)),
    C("Transpose", normal(2, 3, 4), perm=[1, 2, 0]),
    C("Squeeze", normal(2, 1, 3, 1), constants={1: np.array([-1])}),
    C("Squeeze", normal(2, 1, 3, 1)),
    C("Unsqueeze", normal(2, 3), constants={1: np.array([0, -1])}),
    C("Unsqueeze", normal(2, 3), opset=11, axes=[1]),
    C("Expand", normal(3, 1), constants={1: np.array([2, 1, 4])}),
    C("Tile", normal(2, 3), constants={1: np.array([2, 3])}),
    C("Concat", normal(2, 3), normal(2, 1), axis=-1),
    C("Split", normal(7, 2), outputs=3, num_outputs=3),
    C("Split", normal(2, 7), constants={1: np.array([3, 4])}, outputs=2, axis=1),
    C("Split", normal(6), opset=11, outputs=2),
    C("Slice", normal(5, 6), constants={1: np.array([1]), 2: np.array([-1]), 3: np.array([1])}),
    C("Slice", normal(5, 6), constants={
        1: np.array([-1, 9]), 2: np.array([-99, 0]), 3: np.array([0, 1]), 4: np.array([-2, -3])}),
    C("Slice", normal(5, 6), opset=9, starts=[0, 1], ends=[2, 2**31 - 1]),
    C("Pad", normal(2, 3), constants={1: np.array([1, 0, 0, 2]), 2: np.float32(7)}),
    C("Pad", normal(3, 4), constants={1: np.array([1, 2, 2, 0])}, mode="reflect"),
    C("Pad", normal(3, 4), constants={1: np.array([1, 2, 2, 0])}, mode="edge"),
    C("Pad", normal(3, 4), constants={1: np.array([1, 1]), 2: None, 3: np.array([-1])}),
    C("Shape", normal(2, 3, 4), start=1),
    C("Size", normal(2, 3, 4)),
    C("ConstantOfShape", constants={0: np.array([2, 3])}),
    C("Range", constants={0: np.float32(1), 1: np.float32(4), 2: np.float32(0.75)}),
    C("EyeLike", normal(3, 4), k=1, dtype=TensorProto.INT32),
    C("Trilu", normal(2, 3, 4), np.array(1), upper=0),
    C("DepthToSpace", normal(1, 8, 2, 3), blocksize=2),
    C("DepthToSpace", normal(1, 8, 2, 3), blocksize=2, mode="CRD"),
    C("SpaceToDepth", normal(1, 2, 4, 6), blocksize=2),
    C("ReverseSequence", normal(4, 3, 2), np.array([1, 4, 3])),
    C("ReverseSequence", normal(3, 4), np.array([1, 4, 3]), batch_axis=0, time_axis=1),
    C("Dropout", normal(4)),
    C("MatMul", normal(2, 3), normal(3, 4)),
    C("MatMul", normal(3), normal(3)),
    C("MatMul", normal(5, 2, 3), normal(3, 4)),
    C("MatMul", normal(5, 1, 2, 3), normal(1, 6, 3, 4)),
    C("MatMul", normal(1, 2, 3), normal(7, 3, 4)),
    C("MatMul", normal(3), normal(2, 3, 4)),
    C("Gemm", normal(3, 2), normal(4, 3), normal(4), transA=1, transB=1, alpha=0.5, beta=2.0),
    C("Gemm", normal(2, 3), normal(3, 4), normal(2, 1)),
    C("MatMulInteger", ints(0, 255, 3, 4).astype(np.uint8), ints(-128, 127, 4, 5).astype(np.int8),
      np.uint8(3), np.int8([1, -2, 3, 0, 5])),
    C("Einsum", normal(2, 3), normal(3, 4), equation="ij,jk->ki"),
    C("Einsum", normal(3, 3), equation="ii->i"),
    C("Einsum", normal(3, 3), equation="ii"),
    C("Einsum", normal(5, 2, 3), normal(5, 3, 4), equation="...ij,...jk->...ik"),
    C("Einsum", normal(2, 3), normal(4), equation="ij,k->ikj"),
    C("Einsum", normal(2, 3), normal(3, 4), normal(4, 2), equation="ij,jk,kl->il"),
    C("Einsum", normal(2, 3, 4), equation="ijk->kj"),
    *[C(op, normal(2, 3, 4), constants={1: np.array([0, -1])}) for op in (
        "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
        "ReduceSumSquare", "ReduceLogSumExp")],
    C("ReduceLogSum", positive(2, 3), constants={1: np.array([1])}, keepdims=0),
    C("ReduceSum", normal(2, 3)),
    C("ReduceSum", normal(2, 3), constants={1: np.zeros(0, np.int64)}, noop_with_empty_axes=1),
    C("ReduceMean", normal(2, 3), opset=13, axes=[-1], keepdims=0),
    C("ArgMax", ints(0, 3, 4, 5).astype(np.float32), axis=1),
    C("ArgMin", ints(0, 3, 4, 5).astype(np.float32), axis=0, keepdims=0, select_last_index=1),
    C("CumSum", normal(3, 4), constants={1: np.array(1)}, reverse=1, exclusive=1),
    C("TopK", normal(3, 6), constants={1: np.array([2])}, outputs=2),
    C("TopK", normal(6, 3), constants={1: np.array([4])}, outputs=2, axis=0, largest=0),
    C("Gather", normal(4, 3), np.array([[0, -1], [2, 1]])),
    C("Gather", normal(4, 3), np.array(2), axis=1),
    C("GatherElements", normal(3, 3), np.array([[1, -1, 0], [2, 0, 0]])),
    C("GatherND", normal(2, 3, 4), np.array([[[1], [0]], [[2], [2]]]), batch_dims=1),
    C("ScatterElements", normal(3, 4), np.array([[1, 0]]), normal(1, 2), axis=1, reduction="add"),
    C("ScatterND", normal(4, 3), np.array([[1], [3]]), normal(2, 3)),
    C("OneHot", np.array([0, -1, 7]), constants={1: np.array(4), 2: np.float32([-1, 2])}, axis=0),
    C("NonZero", ints(0, 2, 3, 4).astype(np.float32)),
    C("Compress", normal(3, 4), np.array([True, False, True]), axis=1),
    C("Compress", normal(3, 4), np.array([False, True, True, False, True])),
]  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "symbolic"])
@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.op}" for i, c in enumerate(CASES)])
def test_operator_agrees_with_onnxruntime(case, symbolic):
    model, feeds = build(case)
    want = expected(model, feeds)
    graph = load_onnx(build(case, symbolic)[0])
    got = run(graph, feeds)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


def test_a_shared_weight_gives_a_plain_contraction():
    model, _ = build(C("MatMul", normal(5, 2, 3), constants={1: normal(3, 4)}), symbolic=True)
    (spec,) = [op.spec for op in load_onnx(model).ops if op.opname == "contract"]
    assert spec == "amk,kn->amn"


def test_broadcast_batches_leave_no_letter_with_two_sizes():
    model, _ = build(C("MatMul", normal(5, 1, 2, 3), normal(1, 6, 3, 4)))
    (spec,) = [op.spec for op in load_onnx(model).ops if op.opname == "contract"]
    assert spec == "amk,bkn->abmn"


def _graph(nodes, inputs, outputs):
    def info(pairs):
        return [helper.make_tensor_value_info(n, c, s) for n, c, s in pairs]

    graph = helper.make_graph(nodes, "body", info(inputs), info(outputs))
    return graph


F, I64, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def _check(nodes, inputs, outputs, feeds, weights=()):
    graph = _graph(nodes, inputs, outputs)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    imported = load_onnx(model)
    for a, b in zip(run(imported, feeds), want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return imported


@pytest.mark.parametrize("condition", [True, False])
def test_if_captures_outer_values(condition):
    then = _graph([helper.make_node("Relu", ["x"], ["t"])], [], [("t", F, ["n"])])
    other = _graph([helper.make_node("Neg", ["x"], ["e"])], [], [("e", F, ["n"])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    feeds = {"c": np.array(condition), "x": normal(4)}
    inputs = [("c", B, []), ("x", F, ["n"])]
    graph = _check([node], inputs, [("y", F, ["n"])], feeds)
    assert [op.opname for op in graph.ops] == ["if"]


def test_if_with_a_known_condition_keeps_one_branch():
    then = _graph([helper.make_node("Relu", ["x"], ["t"])], [], [("t", F, [4])])
    other = _graph([helper.make_node("Neg", ["x"], ["e"])], [], [("e", F, [4])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    weights = [("c", np.array(False))]
    graph = _check([node], [("x", F, [4])], [("y", F, [4])], {"x": normal(4)}, weights)
    assert [op.opname for op in graph.ops] == ["constant", "neg"]


def _loop_body(nodes, carried, pieces=()):
    inputs = [("i", I64, []), ("go", B, []), *carried]
    outputs = [("going", B, []), *((f"{n}_next", c, s) for n, c, s in carried), *pieces]
    keep = helper.make_node("Identity", ["go"], ["going"])
    names = {o for node in nodes for o in node.output}
    return _graph([*nodes, *([] if "going" in names else [keep])], inputs, outputs)


def test_loop_with_a_run_time_count_and_stacked_results():
    body = _loop_body(
        [helper.make_node("Add", ["a", "step"], ["a_next"]), helper.make_node("Neg", ["a"], ["p"])],
        [("a", F, [3])],
        [("p", F, [3])],
    )
    node = helper.make_node("Loop", ["count", "", "a0"], ["y", "stack"], body=body)
    inputs = [("count", I64, []), ("a0", F, [3]), ("step", F, [3])]
    for count in (0, 1, 4):
        feeds = {"count": np.array(count), "a0": normal(3), "step": normal(3)}
        _check([node], inputs, [("y", F, [3]), ("stack", F, [None, 3])], feeds)


def test_loop_that_stops_by_its_condition():
    body = _loop_body(
        [
            helper.make_node("Add", ["a", "one"], ["a_next"]),
            helper.make_node("Less", ["a_next", "limit"], ["going"]),
        ],
        [("a", F, [])],
    )
    node = helper.make_node("Loop", ["", "start", "a0"], ["y"], body=body)
    inputs = [("a0", F, []), ("limit", F, [])]
    weights = [("start", np.array(True)), ("one", np.float32(1))]
    feeds = {"a0": np.array(0.5, np.float32), "limit": np.array(3.2, np.float32)}
    _check([node], inputs, [("y", F, [])], feeds, weights)


def test_loop_whose_carried_shape_grows_is_unrolled():
    body = _loop_body(
        [helper.make_node("Concat", ["a", "x"], ["a_next"], axis=0)], [("a", F, [None])]
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)
    weights = [("count", np.array(3))]
    graph = _check([node], [("x", F, [2])], [("y", F, [None])], {"x": normal(2)}, weights)
    assert [str(v.type) for v in graph.outputs] == ["f32[8]"]


def test_scan_in_both_directions():
    body = _graph(
        [
            helper.make_node("Add", ["s", "e"], ["s_next"]),
            helper.make_node("Mul", ["s", "e"], ["p"]),
        ],
        [("s", F, [2]), ("e", F, [2])],
        [("s_next", F, [2]), ("p", F, [2])],
    )
    node = helper.make_node(
        "Scan", ["s0", "x"], ["last", "stack"], body=body, num_scan_inputs=1,
        scan_input_directions=[1], scan_output_directions=[1], scan_input_axes=[1],
    )  # fmt: skip
    feeds = {"s0": normal(2), "x": normal(2, 5)}
    inputs = [("s0", F, [2]), ("x", F, [2, "t"])]
    _check([node], inputs, [("last", F, [2]), ("stack", F, ["t", 2])], feeds)


REFUSED = [
    (C("MatMul", normal(2, 3), normal(4, 5)), "3 and 4 differ"),
    (C("Reshape", normal(2, 3), constants={1: np.array([-1, -1])}), "more than one"),
    (C("Transpose", normal(2, 3), perm=[0, 0]), "repeat"),
    (C("Concat", normal(2, 3), normal(3, 3), axis=1), "differ"),
    (C("Gather", normal(2, 3), np.array([0]), axis=2), "out of range"),
    (C("Add", normal(2), ints(0, 2, 2)), "different element types"),
    (C("TopK", normal(3), constants={1: np.array([9])}, outputs=2), "greater than the axis"),
    (C("Squeeze", normal(2, 3), constants={1: np.array([0])}), "differ"),
    (C("Einsum", normal(2, 3), equation="ij,jk->ik"), "does not fit 1 operands"),
    (C("Add", normal(2)), "wrong number of inputs"),
    (C("Dropout", normal(2), constants={1: np.float32(0.5), 2: np.array(True)}), "training mode"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED, ids=[c.op for c, _ in REFUSED])
def test_models_that_do_not_fit_are_refused(case, message):
    with pytest.raises(UserError, match=message):
        load_onnx(build(case)[0])
