"""Facts about a region that its schedule needs: what varies where, phases, costs, axis merging."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.llvm.emit.elementwise import OPS
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.spec import (
    Iota,
    Load,
    Node,
    Op,
    Piece,
    Reduce,
    RegionSpec,
    Store,
    operands,
)

KEEP_COST = 8
"""A value this dear (in additions) that a later phase needs is kept instead of recomputed."""


@dataclass(frozen=True)
class Facts:
    """Per node: axes it varies along, phase (number of reductions below it), cost, dtype."""

    axes: tuple[frozenset[int], ...]
    phase: tuple[int, ...]
    cost: tuple[int, ...]
    dtypes: tuple[str, ...]
    phases: int


def analyze(spec: RegionSpec) -> Facts:
    """`Facts` of every node of ``spec``."""
    axes: list[frozenset[int]] = []
    phase: list[int] = []
    cost: list[int] = []
    for node in spec.body:
        below = operands(node)
        varies = frozenset[int]().union(*(axes[i] for i in below))
        level = max((phase[i] for i in below), default=0)
        own = 0
        match node:
            case Load():
                varies |= {a for a, s in enumerate(node.strides) if s != 0}
                own = 1 + 10 * len(node.gathers)
            case Iota():
                varies |= {node.axis}
            case Piece():
                varies |= {node.axis}
            case Reduce():
                varies -= frozenset(spec.reduced)
                level += 1
            case Op():
                own = OPS[node.name].cost
        total = own + (0 if isinstance(node, Reduce) else sum(cost[i] for i in below))
        axes.append(varies)
        phase.append(level)
        cost.append(total)
    top = max((phase[store.value] for store in spec.outputs), default=0)
    return Facts(tuple(axes), tuple(phase), tuple(cost), spec.dtypes(), top + 1)


def _strides_of(spec: RegionSpec) -> list[tuple[Dim, ...]]:
    loads = [n.strides for n in spec.body if isinstance(n, Load)]
    return loads + [s.strides for s in spec.outputs]


def _pinned(spec: RegionSpec) -> set[int]:
    """Axes that a node names: they cannot be merged with a neighbour."""
    pinned = {n.axis for n in spec.body if isinstance(n, Iota | Piece)}
    if any(isinstance(n, Reduce) and n.kind.startswith("arg") for n in spec.body):
        pinned |= set(spec.reduced)
    return pinned


def _without_axis(spec: RegionSpec, axis: int, merged_into: int | None) -> RegionSpec:
    """``spec`` without ``axis``, whose extent was 1 or now belongs to the axis before it."""

    def shift(a: int) -> int:
        return a - 1 if a > axis else a

    def cut(strides: tuple[Dim, ...]) -> tuple[Dim, ...]:
        if merged_into is None:
            return strides[:axis] + strides[axis + 1 :]
        return strides[:merged_into] + strides[axis : axis + 1] + strides[axis + 1 :]

    body: list[Node] = []
    for node in spec.body:
        match node:
            case Load():
                body.append(replace(node, strides=cut(node.strides)))
            case Iota() | Piece():
                body.append(replace(node, axis=shift(node.axis)))
            case _:
                body.append(node)
    outputs: list[Store] = [replace(s, strides=cut(s.strides)) for s in spec.outputs]
    domain = list(spec.domain)
    if merged_into is not None:
        domain[merged_into] = dims.mul(domain[merged_into], domain[axis])
    del domain[axis]
    reduced = tuple(shift(a) for a in spec.reduced if a != axis)
    return replace(
        spec, domain=tuple(domain), body=tuple(body), outputs=tuple(outputs), reduced=reduced
    )


def collapse(spec: RegionSpec) -> RegionSpec:
    """``spec`` with axes of extent 1 dropped and neighbours merged wherever every stride allows.

    Axes a and a+1 merge if both are reduced or neither is, no node names them, and for every
    access stride[a] == stride[a+1] * extent[a+1], as far as algebra can show it.
    """
    pinned = _pinned(spec)
    for axis in reversed(range(len(spec.domain))):
        only_reduced = spec.reduced == (axis,)
        if spec.domain[axis] == 1 and axis not in pinned and not only_reduced:
            return collapse(_without_axis(spec, axis, None))
    for axis in reversed(range(1, len(spec.domain))):
        if {axis - 1, axis} & pinned:
            continue
        if (axis - 1 in spec.reduced) != (axis in spec.reduced):
            continue
        extent = spec.domain[axis]
        if all(dims.equal(s[axis - 1], dims.mul(s[axis], extent)) for s in _strides_of(spec)):
            return collapse(_without_axis(spec, axis, axis - 1))
    return spec


def needed(spec: RegionSpec, roots: list[int]) -> set[int]:
    """Nodes that ``roots`` always read, not crossing a Reduce (its result exists already) nor the
    arms of a Piece (evaluated only inside their range)."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        i = stack.pop()
        if i in seen:
            continue
        seen.add(i)
        node = spec.body[i]
        if not isinstance(node, Reduce | Piece):
            stack.extend(operands(node))
    return seen


def kept_values(spec: RegionSpec, facts: Facts) -> dict[int, int]:
    """Nodes to keep in scratch memory: position -> phase that computes it.

    For every phase, walk down from what it computes; stop at the first value of an earlier phase
    that varies along a reduced axis and costs at least `KEEP_COST`.
    """
    kept: dict[int, int] = {}
    reduced = frozenset(spec.reduced)
    for phase in range(1, facts.phases):
        stack = phase_roots(spec, facts, phase)
        while stack:
            i = stack.pop()
            node = spec.body[i]
            if isinstance(node, Reduce) or i in kept:
                continue
            full = bool(facts.axes[i] & reduced)
            dear = facts.cost[i] >= KEEP_COST and facts.dtypes[i] in ("f32", "f64", "f16", "bf16")
            if full and dear and facts.phase[i] < phase and not isinstance(node, Load):
                kept[i] = facts.phase[i]
                continue
            if not isinstance(node, Piece):  # its arms may be out of bounds elsewhere
                stack.extend(operands(node))
    return kept


def phase_roots(spec: RegionSpec, facts: Facts, phase: int) -> list[int]:
    """Nodes that the loop of ``phase`` must evaluate: reduction operands and full-domain stores."""
    roots = [n.arg for n in spec.body if isinstance(n, Reduce) and facts.phase[n.arg] == phase]
    roots += [s.value for s in spec.outputs if is_full(spec, s) and facts.phase[s.value] == phase]
    return list(dict.fromkeys(roots))


def is_full(spec: RegionSpec, store: Store) -> bool:
    """Whether ``store`` writes every point of the reduced axes (else one element a row)."""
    return any(store.strides[axis] != 0 for axis in spec.reduced)
