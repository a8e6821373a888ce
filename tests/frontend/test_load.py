"""Parsing: dtypes, laziness, external data, functions, and everything that must be refused."""

import random
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.ops.leaf import Constant


def _value(name, dims=(2,), code=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, code, dims)


def _model(nodes, inputs, outputs, initializers=(), opset=20, **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, **more)
    model.ir_version = 10
    return model


def _with_weight(array, name="w"):
    weight = numpy_helper.from_array(array, name)
    node = helper.make_node("Identity", [name], ["y"])
    return _model([node], [], [_value("y", array.shape, weight.data_type)], [weight])


def _constants(graph):
    return [graph.weights.array(op.name) for op in graph.ops if isinstance(op, Constant)]


DTYPES = [
    "float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz,
    ml_dtypes.float8_e8m0fnu, ml_dtypes.float4_e2m1fn, ml_dtypes.int4, ml_dtypes.uint4,
    ml_dtypes.int2, ml_dtypes.uint2,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.dtype(d) for d in DTYPES], ids=str)
def test_initializers_of_every_type_are_decoded(dtype):
    codes = np.random.default_rng(0).integers(0, 2, (3, 5))
    array = codes.astype(np.float32).astype(dtype)
    (found,) = _constants(load_onnx(_with_weight(array)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize(
    ("code", "values", "expected"),
    [
        (TensorProto.FLOAT16, [0x3C00, 0xC000], np.float16([1, -2])),
        (TensorProto.BFLOAT16, [0x3F80, 0xC000], np.float32([1, -2]).astype(ml_dtypes.bfloat16)),
        (TensorProto.INT8, [-1, 5], np.int8([-1, 5])),
        (TensorProto.BOOL, [1, 0], np.array([True, False])),
        (TensorProto.INT4, [0x5F], np.array([-1, 5]).astype(ml_dtypes.int4)),
        (TensorProto.UINT2, [0b1110], np.array([2, 3]).astype(ml_dtypes.uint2)),
    ],
)
def test_values_in_int32_data_are_bit_patterns(code, values, expected):
    tensor = TensorProto(data_type=code, dims=[2], name="w", int32_data=values)
    node = helper.make_node("Identity", ["w"], ["y"])
    graph = load_onnx(_model([node], [], [_value("y", [2], code)], [tensor]))
    (found,) = _constants(graph)
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_large_weights_stay_in_the_file(tmp_path):
    array = np.arange(5000, dtype=np.float32)
    path = tmp_path / "m.onnx"
    onnx.save(_with_weight(array), path)
    (found,) = _constants(load_onnx(path))
    base = found
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap | memoryview) or hasattr(base, "obj")
    assert not found.flags.owndata
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, array)


def test_path_bytes_and_proto_give_the_same_program(tmp_path):
    model = _with_weight(np.arange(5000, dtype=np.float32))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    sources = [path, str(path), path.read_bytes(), model]
    graphs = [load_onnx(source) for source in sources]
    assert {tuple(str(v.type) for v in g.outputs) for g in graphs} == {("f32[5000]",)}
    for graph in graphs:
        np.testing.assert_array_equal(_constants(graph)[0], np.arange(5000))


def test_truncated_and_random_bytes_are_refused():
    data = _with_weight(np.arange(2000, dtype=np.float32)).SerializeToString()
    rng = random.Random(1)
    for length in [0, 1, *range(2, len(data) - 1, 211)]:
        with pytest.raises(UserError):
            load_onnx(data[:length])
    for _ in range(200):
        with pytest.raises(UserError):
            load_onnx(rng.randbytes(rng.randrange(1, 300)))


def test_damaged_bytes_never_escape_as_other_errors():
    data = bytearray(_with_weight(np.arange(300, dtype=np.float32)).SerializeToString())
    rng = random.Random(2)
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(3):
            changed[rng.randrange(80)] = rng.randrange(256)
        try:
            load_onnx(bytes(changed))
        except UserError:
            continue


