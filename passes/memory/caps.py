"""Caps that a user sets on memory, and why a model does not keep to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tilewright.compiler.errors import UserError
from tilewright.passes.memory.blocking import blocking
from tilewright.passes.memory.dag import Dag
from tilewright.passes.memory.problem import Buffer
from tilewright.passes.memory.search import Undecided

SHOWN = 8
"""Buffers that an error names; the rest are counted."""


@dataclass(frozen=True)
class Caps:
    """Bytes that a compile may use, at the upper bounds of all dimensions; None is no cap.

    memory: of weights and arena together;  fast: of the part of the arena that steps work in
    """

    memory: int | None = None
    fast: int | None = None


def refuse_unbounded(option: str, unbounded: Sequence[str]) -> None:
    """Raise UserError if memory cannot be capped because dimensions have no upper bounds."""
    if unbounded:
        names = ", ".join(map(repr, unbounded))
        hint = " ".join(f"--dim {name}=1..N" for name in unbounded)
        raise UserError(option, "it takes dimensions with bounds", f"without: {names}", hint)


def check_memory(
    cap: int, weights: int, arena: int, rows: Sequence[Buffer], env: Mapping[str, int]
) -> None:
    """Raise UserError if `weights` and `arena` bytes exceed `cap`, naming what stands in the way.

    That is an irreducible set: without any one of its buffers the rest would fit.
    """
    if weights + arena <= cap:
        return
    at = ", ".join(f"{name} = {size}" for name, size in env.items())
    need = f"weights take {weights:,} bytes, intermediate tensors {arena:,}"
    found = f"{need} with {at}" if at else need
    if weights < cap:
        try:
            part = [rows[i] for i in blocking(rows, cap - weights)]
        except Undecided:
            part = []
        if part:
            found += f"; these cannot be there together: {_names(part)}"
    narrow = "narrow the dimensions with --dim, or " if env else ""
    hint = f"{narrow}allow {weights + arena:,} bytes"
    raise UserError("max_memory", f"the model does not run in {cap:,} bytes", found, hint)


def refuse_steps(cap: int, dag: Dag, rows: Sequence[Buffer]) -> NoReturn:
    """Raise the UserError that says which step of `dag` needs more than `cap` bytes.

    The tensors of `dag` are `rows`, places without bytes, and the insides of branches and loops.
    """
    touched = ({*op.reads, *op.writes} for op in dag.ops)
    most = max(touched, key=lambda tensors: sum(dag.sizes[t] for t in tensors))
    inside = sum(dag.sizes[t] for t in most if t >= len(rows))
    named = [rows[t] for t in sorted(most) if t < len(rows) and rows[t].size]
    parts = [_names(named)] if named else []
    parts += [f"{inside:,} bytes inside of it"] if inside else []
    raise UserError(
        "fast_memory",
        f"{cap:,} bytes do not hold what one step works on",
        f"it needs {dag.working_set:,} bytes: {' and '.join(parts)}",
        f"allow {dag.working_set:,} bytes or more",
    )


def _names(buffers: Sequence[Buffer]) -> str:
    largest = sorted(buffers, key=lambda b: (-b.size, b.name))
    shown = ", ".join(f"{b.name!r} ({b.size:,})" for b in largest[:SHOWN])
    more = len(buffers) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
