"""Axes that the model gives as a run-time tensor: candidates told apart by symbolic conditions."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dim_logic import is_zero, negative, select
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.ir.core import Region, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.binary import Gt
from tilewright.compiler.ir.ops.control import If

_LIMIT = 512
"""Ordered choices of axes that are tried at most."""


@dataclass(frozen=True)
class Candidate:
    """The set of axes, and the expression that is 1 when the run-time value means it, else 0."""

    axes: tuple[int, ...]
    condition: Dim


def candidates(
    ctx: Import, node: Node, axes: Value, rank: int, fits: Callable[[tuple[int, ...]], bool]
) -> list[Candidate]:
    """The possible sets of axes for which `fits` holds; a constraint admits only these.

    Raises UserError when the elements of `axes` cannot be read when the run starts.
    """
    given = ctx.dims_of(axes)
    if given is None or rank ** len(given) > _LIMIT:
        hint = "make the axes a constant of the model"
        ctx.fail(node, "the axes are computed by the model", f"axes: {axes.type}", hint)
    elements = [normalized(a, rank) for a in given]
    sums: dict[tuple[int, ...], Dim] = {}
    for choice in itertools.permutations(range(rank), len(elements)):
        chosen = tuple(sorted(choice))
        if not fits(chosen):
            continue
        condition: Dim = 1
        for element, axis in zip(elements, choice, strict=True):
            condition = condition * same(element, axis)
        sums[chosen] = sums.get(chosen, 0) + condition
    possible = [Candidate(axes, condition) for axes, condition in sums.items() if condition != 0]
    if not possible:
        ctx.fail(node, "no choice of axes gives the declared output shape")
    total: Dim = 0
    for candidate in possible:
        total = total + candidate.condition
    message = f"{node.where}: the axes do not fit the declared output shape"
    ctx.constrain(total, 1, message)
    return possible


def normalized(axis: Dim, rank: int) -> Dim:
    """`axis` counted from the front."""
    if isinstance(axis, int):
        return axis + rank if axis < 0 else axis
    return axis + negative(axis) * rank


def same(a: Dim, b: int) -> Dim:
    """1 when a == b, else 0."""
    return is_zero(a - b)


def scattered(axes: Sequence[Dim], values: Sequence[Dim], defaults: Sequence[Dim]) -> list[Dim]:
    """`defaults` with `values[k]` at position `axes[k]` (from the front, maybe symbolic)."""
    out = list(defaults)
    for axis, value in zip(axes, values, strict=True):
        if isinstance(axis, int):
            out[axis] = value
        else:
            out = [select(same(axis, i), value, old) for i, old in enumerate(out)]
    return out


def choose(
    ctx: Import,
    possible: Sequence[Candidate],
    build: Callable[[tuple[int, ...]], tuple[Value, ...]],
) -> tuple[Value, ...]:
    """The results of `build` for the candidate that the run-time value means: a chain of `if`s."""
    if len(possible) == 1:
        return build(possible[0].axes)
    first = possible[0]
    condition = ctx.emit(Gt, a=ctx.dim_value(first.condition), b=ctx.dim_value(0))
    bodies = []
    for part in (possible[:1], possible[1:]):
        outer, ctx.builder.ops = ctx.builder.ops, []
        results = choose(ctx, part, build)
        bodies.append(Region((), tuple(ctx.builder.ops), results))
        ctx.builder.ops = outer
    return ctx.emit_multi(If, condition=condition, then_body=bodies[0], else_body=bodies[1])