@pytest.mark.parametrize("source", ["missing.onnx", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path, source):
    with pytest.raises(UserError, match=r"does not exist|is a folder"):
        load_onnx(tmp_path / source)


def test_a_tensor_that_claims_more_than_it_has_is_refused_before_allocation():
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[50_000, 50_000], name="w")
    tensor.raw_data = b"1234"
    node = helper.make_node("Identity", ["w"], ["y"])
    with pytest.raises(UserError, match="do not fill"):
        load_onnx(_model([node], [], [_value("y")], [tensor]))
    tensor.ClearField("raw_data")
    with pytest.raises(UserError, match="does not fill"):
        load_onnx(_model([node], [], [_value("y")], [tensor]))
    tensor.dims[0] = -1
    with pytest.raises(UserError, match="negative"):
        load_onnx(_model([node], [], [_value("y")], [tensor]))


def _external(tmp_path: Path, location: str, **entries: str) -> Path:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4], name="w")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    node = helper.make_node("Identity", ["w"], ["y"])
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "w.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = folder / "m.onnx"
    path.write_bytes(_model([node], [], [_value("y", [4])], [tensor]).SerializeToString())
    return path


def test_external_data_is_mapped(tmp_path):
    graph = load_onnx(_external(tmp_path, "sub/w.bin", offset="8", length="16"))
    (found,) = _constants(graph)
    np.testing.assert_array_equal(found, [2, 3, 4, 5])


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        ("../secret.bin", {}, "not allowed"),
        ("sub/../../secret.bin", {}, "not allowed"),
        ("/etc/passwd", {}, "not allowed"),
        ("", {}, "not allowed"),
        ("link.bin", {}, "leaves the model's folder"),
        ("missing.bin", {}, "cannot open"),
        ("sub", {}, "not a regular file"),
        ("sub/w.bin", {"offset": "16"}, "ends after its file"),
        ("sub/w.bin", {"offset": "-4"}, "bad offset"),
        ("sub/w.bin", {"length": "12"}, "wrong length"),
        ("sub/w.bin", {"offset": "9" * 30}, "bad offset"),
    ],
)
def test_external_data_outside_the_folder_or_file_is_refused(tmp_path, location, entries, message):
    with pytest.raises(UserError, match=message):
        load_onnx(_external(tmp_path, location, **entries))


def test_external_data_needs_a_folder(tmp_path):
    data = _external(tmp_path, "sub/w.bin").read_bytes()
    with pytest.raises(UserError, match="without a model folder"):
        load_onnx(data)


def test_nodes_in_any_order_are_sorted():
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    graph = load_onnx(_model(nodes, [_value("x")], [_value("y")]))
    assert [op.opname for op in graph.ops] == ["neg", "relu"]


REFUSED = {
    "cycle": ([("Relu", "a", "b"), ("Relu", "b", "a"), ("Relu", "x", "y")], "cycle"),
    "twice": ([("Relu", "x", "y"), ("Neg", "x", "y")], "computed twice"),
    "unknown operand": ([("Relu", "nothing", "y")], "does not exist"),
    "no producer": ([("Relu", "x", "z")], "not computed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_broken_graphs_are_refused(case):
    nodes, message = REFUSED[case]
    made = [helper.make_node(op, [a], [b]) for op, a, b in nodes]
    with pytest.raises(UserError, match=message):
        load_onnx(_model(made, [_value("x")], [_value("y")]))


def test_models_without_opset_or_outputs_or_from_the_future_are_refused():
    node = helper.make_node("Relu", ["x"], ["y"])
    model = _model([node], [_value("x")], [_value("y")])
    newer = onnx.ModelProto.FromString(model.SerializeToString())
    newer.opset_import[0].version = 999
    with pytest.raises(UserError, match="version is unknown"):
        load_onnx(newer)
    none = onnx.ModelProto.FromString(model.SerializeToString())
    del none.opset_import[:]
    with pytest.raises(UserError, match="imports no operator set"):
        load_onnx(none)
    other = onnx.ModelProto.FromString(model.SerializeToString())
    other.opset_import[0].domain = "elsewhere"
    with pytest.raises(UserError, match="does not import the domain"):
        load_onnx(other)
    del model.graph.output[:]
    with pytest.raises(UserError, match="no outputs"):
        load_onnx(model)


def test_all_unsupported_operators_are_in_one_error():
    nodes = [
        helper.make_node("RegexFullMatch", ["x"], ["a"], name="first", pattern="a"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="second", domain="my.ops"),
        helper.make_node("Frobnicate", ["b"], ["y"], name="third", domain="my.ops"),
    ]
    model = _model(nodes, [_value("x")], [_value("y")])
    model.opset_import.append(helper.make_opsetid("my.ops", 3))
    with pytest.raises(UserError) as error:
        load_onnx(model)
    text = str(error.value)
    assert "RegexFullMatch (opset 20) x1: first" in text
    assert "my.ops.Frobnicate (opset 3) x2: second, third" in text


def test_errors_name_the_node():
    node = helper.make_node("MatMul", ["x", "z"], ["y"], name="product")
    model = _model([node], [_value("x", [2, 3]), _value("z", [4, 5])], [_value("y")])
    with pytest.raises(UserError, match=r"model: node 'product' \(MatMul, opset 13\)"):
        load_onnx(model)


def _function(name, nodes, attributes=()):
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], nodes, imports, list(attributes))


