"""Computing only the part of a tensor that is used: slices move up through what made it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Value, captured
from tilewright.compiler.ir.dims import Dim, Shape
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import Attention, LayerNorm, RmsNorm, Rope, Softmax
from tilewright.compiler.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Transpose
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.axis_groups import axis_groups
from tilewright.passes.op_sets import BROADCASTING, UNARY
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@dataclass(frozen=True)
class Part:
    """The indices start .. start + size of one axis of a tensor, all of the others."""

    axis: int
    start: Dim
    size: Dim

    def of(self, shape: Shape) -> Shape:
        """`shape` with this part of it."""
        return tuple(self.size if i == self.axis else d for i, d in enumerate(shape))


@graph_pass
def narrow_slices(graph: Graph) -> Graph:
    """Where all uses of a tensor take the same part of it, compute that part only.

        slice(contract(x [b, s, k], w)) to the last of s  ->  contract(slice(x), w)
        slice(rms_norm(add(x, y)))                        ->  rms_norm(add(slice(x), slice(y)))
        slice(attention(q, k, v)) to the last queries     ->  attention(slice(q), k, v)

    With the logits of the last token alone in use, the head of a language model, its last norm,
    feed-forward and queries are computed for one token. What is needed is propagated from the
    outputs up; the largest part of every tensor that is used decides.

    Requires: recognize-attention.
    Ensures: no slice of one axis takes from an operation below that computes row by row along it
        and that nothing else uses.
    Leaves alone: tensors of which several parts are used; steps other than 1; axes along which an
        operation sums, normalizes or attends; parts of constant weights; nested regions.
    """
    narrowed = _narrowed(graph)
    if not narrowed:
        return graph

    small: dict[Value, Value] = {}

    def take(original: Value, value: Value, part: Part, builder: Builder) -> Value:
        if original in small:
            return small[original]
        starts = tuple(part.start if i == part.axis else 0 for i in range(value.rank))
        shape = part.of(value.shape)
        return builder.emit(Slice, x=value, starts=starts, steps=(1,) * value.rank, shape=shape)

    def rule(op: Op, builder: Builder) -> Replacement:
        """Puts the part beside the whole, which is dead when nothing uses it any more."""
        original = builder.original
        assert original is not None
        part = narrowed.get(original)
        if part is None:
            if isinstance(original, Slice) and original.x in small:
                return (small[original.x],)
            return None
        needs = _needs(original, part)
        assert needs is not None
        changes = _attributes(op, part)
        for name, wanted in needs.items():
            old, new = getattr(original, name), getattr(op, name)
            if isinstance(old, tuple):
                pairs = zip(old, new, strict=True)
                changes[name] = tuple(take(o, n, wanted, builder) for o, n in pairs)
            else:
                changes[name] = take(old, new, wanted, builder)
        made = dataclasses.replace(op, **changes)
        made.out.name = original.out.name
        builder.ops.append(made)
        small[original.out] = made.out
        return None

    return remove_dead_code(rewrite(graph, rule))


def _narrowed(graph: Graph) -> dict[Op, Part]:
    """The operations of which a part is enough, and which."""
    used: dict[Value, Part | None] = dict.fromkeys(graph.outputs)
    found: dict[Op, Part] = {}

    def use(value: Value, part: Part | None) -> None:
        used[value] = part if used.get(value, part) == part else None

    for op in reversed(graph.ops):
        part = used.get(op.results[0]) if len(op.results) == 1 else None
        needs = _needs(op, part) if part is not None else None
        if part is not None and needs is not None:
            found[op] = part
        elif isinstance(op, Slice) and (own := _own(op)) is not None:
            needs = {"x": own}
        for name in op.operand_fields:
            field = getattr(op, name)
            for value in field if isinstance(field, tuple) else (field,):
                if value is not None:
                    use(value, needs.get(name) if needs else None)
        for region in op.regions:
            for value in captured(region):
                use(value, None)
    return found


def _own(op: Slice) -> Part | None:
    """What a slice takes, if it is one axis by steps of 1."""
    taken = [
        axis
        for axis, (start, step) in enumerate(zip(op.starts, op.steps, strict=True))
        if start != 0 or step != 1 or op.shape[axis] != op.x.shape[axis]
    ]
    if len(taken) != 1 or op.steps[taken[0]] != 1:
        return None
    return Part(taken[0], op.starts[taken[0]], op.shape[taken[0]])


def _needs(op: Op, part: Part) -> dict[str, Part] | None:
    """The operand fields of which a part is enough for `part` of the result; None: `op` needs all
    of them anyway."""
    axis = part.axis
    if type(op) in UNARY:
        return {"x": part}
    if isinstance(op, Softmax):
        return {"x": part} if axis != op.axis else None
    if isinstance(op, LayerNorm | RmsNorm):
        return _aligned(op, part) if axis < op.axis else None
    if isinstance(op, Rope):
        return _aligned(op, part) if axis < op.x.rank - 1 else None
    if type(op) in BROADCASTING or isinstance(op, Broadcast):
        return _aligned(op, part)
    if isinstance(op, Transpose):
        return {"x": dataclasses.replace(part, axis=op.perm[axis])}
    if isinstance(op, Reshape):
        return _reshape(op, part)
    if isinstance(op, Slice):
        whole = op.starts[axis] == 0 and op.steps[axis] == 1
        return {"x": part} if whole and op.shape[axis] == op.x.shape[axis] else None
    if isinstance(op, Concat):
        return {"parts": part} if axis != op.axis else None
    if isinstance(op, Contract):
        return _contract(op, part)
    return _attention(op, part) if isinstance(op, Attention) else None


def _aligned(op: Op, part: Part) -> dict[str, Part]:
    """Of operands that broadcast to the result: those that have the axis."""
    needs = {}
    for name in op.operand_fields:
        value = getattr(op, name)
        axis = part.axis - op.out.rank + value.rank if value is not None else -1
        if axis >= 0 and value.shape[axis] == op.out.shape[part.axis] != 1:
            needs[name] = dataclasses.replace(part, axis=axis)
    return needs


def _reshape(op: Reshape, part: Part) -> dict[str, Part] | None:
    """Where the axis stays one axis; ones beside it do not matter."""
    for fine, coarse in axis_groups(op.x.shape, op.shape) or ():
        if part.axis in coarse:
            before = [i for i in fine if op.x.shape[i] != 1]
            after = [i for i in coarse if op.shape[i] != 1]
            if after == [part.axis] and len(before) == 1:
                return {"x": dataclasses.replace(part, axis=before[0])}
    return None


def _contract(op: Contract, part: Part) -> dict[str, Part] | None:
    if op.body is not None:
        return None
    inputs, out = op.spec.split("->")
    needs = {}
    for name, letters in zip("ab", inputs.split(","), strict=True):
        if out[part.axis] in letters:
            if isinstance(getattr(op, name).op, Constant):
                return None
            needs[name] = dataclasses.replace(part, axis=letters.index(out[part.axis]))
    return needs


def _attention(op: Attention, part: Part) -> dict[str, Part] | None:
    """Some queries; with a causal mask the last ones."""
    if op.out_axes[part.axis] != "q":
        return None
    size = op.sizes()
    last = part.start + part.size == size["q"]
    if op.causal and not (last and (op.causal_end or size["q"] == size["k"])):
        return None
    needs = {"q": dataclasses.replace(part, axis=op.q_axes.index("q"))}
    mask = op.mask
    if mask is not None and mask.rank > 1 and mask.shape[-2] != 1:
        needs["mask"] = dataclasses.replace(part, axis=mask.rank - 2)
    return needs


def _attributes(op: Op, part: Part) -> dict[str, Any]:
    """The attributes that say how large the result is, and where its queries end."""
    if isinstance(op, Reshape | Broadcast | Slice):
        return {"shape": part.of(op.shape)}
    return {"causal_end": True} if isinstance(op, Attention) and op.causal else {}
