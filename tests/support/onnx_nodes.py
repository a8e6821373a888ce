"""Models of one ONNX node, run by our reference interpreter and by ONNX's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tilewright.backends import reference
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph, walk

Arrays = Sequence[np.ndarray | None]


def model_of(
    op: str,
    inputs: Arrays,
    constants: Sequence[int] = (),
    symbolic: bool = False,
    outputs: int = 1,
    opset: int = 22,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; the inputs at `constants` are initializers.

    With `symbolic` every other dimension of the inputs has a name of its own.
    """
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    graph_inputs, initializers = [], []
    for i, (name, x) in enumerate(zip(names, inputs, strict=True)):
        if x is None:
            continue
        if i in constants:
            initializers.append(onnx.numpy_helper.from_array(x, name))
            continue
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        dims = [f"{name}_{axis}" if symbolic else d for axis, d in enumerate(x.shape)]
        graph_inputs.append(helper.make_tensor_value_info(name, kind, dims))
    results = [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "g", graph_inputs, results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run_both(op: str, inputs: Arrays, **options: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What we compute and what ONNX's reference computes."""
    model = model_of(op, inputs, **options)
    constants = options.get("constants", ())
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}
    found = reference.run(load_onnx(model), list(feeds.values()))
    expected = ReferenceEvaluator(model).run(None, feeds)
    return list(found), [np.asarray(e) for e in expected]


def check(op: str, inputs: Arrays, rtol: float = 2e-4, atol: float = 2e-5, **options: Any) -> None:
    for found, expected in zip(*run_both(op, inputs, **options), strict=True):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def op_names(graph: Graph) -> set[str]:
    return {op.opname for op in walk(graph.ops)}