def test_model_functions_are_inlined_with_their_attributes():
    elu = helper.make_node("Elu", ["a"], ["b"])
    elu.attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    call = helper.make_node("Mine", ["x"], ["y"], domain="f", slope=0.25)
    model = _model(
        [call], [_value("x")], [_value("y")], functions=[_function("Mine", [elu], ["slope"])]
    )
    model.opset_import.append(helper.make_opsetid("f", 1))
    graph = load_onnx(model)
    assert any(np.all(array == np.float32(0.25)) for array in _constants(graph))
    assert [str(v.type) for v in graph.outputs] == ["f32[2]"]
    assert all("/" in op.source for op in graph.ops)


def test_recursive_and_exploding_functions_are_refused():
    loop = _function("Mine", [helper.make_node("Mine", ["a"], ["b"], domain="f")])
    call = helper.make_node("Mine", ["x"], ["y"], domain="f")
    model = _model([call], [_value("x")], [_value("y")], functions=[loop])
    model.opset_import.append(helper.make_opsetid("f", 1))
    with pytest.raises(UserError, match="nest deeper"):
        load_onnx(model)


def test_operators_with_a_standard_body_need_no_importer():
    node = helper.make_node("CenterCropPad", ["x", "shape"], ["y"])
    shape = numpy_helper.from_array(np.array([4, 3]), "shape")
    graph = load_onnx(_model([node], [_value("x", [2, 5])], [_value("y", [4, 3])], [shape]))
    assert [str(v.type) for v in graph.outputs] == ["f32[4, 3]"]


def test_inputs_that_are_no_tensors_of_known_rank_are_refused():
    node = helper.make_node("Relu", ["x"], ["y"])
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    with pytest.raises(UserError, match="only tensors can be model inputs"):
        load_onnx(_model([node], [sequence], [_value("y")]))
    unranked = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    with pytest.raises(UserError, match="the rank is not declared"):
        load_onnx(_model([node], [unranked], [_value("y")]))
    text = _value("x", [2], TensorProto.STRING)
    with pytest.raises(UserError, match="string is not supported"):
        load_onnx(_model([node], [text], [_value("y")]))


def test_an_input_with_an_initializer_is_a_constant():
    weight = numpy_helper.from_array(np.float32([1, 2]), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = load_onnx(_model([node], [_value("x"), _value("w")], [_value("y")], [weight]))
    assert [v.name for v in graph.inputs] == ["x"]


def test_sparse_initializers_become_dense():
    sparse = onnx.SparseTensorProto(dims=[2, 3])
    sparse.values.CopyFrom(numpy_helper.from_array(np.float32([5, 7]), "w"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1, 5])))
    node = helper.make_node("Identity", ["w"], ["y"])
    model = _model([node], [], [_value("y", [2, 3])])
    model.graph.sparse_initializer.append(sparse)
    (found,) = _constants(load_onnx(model))
    np.testing.assert_array_equal(found, [[0, 5, 0], [0, 0, 7]])
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1, 6])))
    model.graph.sparse_initializer[0].CopyFrom(sparse)
    with pytest.raises(UserError, match="out of range"):
        load_onnx(model)
