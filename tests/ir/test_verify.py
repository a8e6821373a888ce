"""The verifier names what construction cannot see."""

import dataclasses

import pytest

from tilewright.compiler.errors import VerifyError
from tilewright.compiler.ir.core import Constraint, Graph, Region, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.verify import verify

GOOD = """graph @g(%x: f32[n], %y: f32[n]) {
  symbols {
    n: 1..8 shape(0, 0)
  }
  %1 = add %x, %y : f32[n]  @"node_add"
  %2 = exp %1 : f32[n]
  return %2
}
"""


@pytest.fixture
def graph() -> Graph:
    made = parse_graph(GOOD)
    verify(made)
    return made


def fails(graph: Graph) -> str:
    with pytest.raises(VerifyError) as error:
        verify(graph, "pass fuse-all")
    return str(error.value)


def test_use_before_definition(graph: Graph) -> None:
    message = fails(graph.replace(ops=graph.ops[::-1]))
    assert message.startswith("internal error in pass fuse-all: graph @g\n")
    assert "%2 = exp %1 : f32[n]" in message.replace("%1 = exp %2", "%2 = exp %1")
    assert "used before it is defined" in message


def test_the_source_node_is_named(graph: Graph) -> None:
    add = dataclasses.replace(graph.ops[0], b=Value(graph.inputs[0].type, "lost"))
    assert "from ONNX node 'node_add'" in fails(graph.replace(ops=(add,), outputs=(add.out,)))


def test_undeclared_symbol(graph: Graph) -> None:
    fill = Fill(value=1.0, type=TensorType(DType.F32, (sym("m"),)))
    assert "undeclared symbol 'm'" in fails(graph.replace(ops=(*graph.ops, fill)))


def test_reserved_symbol(graph: Graph) -> None:
    symbols = {**graph.symbols, "inf": graph.symbols["n"]}
    assert "symbol 'inf' is a reserved word" in fails(graph.replace(symbols=symbols))


def test_missing_constant(graph: Graph) -> None:
    constant = Constant(name="w", type=TensorType(DType.F32, (2,)))
    assert "there is no weight @w" in fails(graph.replace(ops=(*graph.ops, constant)))


def test_open_fused_region(graph: Graph) -> None:
    param = Value(graph.inputs[0].type, "p")
    inside = Add(a=param, b=graph.inputs[1])
    fused = Fused(inputs=(graph.inputs[0],), body=Region((param,), (inside,), (inside.out,)))
    message = fails(graph.replace(ops=(fused,), outputs=fused.results))
    assert "uses %y: f32[n], which is none of its parameters" in message


def test_output_names_are_unique(graph: Graph) -> None:
    twice = graph.replace(outputs=graph.outputs * 2, output_names=("y", "y"))
    assert "output name 'y' is not unique" in fails(twice)


def test_output_from_elsewhere(graph: Graph) -> None:
    lost = graph.replace(outputs=(Value(graph.inputs[0].type),))
    assert "output 'y0' is a value that no operation of the graph makes" in fails(lost)


def test_constraints_on_data(graph: Graph) -> None:
    data = dataclasses.replace(graph.symbols["n"], source=("data",))
    bad = graph.replace(
        symbols={**graph.symbols, "d": data}, constraints=(Constraint(sym("d"), 3, "no"),)
    )
    assert "constraint d depends on data" in fails(bad)


def test_an_operation_stands_twice(graph: Graph) -> None:
    assert "stands in the graph twice" in fails(graph.replace(ops=(*graph.ops, graph.ops[0])))
