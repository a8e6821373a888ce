"""Residual streams: values that blocks only add to, and read through a normalization of its own.

    x = table[ids];  x = x + f(norm(x) W) V;  x = x + ...

Such a value may be stored in any orthonormal basis of its channels, if whatever makes it and
whatever reads it is multiplied by that basis once, at compile time.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType
from tilewright.passes.structure.channels import channel_axis, made_by, operand

Norm = LayerNorm | RmsNorm


@dataclass(frozen=True, eq=False)
class Stream:
    """One stream, its channels on the last axis of every value.

    size: of that axis. lookups: of rows of tables. makers: products whose result is added. adds:
    of values, or of a value and a constant. norms: what reads it, with the products that read that.
    """

    size: int
    lookups: tuple[Gather, ...]
    makers: tuple[Contract, ...]
    adds: tuple[Add, ...]
    norms: tuple[tuple[Norm, tuple[Contract, ...]], ...]

    @property
    def centred(self) -> bool:
        """Whether norms take off the mean first, which can be done by what makes the stream."""
        return any(isinstance(norm, LayerNorm) for norm, _ in self.norms)

    @property
    def readers(self) -> tuple[Contract, ...]:
        """All products that read a norm of it."""
        return tuple(op for _, ops in self.norms for op in ops)


def streams(graph: Graph) -> list[Stream]:
    """Every residual stream of a graph, in order of execution."""
    used, outputs = users(graph.ops), set(graph.outputs)
    found: list[Stream] = []
    seen: set[Value] = set()
    for op in graph.ops:
        if isinstance(op, Norm) and op.x not in seen:
            values: dict[Value, None] = {}
            stream = _stream(op.x, values, used, outputs)
            seen.update(values)
            if stream is not None:
                found.append(stream)
    return found


def _stream(
    start: Value, values: dict[Value, None], used: dict[Value, list[Op]], outputs: set[Value]
) -> Stream | None:
    """That of a value; None if something else makes or reads it. values: all of it."""
    size = start.shape[-1]
    if not isinstance(size, int):
        return None
    ends: list[dict[Op, None]] = [{}, {}, {}, {}]
    lookups, makers, adds, norms = ends
    waiting, whole = [start], True
    while waiting:
        value = waiting.pop()
        if value in values:
            continue
        values[value] = None
        op = value.op
        whole &= value not in outputs and value.dtype == DType.F32 and value.shape[-1:] == (size,)
        if isinstance(op, Add):
            adds[op] = None
            waiting += (v for v in (op.a, op.b) if not isinstance(v.op, Constant))
            whole &= all(v.rank > 0 and v.shape[-1] == size for v in (op.a, op.b))
        elif isinstance(op, Gather) and isinstance(op.x.op, Constant):
            lookups[op] = None
            whole &= op.axis == 0 and op.x.rank == 2
        elif isinstance(op, Contract) and operand(op) is not None:
            makers[op] = None
            whole &= made_by(op, -1) is not None and len(used[op.b]) == 1
        else:
            whole = False
        for user in used.get(value, []):
            if isinstance(user, Add):
                waiting.append(user.out)
            elif isinstance(user, Norm) and user.x is value and user.axis == value.rank - 1:
                norms[user] = None
            else:
                whole = False
    pairs = [(n, _reading(n, used, outputs)) for n in norms if isinstance(n, Norm)]
    alike = len({type(norm) for norm in norms}) == 1
    if not whole or not alike or any(readers is None for _, readers in pairs):
        return None
    return Stream(
        size,
        tuple(op for op in lookups if isinstance(op, Gather)),
        tuple(op for op in makers if isinstance(op, Contract)),
        tuple(op for op in adds if isinstance(op, Add)),
        tuple((norm, readers) for norm, readers in pairs if readers is not None),
    )


def _reading(
    norm: Norm, used: dict[Value, list[Op]], outputs: set[Value]
) -> tuple[Contract, ...] | None:
    """The products that read a norm over its last axis; None if anything else does, or if its
    vectors are no constants."""
    vectors = (norm.scale, norm.bias if isinstance(norm, LayerNorm) else None)
    if any(v is not None and not isinstance(v.op, Constant) for v in vectors):
        return None
    readers = [op for op in used.get(norm.out, []) if isinstance(op, Contract)]
    if norm.out in outputs or len(readers) != len(used.get(norm.out, [])):
        return None
    for op in readers:
        if operand(op) is not norm.out or norm.out in op.extras or channel_axis(op) != -1:
            return None
    return tuple(readers)
