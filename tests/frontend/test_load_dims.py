"""Symbolic dimensions: names, bounds, merging, run-time shapes, and what is refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilewright.backends.reference import run
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx
from tilewright.runtime.errors import TilewrightError


def _model(nodes, inputs, outputs=("y",), constants=None, opset=20):
    """Inputs and outputs by name: a shape (f32), or ("i64", shape)."""

    def info(name, spec):
        code = TensorProto.FLOAT
        if isinstance(spec, tuple) and spec and spec[0] == "i64":
            code, spec = TensorProto.INT64, spec[1]
        return helper.make_tensor_value_info(name, code, spec)

    made = [helper.make_node(n[0], n[1], n[2], **(n[3] if len(n) > 3 else {})) for n in nodes]
    outs = outputs if isinstance(outputs, dict) else dict.fromkeys(outputs)
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(
        made,
        "g",
        [info(k, v) for k, v in inputs.items()],
        [info(k, v) for k, v in outs.items()],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    return model


def _types(graph):
    return [str(v.type) for v in graph.outputs]


def test_named_dimensions_become_symbols_and_unnamed_get_a_name():
    model = _model([("Relu", ["x"], ["y"])], {"x": ["batch", None, 3]})
    graph = load_onnx(model)
    assert _types(graph) == ["f32[batch, x_1, 3]"]
    assert graph.symbols["batch"].source == ("shape", 0, 0)
    assert graph.symbols["x_1"].source == ("shape", 0, 1)
    assert graph.bounds == {"batch": (1, None), "x_1": (1, None)}


def test_names_become_identifiers_without_collisions():
    model = _model([("Relu", ["x"], ["y"])], {"x": ["a b", "a-b", "7"]})
    assert _types(load_onnx(model)) == ["f32[a_b, a_b_1, 7]"]


def test_a_dimension_may_be_an_expression_of_others():
    nodes = [("Relu", ["x"], ["y"]), ("Relu", ["z"], ["w"])]
    model = _model(nodes, {"x": ["past + 2*n", 4], "z": ["past", "n"]}, ["y", "w"])
    graph = load_onnx(model)
    assert _types(graph) == ["f32[2*n + past, 4]", "f32[past, n]"]
    assert set(graph.symbols) == {"past", "n"}


@pytest.mark.parametrize(
    ("option", "types", "bounds"),
    [
        ({"n": "4"}, "f32[4, m]", {"m": (1, None)}),
        ({"n": 4}, "f32[4, m]", {"m": (1, None)}),
        ({"n": "0..8"}, "f32[n, m]", {"n": (0, 8), "m": (1, None)}),
        ({"n": "2.."}, "f32[n, m]", {"n": (2, None), "m": (1, None)}),
        ({"n": (2, 5), "m": "1..3"}, "f32[n, m]", {"n": (2, 5), "m": (1, 3)}),
    ],
)
def test_the_dims_option_fixes_and_bounds(option, types, bounds):
    graph = load_onnx(_model([("Relu", ["x"], ["y"])], {"x": ["n", "m"]}), option)
    assert _types(graph) == [types]
    assert graph.bounds == bounds


@pytest.mark.parametrize(
    "option", [{"k": "4"}, {"n": "x"}, {"n": "8..2"}, {"n": ".."}, {"n": "-3"}]
)
def test_bad_dims_options_are_refused(option):
    with pytest.raises(UserError):
        load_onnx(_model([("Relu", ["x"], ["y"])], {"x": ["n"]}), option)


def test_dimensions_that_must_be_equal_are_merged():
    model = _model([("Add", ["x", "z"], ["y"])], {"x": ["a", 3], "z": ["b", "c"]})
    graph = load_onnx(model, {"a": "1..8", "b": "2..9"})
    (result,) = _types(graph)
    (name,) = graph.symbols
    assert result == f"f32[{name}, 3]"
    assert graph.bounds[name] == (2, 8)
    assert [str(v.type) for v in graph.inputs] == [f"f32[{name}, 3]"] * 2


def test_merging_outside_the_bounds_is_refused():
    model = _model([("Add", ["x", "z"], ["y"])], {"x": ["a"], "z": [9]})
    with pytest.raises(UserError, match="outside its bounds"):
        load_onnx(model, {"a": "1..8"})


def test_a_table_bounds_the_dimension_that_reads_it():
    nodes = [
        ("Shape", ["x"], ["s"], {"start": 1}),
        ("Slice", ["table", "zero", "s", "zero"], ["part"]),
        ("Add", ["x", "part"], ["y"]),
    ]
    constants = {"table": np.zeros((512,), np.float32), "zero": np.array([0])}
    graph = load_onnx(_model(nodes, {"x": ["batch", "seq"]}, constants=constants))
    assert _types(graph) == ["f32[batch, seq]"]
    assert graph.bounds["seq"] == (1, 512)
    assert graph.constraints == ()


def test_shape_arithmetic_is_folded():
    nodes = [
        ("Shape", ["x"], ["s"]),
        ("Gather", ["s", "zero"], ["n"]),
        ("Gather", ["s", "one"], ["m"]),
        ("Mul", ["n", "two"], ["double"]),
        ("Div", ["m", "two"], ["half"]),
        ("Concat", ["double", "half"], ["shape"], {"axis": 0}),
        ("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2])}
    model = _model(nodes, {"x": ["n", 8]}, constants=constants)
    assert _types(load_onnx(model)) == ["f32[2*n, 4]"]


def test_minus_one_with_symbols():
    constants = {"shape": np.array([0, -1, 4])}
    model = _model([("Reshape", ["x", "shape"], ["y"])], {"x": ["b", "s", 12]}, constants=constants)
    assert _types(load_onnx(model)) == ["f32[b, 3*s, 4]"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([2, 12], (2, 12)), ([-1, 6], (4, 6)), ([0, -1], (3, 8)), ([3, 8], (3, 8))],
)
def test_reshape_by_an_input(shape, expected):
    model = _model([("Reshape", ["x", "s"], ["y"])], {"x": [3, 8], "s": ("i64", [2])})
    graph = load_onnx(model)
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    (got,) = run(graph, {"x": x, "s": np.array(shape)})
    np.testing.assert_array_equal(got, x.reshape(expected))


def test_reshape_by_an_input_checks_the_number_of_elements():
    model = _model([("Reshape", ["x", "s"], ["y"])], {"x": [3, 8], "s": ("i64", [2])})
    with pytest.raises((TilewrightError, UserError)):
        run(load_onnx(model), {"x": np.zeros((3, 8), np.float32), "s": np.array([5, 5])})


@pytest.mark.parametrize(
    ("starts", "ends", "steps"),
    [
        ([0, 1], [3, 4], [1, 1]),
        ([-3, 0], [-1, 2**63 - 1], [1, 2]),
        ([4, -1], [0, -(2**63)], [-1, -3]),
        ([1, 5], [1000, 2], [3, -1]),
        ([3, 2], [1, 2], [1, 1]),
    ],
)
def test_slice_by_inputs(starts, ends, steps):
    names = ["starts", "ends", "axes", "steps"]
    inputs = {"x": ["n", 7], **dict.fromkeys(names, ("i64", [2]))}
    graph = load_onnx(_model([("Slice", ["x", *names], ["y"])], inputs))
    x = np.arange(35, dtype=np.float32).reshape(5, 7)
    given = {"x": x, "starts": starts, "ends": ends, "axes": [-2, 1], "steps": steps}
    feeds = {k: np.asarray(v) for k, v in given.items()}
    (got,) = run(graph, feeds)
    low = -(2**63)
    cuts = [
        slice(a, None if b == low else b, s) for a, b, s in zip(starts, ends, steps, strict=True)
    ]
    np.testing.assert_array_equal(got, x[cuts[0], cuts[1]])


@pytest.mark.parametrize("axes", [[0], [1], [-1]])
def test_reduction_axes_by_an_input(axes):
    inputs = {"x": [4, 4], "axes": ("i64", [1])}
    nodes = [("ReduceSum", ["x", "axes"], ["y"], {"keepdims": 0})]
    graph = load_onnx(_model(nodes, inputs, {"y": [4]}))
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    (got,) = run(graph, {"x": x, "axes": np.array(axes)})
    np.testing.assert_array_equal(got, x.sum(axis=axes[0]))


def test_reduction_axes_that_do_not_fit_the_declared_shape_stop_the_run():
    inputs = {"x": [4, 3], "axes": ("i64", [1])}
    nodes = [("ReduceSum", ["x", "axes"], ["y"], {"keepdims": 0})]
    graph = load_onnx(_model(nodes, inputs, {"y": [4]}))
    with pytest.raises((TilewrightError, UserError)):
        run(graph, {"x": np.zeros((4, 3), np.float32), "axes": np.array([0])})


@pytest.mark.parametrize(("start", "limit", "step"), [(0, 7, 2), (5, -4, -3), (3, 3, 1), (4, 1, 1)])
def test_range_by_inputs(start, limit, step):
    inputs = {"a": ("i64", []), "b": ("i64", []), "c": ("i64", [])}
    nodes = [("Range", ["a", "b", "c"], ["y"])]
    graph = load_onnx(_model(nodes, inputs, {"y": ("i64", [None])}))
    feeds = {k: np.array(v) for k, v in zip("abc", (start, limit, step), strict=True)}
    (got,) = run(graph, feeds)
    np.testing.assert_array_equal(got, np.arange(start, limit, step))


def test_expand_by_an_input_checks_what_broadcasts():
    model = _model([("Expand", ["x", "s"], ["y"])], {"x": [3, 1], "s": ("i64", [2])})
    graph = load_onnx(model)
    x = np.arange(3, dtype=np.float32).reshape(3, 1)
    (got,) = run(graph, {"x": x, "s": np.array([1, 4])})
    np.testing.assert_array_equal(got, np.broadcast_to(x, (3, 4)))
    with pytest.raises((TilewrightError, UserError)):
        run(graph, {"x": x, "s": np.array([2, 4])})


def test_shapes_computed_from_data_are_refused():
    nodes = [("NonZero", ["x"], ["n"]), ("ReduceSum", ["n"], ["t"], {"keepdims": 0}),
             ("Unsqueeze", ["t", "zero"], ["s"]), ("ConstantOfShape", ["s"], ["y"])]  # fmt: skip
    model = _model(nodes, {"x": ["n"]}, constants={"zero": np.array([0])})
    with pytest.raises(UserError, match="computed from data"):
        load_onnx(model)


def test_sizes_that_differ_are_refused():
    model = _model([("Add", ["x", "z"], ["y"])], {"x": [3], "z": [4]})
    with pytest.raises(UserError, match="3 and 4 differ"):
        load_onnx(model)
