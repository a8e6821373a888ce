"""Blocks of ONNX nodes to IR operations: graphs, subgraphs and function bodies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend import registry
from tilewright.compiler.frontend.attributes import Bindings, bind, decode
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.external import ExternalFiles
from tilewright.compiler.frontend.functions import FunctionKey, normal, schema_body, schema_of
from tilewright.compiler.frontend.inputs import hint_of
from tilewright.compiler.frontend.node import Hint, Node
from tilewright.compiler.frontend.order import sorted_nodes
from tilewright.compiler.frontend.signature import check_operands
from tilewright.compiler.frontend.tensors import array_of
from tilewright.compiler.ir.core import Region, TypeRule, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import TensorType

NODE_LIMIT = 1_000_000
"""Nodes imported at most, with functions and constant branches inlined."""
_DEPTH_LIMIT = 64


@dataclass
class Scope:
    """The names visible in a block; `parent` is the enclosing graph (None for functions)."""

    opsets: Mapping[str, int]
    parent: "Scope | None" = None
    bindings: Bindings = field(default_factory=dict)
    values: dict[str, Value | None] = field(default_factory=dict)
    hints: dict[str, Hint] = field(default_factory=dict)
    label: str = ""

    def find(self, name: str) -> Value | None:
        """The value called `name` in this block or around it; KeyError if there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        raise KeyError(name)

    def has(self, name: str) -> bool:
        """Whether `find` succeeds."""
        try:
            self.find(name)
        except KeyError:
            return False
        return True


