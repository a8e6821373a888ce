"""`load_onnx`: an ONNX model to an IR graph, with the weights left in the file."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from onnx import TensorProto

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.importer import Blocks, Scope
from tilewright.compiler.frontend.inputs import DimOption, Inputs, read_inputs
from tilewright.compiler.frontend.parse import Model, Source, parse
from tilewright.compiler.frontend.signature import complaint
from tilewright.compiler.frontend.tensors import dense_weight, weight_of
from tilewright.compiler.frontend.unify import Bounded, Unified
from tilewright.compiler.ir.core import Constraint, Graph, Op, Symbol, Value, walk
from tilewright.compiler.ir.dims import Dim, Expr, substitute, sym, symbols
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import TensorType
from tilewright.compiler.ir.weights import Weight, WeightStore


def load_onnx(source: Source, dims: Mapping[str, DimOption] | None = None) -> Graph:
    """Import an ONNX model given as a path, as bytes or as a ModelProto.

    `dims` gives bounds or a fixed size for symbolic dimensions: `{"batch": "1..8", "seq": 128}`;
    a symbol has low bound 1 and no high bound by default. Inputs with an initializer of the same
    name are constants. Weights are views of the file (external data must lie in the model's
    folder). Dimensions that operators require to be equal are merged, or checked when the run
    starts (`Graph.constraints`).

    Raises UserError for anything wrong with the model, all unsupported operators in one.
    """
    model = parse(source)
    weights = _weights(model)
    equal: dict[str, Dim] = {}
    extra: dict[str, Symbol] = {}
    reasons: dict[str, str] = {}
    limits: dict[str, int] = {}
    while True:
        inputs = _inputs(model, dims or {}, equal, weights)
        for name, high in limits.items():
            symbol = inputs.symbols[name]
            inputs.symbols[name] = dataclasses.replace(symbol, high=high)
        ctx = Import(weights, {**inputs.symbols, **extra}, inputs.values, equal)
        try:
            return _run(model, inputs, ctx, reasons)
        except UserError:
            raise
        except Bounded as found:
            limits[found.symbol] = found.high
        except Unified as found:
            symbol = ctx.symbols[found.symbol]
            if symbol.source[0] == "value":
                extra[found.symbol] = symbol
                reasons[found.symbol] = found.message
            limits.pop(found.symbol, None)
            swap = {found.symbol: found.value}
            equal = {name: substitute(dim, swap) for name, dim in equal.items()} | swap
        except Exception as error:
            # An importer tripped: the model's fault if ONNX itself refuses the model, else ours.
            text = complaint(model.proto)
            if text is None:
                raise
            raise UserError(ctx.place(), "the model is not valid", text) from error


def _inputs(
    model: Model, dims: Mapping[str, DimOption], equal: Mapping[str, Dim], weights: WeightStore
) -> Inputs:
    infos = [i for i in model.proto.graph.input if i.name not in weights]
    return read_inputs(infos, dims, equal, model.name)


def _weights(model: Model) -> WeightStore:
    entries: dict[str, Weight] = {}
    for tensor, raw in zip(model.proto.graph.initializer, model.raws, strict=True):
        if tensor.data_type == TensorProto.STRING:
            continue  # an operator that reads it is refused by name
        where = f"{model.name}: initializer {tensor.name!r}"
        entries[tensor.name] = weight_of(tensor, where, model.files, raw)
    for sparse in model.proto.graph.sparse_initializer:
        where = f"{model.name}: sparse initializer {sparse.values.name!r}"
        if sparse.values.name in entries:
            raise UserError(where, "two initializers have this name")
        entries[sparse.values.name] = dense_weight(sparse, where, model.files)
    return WeightStore(entries)


def _run(model: Model, inputs: Inputs, ctx: Import, reasons: Mapping[str, str]) -> Graph:
    graph = model.proto.graph
    scope = Scope(model.opsets)
    blocks = Blocks(ctx, model.functions, model.files, inputs.params, model.name)
    blocks.declare(scope, [*graph.value_info, *graph.output])
    scope.values.update({v.name: v for v in inputs.values})
    for name, weight in ctx.builder.weights.items():
        value = ctx.emit(Constant, name=name, type=weight.type, source=name)
        value.name = name
        scope.values[name] = value
    blocks.run(graph.node, scope, model.name)
    outputs: list[Value] = []
    for info in graph.output:
        found = scope.values.get(info.name)
        if found is None:
            known = len(scope.values)
            what = f"output {info.name!r} is not computed by any node"
            raise UserError(model.name, what, f"{known} values are known")
        outputs.append(found)
    for name, reason in reasons.items():
        ctx.constraints.append(Constraint(sym(name), ctx.equal[name], reason))
    operations = tuple(ctx.builder.ops)
    constraints = tuple(ctx.constraints)
    used = _used_symbols(operations, inputs.values, constraints, ctx.symbols)
    return Graph(
        name=graph.name or model.name,
        inputs=inputs.values,
        ops=operations,
        outputs=tuple(outputs),
        output_names=tuple(o.name for o in graph.output),
        symbols={name: s for name, s in ctx.symbols.items() if name in used},
        weights=ctx.builder.weights.merged(ctx.builder.added),
        metadata=_metadata(model),
        constraints=constraints,
    )


def _metadata(model: Model) -> dict[str, str]:
    proto = model.proto
    out = {"opset": ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in model.opsets.items())}
    if proto.producer_name:
        out["producer"] = f"{proto.producer_name} {proto.producer_version}".strip()
    return out


def _used_symbols(
    operations: tuple[Op, ...],
    inputs: tuple[Value, ...],
    constraints: tuple[Constraint, ...],
    known: Mapping[str, Symbol],
) -> set[str]:
    used: set[str] = set()
    for value in inputs:
        used.update(*map(symbols, value.shape))
    for constraint in constraints:
        used |= symbols(constraint.left) | symbols(constraint.right)
    for op in walk(operations):
        for item in (*op.attributes.values(), *(r.type for r in op.results)):
            for dim in _dims_in(item):
                used |= symbols(dim)
    todo = list(used)
    while todo:
        bound = known[todo.pop()].bound
        more = symbols(bound) - used if bound is not None else set()
        used |= more
        todo.extend(more)
    return used


def _dims_in(item: Any) -> Iterator[Dim]:
    if isinstance(item, Expr):
        yield item
    elif isinstance(item, TensorType):
        yield from item.shape
    elif isinstance(item, tuple):
        for part in item:
            yield from _dims_in(part)
