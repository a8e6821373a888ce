"""Elementwise operations after a contraction move into its epilogue."""

from dataclasses import dataclass, field

from tilewright.compiler.ir.core import Graph, Op, Region, Value, users, walk
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.shape import Reshape
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite, with_operands
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.passes.match import splat
from tilewright.passes.op_sets import EPILOGUE_OPS
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

LONGEST = 16
"""Operations in one epilogue; longer ones would spill the accumulators that they work on."""


@graph_pass
def fuse_epilogues(graph: Graph) -> Graph:
    """Apply bias, activation and residual to the accumulators before they are stored.

        %1 = contract %a, %b {spec = ..}        %3 = contract %a, %b, [%bias, %r] {spec = ..}
        %2 = add %1, %bias                  ->      body(%acc, %bias, %r) {
        %3 = add %2, %r                               add(add(%acc, %bias), %r) }

    The parameters of the body are the accumulator and the extras. Every extra is a single element,
    a vector along the last axis, or a tensor of the result's shape. Literals become fills.

    Requires: nothing.
    Ensures: no contraction is read by one elementwise operation (`op_sets.EPILOGUE_OPS`) alone
        whose other operands have one of these forms.
    Leaves alone: results with several uses; operands that broadcast in another way; operations that
        change the shape.
    """
    used = users(graph.ops)
    blocks = _blocks(graph)
    outputs = set(graph.outputs) | _yielded(graph)
    taken: set[Op] = set()
    chains: dict[Op, _Chain] = {}
    for op in walk(graph.ops):
        if isinstance(op, Contract | Conv) and op in blocks:
            chain = _chain(op, used, outputs, blocks, taken)
            if chain.ops:
                taken.update(chain.ops)
                chains[chain.ops[-1]] = chain
    if not chains:
        return graph
    made: dict[Op, Op] = {}

    def rule(op: Op, builder: Builder) -> Replacement:
        original = builder.original or op
        made[original] = op
        chain = chains.get(original)
        return None if chain is None else (_fused(chain, made, builder),)

    return remove_dead_code(rewrite(graph, rule))


@dataclass
class _Chain:
    """A contraction and the operations that follow it, each the only user of the one before."""

    root: Contract | Conv
    ops: list[Op] = field(default_factory=list)


def _blocks(graph: Graph) -> dict[Op, int]:
    """The block of every operation outside of bodies."""
    found: dict[Op, int] = {}

    def visit(ops: tuple[Op, ...], block: int) -> None:
        for op in ops:
            found[op] = block
            if not isinstance(op, Contract | Conv) and op.opname != "fused":
                for region in op.regions:
                    visit(region.ops, id(region))

    visit(graph.ops, 0)
    return found


def _yielded(graph: Graph) -> set[Value]:
    return {v for op in walk(graph.ops) for region in op.regions for v in region.results}


def _chain(
    root: Contract | Conv,
    used: dict[Value, list[Op]],
    outputs: set[Value],
    blocks: dict[Op, int],
    taken: set[Op],
) -> _Chain:
    chain = _Chain(root)
    value = root.out
    depth = 0 if root.body is None else len(root.body.ops)
    sums = root.out.dtype if root.body is None else root.body.params[0].dtype
    while value not in outputs and depth + len(chain.ops) < LONGEST:
        if sums == DType.I32 and value.dtype in (DType.U8, DType.I8):
            # Kernels of 8-bit products narrow what they store, and nothing after that.
            break
        readers = set(used.get(value, ()))
        if len(readers) != 1:
            break
        (op,) = readers
        if type(op) not in EPILOGUE_OPS or op in taken or blocks.get(op) != blocks[root]:
            break
        shape = root.out.shape
        if op.results[0].shape != shape:
            break
        if not all(v is value or _is_extra(v, shape) for v in op.operands):
            break
        chain.ops.append(op)
        value = op.results[0]
    return chain


def _is_extra(value: Value, shape: tuple[object, ...]) -> bool:
    if value.type.elements == 1 or value.shape == shape:
        return True
    return value.shape[-1:] == shape[-1:] and all(d == 1 for d in value.shape[:-1])


def _fused(chain: _Chain, made: dict[Op, Op], builder: Builder) -> Value:
    root = made[chain.root]
    assert isinstance(root, Contract | Conv)
    body = _Body(root, builder)
    value, inside = chain.root.out, body.start()
    for original in chain.ops:
        current = made[original]
        mapping: dict[Value, Value] = {}
        for old, now in zip(original.operands, current.operands, strict=True):
            mapping[now] = inside if old is value else body.extra(now)
        copy = with_operands(current, mapping, {})
        body.ops.append(copy)
        value, inside = original.results[0], copy.results[0]
    region = Region(tuple(body.params), tuple(body.ops), (inside,))
    names = (*root.operand_fields, *root.attr_fields)
    fields = {name: getattr(root, name) for name in names}
    fields |= {"extras": tuple(body.extras), "body": region}
    sources = dict.fromkeys(s for op in (root, *chain.ops) if (s := op.source))
    return builder.emit(type(root), **{**fields, "source": ", ".join(sources)})


class _Body:
    """The body under construction; starts from the one that the contraction may have."""

    def __init__(self, root: Contract | Conv, builder: Builder) -> None:
        self.root, self.builder = root, builder
        self.ops: list[Op] = []
        self.extras: list[Value] = list(root.extras)
        self.params: list[Value] = []
        self.inside: dict[Value, Value] = {}

    def start(self) -> Value:
        """The value that the epilogue begins with."""
        old = self.root.body
        if old is None:
            self.params = [Value(self.root.out.type, "acc")]
            return self.params[0]
        self.params = list(old.params)
        self.ops = list(old.ops)
        self.inside = dict(zip(self.extras, self.params[1:], strict=True))
        return old.results[0]

    def extra(self, value: Value) -> Value:
        """`value` inside of the body: a parameter, or a fill when it is a literal."""
        if value in self.inside:
            return self.inside[value]
        literal = splat(self.builder, value) if value.type.elements == 1 else None
        if literal is not None and isinstance(value.op, Constant | Fill):
            fill = Fill(value=literal, type=TensorType(value.dtype, ()))
            self.ops.append(fill)
            self.inside[value] = fill.out
            return fill.out
        given = value
        if value.rank > 1 and value.shape != self.root.out.shape and value.type.elements != 1:
            given = self.builder.emit(Reshape, x=value, shape=value.shape[-1:])
        param = Value(given.type, value.name)
        self.params.append(param)
        self.extras.append(given)
        self.inside[value] = param
        return param