class Blocks:
    """Imports blocks into one context; `scope` is the block being imported."""

    def __init__(
        self,
        ctx: Import,
        functions: Mapping[FunctionKey, FunctionProto],
        files: ExternalFiles,
        params: Mapping[str, Dim],
        model: str,
    ) -> None:
        self.ctx, self.functions, self.files = ctx, functions, files
        self.params, self.model = params, model
        self.scope = Scope({})
        self.count = 0
        self.depth = 0
        ctx.import_graph = self.region
        ctx.import_inline = self.inline

    def run(self, nodes: Sequence[NodeProto], scope: Scope, where: str) -> None:
        """Import `nodes`, in an order where every operand exists, into `scope`."""
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise UserError(where, f"subgraphs and functions nest deeper than {_DEPTH_LIMIT}")
        outer, outer_node, outer_source = self.scope, self.ctx.node, self.ctx.builder.source
        self.scope = scope
        ordered = sorted_nodes(nodes, scope.has, where)
        _spread_hints(ordered, scope.hints)
        for node in ordered:
            self.count += 1
            if self.count > NODE_LIMIT:
                raise UserError(where, f"more than {NODE_LIMIT} nodes after inlining functions")
            self._node(bind(node, scope.bindings))
        self.scope, self.ctx.node, self.ctx.builder.source = outer, outer_node, outer_source
        self.depth -= 1

    def region(self, graph: GraphProto, params: Sequence[TensorType]) -> Region:
        """A subgraph as a region with parameters of the given types."""
        outer = self.ctx.builder.ops
        self.ctx.builder.ops = []
        names = [i.name for i in graph.input]
        values = tuple(Value(t, n) for t, n in zip(params, names, strict=True))
        results = self.inline(graph, values)
        ops, self.ctx.builder.ops = tuple(self.ctx.builder.ops), outer
        return Region(values, ops, results)

    def inline(self, graph: GraphProto, arguments: Sequence[Value]) -> tuple[Value, ...]:
        """The nodes of a subgraph in the current block, its inputs bound to `arguments`."""
        scope = Scope(self.scope.opsets, self.scope, self.scope.bindings, label=self.scope.label)
        where = f"{self.ctx.place()}: subgraph {graph.name!r}"
        if len(graph.input) != len(arguments):
            found = f"{len(graph.input)} inputs, {len(arguments)} values"
            raise UserError(where, "wrong number of inputs", found)
        scope.values.update(zip((i.name for i in graph.input), arguments, strict=True))
        self.declare(scope, [*graph.output, *graph.value_info])
        for tensor in graph.initializer:
            scope.values[tensor.name] = self._initializer(tensor, where)
        self.run(graph.node, scope, where)
        return tuple(self._result(scope, o.name, where) for o in graph.output)

    def declare(self, scope: Scope, infos: Sequence[ValueInfoProto]) -> None:
        """Remember declared types as hints."""
        for info in infos:
            hint = hint_of(info.type, self.params)
            if hint is not None:
                scope.hints[info.name] = hint

    def _initializer(self, tensor: TensorProto, where: str) -> Value:
        place = f"{where}: initializer {tensor.name!r}"
        return self.ctx.constant(array_of(tensor, place, self.files), tensor.name)

    def _result(self, scope: Scope, name: str, where: str) -> Value:
        try:
            value = scope.find(name)
        except KeyError:
            raise UserError(where, f"output {name!r} is not computed by any node") from None
        if value is None:
            raise UserError(where, f"output {name!r} is an omitted value")
        return value

    def _node(self, proto: NodeProto) -> None:
        scope, ctx = self.scope, self.ctx
        domain = normal(proto.domain)
        name = proto.name or next((o for o in proto.output if o), proto.op_type)
        version = scope.opsets.get(domain)
        local = self.functions.get((domain, proto.op_type, proto.overload))
        if version is None and local is None:
            have = ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in scope.opsets.items())
            where = f"{self.model}: node {name!r} ({proto.op_type})"
            hint = "add the opset import that the exporter left out"
            what = f"the model does not import the domain {domain or 'ai.onnx'!r}"
            raise UserError(where, what, f"imported: {have or 'none'}", hint)
        schema = schema_of(domain, proto.op_type, version or 1)
        since = schema.since_version if schema is not None else version or 1
        where = f"{self.model}: node {name!r} ({proto.op_type}, opset {since})"
        if schema is not None and schema.deprecated:
            hint = "convert the model to a newer opset with onnx.version_converter"
            raise UserError(where, f"the operator was removed in opset {since}", "", hint)
        if schema is not None and local is None:
            check_operands(schema, proto, where)
        inputs = tuple(self._operand(n, where) for n in proto.input)
        node = Node(
            op_type=proto.op_type,
            domain=domain,
            opset=since,
            name=name,
            model=self.model,
            inputs=inputs,
            output_names=tuple(proto.output),
            attrs=decode(proto, schema, self.files, where),
            hints=tuple(scope.hints.get(o) for o in proto.output),
        )
        ctx.node = node
        ctx.builder.source = f"{scope.label}{name}"
        if local is not None:
            results = self._call(local, proto, inputs, where)
        else:
            results = self._standard(node, proto, version or 1)
        ctx.node = node
        if len(results) < len([o for o in proto.output if o]):
            found = f"{len(proto.output)} named, {len(results)} exist"
            raise UserError(where, "the node has more outputs than its operator", found)
        for output, value in zip(proto.output, results, strict=False):
            if not output:
                continue
            if value is None:
                raise UserError(where, f"output {output!r} is not supported")
            if value.op is not None:
                value.name = output
            scope.values[output] = value

    def _operand(self, name: str, where: str) -> Value | None:
        if not name:
            return None
        try:
            return self.scope.find(name)
        except KeyError:
            raise UserError(where, f"the operand {name!r} does not exist") from None

    def _standard(self, node: Node, proto: NodeProto, version: int) -> tuple[Value | None, ...]:
        handler = registry.importer(node.domain, node.op_type, node.opset)
        if handler is not None:
            try:
                results = handler(self.ctx, node)
            except TypeRule as error:
                types = ", ".join("-" if v is None else str(v.type) for v in node.inputs)
                raise UserError(node.where, str(error), f"operands: {types}") from None
            return results if isinstance(results, tuple) else (results,)
        schema = schema_of(node.domain, node.op_type, version)
        body = None
        if schema is not None:
            body = schema_body(schema, proto, version, node.inputs)
        if body is None:
            hint = "remove it from the model, or export the model without it"
            raise UserError(node.where, "the operator is not supported", "", hint)
        made = NodeProto()
        made.CopyFrom(proto)
        given = {a.name for a in proto.attribute}
        for name, spec in schema.attributes.items() if schema is not None else ():
            if name not in given and spec.default_value.type:
                default = made.attribute.add()
                default.CopyFrom(spec.default_value)
                default.name = name
        return self._call(body, made, node.inputs, node.where)

    def _call(
        self,
        function: FunctionProto,
        node: NodeProto,
        inputs: Sequence[Value | None],
        where: str,
    ) -> tuple[Value | None, ...]:
        """The body of a function in the current block."""
        if len(inputs) > len(function.input):
            found = f"{len(inputs)} given, {len(function.input)} declared"
            raise UserError(where, "too many inputs for the function", found)
        opsets = {normal(o.domain): o.version for o in function.opset_import}
        bindings = {a.name: a for a in function.attribute_proto}
        bindings.update({a.name: a for a in node.attribute})
        label = f"{self.ctx.builder.source}/"
        scope = Scope({**self.scope.opsets, **opsets}, None, bindings, label=label)
        padded = [*inputs, *[None] * (len(function.input) - len(inputs))]
        scope.values.update(zip(function.input, padded, strict=True))
        for inner, outer in zip(function.output, node.output, strict=False):
            if outer in self.scope.hints:
                scope.hints[inner] = self.scope.hints[outer]
        self.declare(scope, function.value_info)
        self.run(function.node, scope, where)
        return tuple(
            self._result(scope, name, where) if i < len(node.output) and node.output[i] else None
            for i, name in enumerate(function.output)
        )


_SAME_SHAPE = {
    "Abs", "Cast", "CastLike", "Ceil", "Exp", "Floor", "Identity", "Log", "Neg", "Reciprocal",
    "Relu", "Round", "Sigmoid", "Sqrt", "Tanh",
}  # fmt: skip


def _spread_hints(ordered: Sequence[NodeProto], hints: dict[str, Hint]) -> None:
    """Carry declared shapes from the results of elementwise nodes to their operands."""
    for node in reversed(ordered):
        if node.op_type in _SAME_SHAPE and node.output[0] in hints and node.input:
            hints.setdefault(node.input[0], Hint(None, hints[node.output[0]].dims))
