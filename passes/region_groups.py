"""Which operations of a block become one kernel: greedy grouping that keeps the graph acyclic.

Groups grow in execution order. For every group a bit set holds the groups that it depends on, so
that `would a path leave the group and come back?` is one bit test.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tilewright.compiler.ir.core import Op, Value, captured
from tilewright.compiler.ir.dims import Shape
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm, Rope, Softmax
from tilewright.compiler.ir.ops.reduce import Reduce
from tilewright.passes.op_sets import ELEMENTWISE


@dataclass(frozen=True)
class Space:
    """What a kernel iterates over: a shape, and the axis from which rows are one unit.

    Without `axis` every element stands alone (pointwise). Row operations see all of a row.
    """

    shape: Shape
    axis: int | None

    @property
    def row_shape(self) -> Shape | None:
        """The shape of one value per row."""
        if self.axis is None:
            return None
        return (*self.shape[: self.axis], *(1 for _ in self.shape[self.axis :]))

    def joined(self, other: "Space") -> "Space | None":
        """The space in which both can be computed, None when there is none."""
        if self.shape == other.shape:
            if self.axis is None or other.axis is None or self.axis == other.axis:
                return Space(self.shape, other.axis if self.axis is None else self.axis)
            return None
        if other.axis is None and self.row_shape == other.shape:
            return self
        if self.axis is None and other.row_shape == self.shape:
            return other
        return None


def space_of(op: Op) -> Space | None:
    """The space of an operation that a fused region may hold as computation, else None."""
    if type(op) in ELEMENTWISE:
        return Space(op.results[0].shape, None)
    if isinstance(op, Reduce):
        axes = sorted(op.axes)
        suffix = bool(axes) and axes == list(range(axes[0], op.x.rank))
        return Space(op.x.shape, axes[0]) if suffix else None
    if isinstance(op, Softmax):
        last = op.axis == op.x.rank - 1
        return Space(op.x.shape, op.axis) if last else None
    if isinstance(op, LayerNorm | RmsNorm):
        return Space(op.x.shape, op.axis)
    if isinstance(op, Rope):
        return Space(op.x.shape, op.x.rank - 1)
    return None


def dependencies(op: Op) -> tuple[Value, ...]:
    """Operands and what the regions capture."""
    return (*op.operands, *(v for region in op.regions for v in captured(region)))


@dataclass
class Group:
    """Operations of one kernel, or one operation that is not fusable (space None)."""

    members: list[Op]
    space: Space | None
    before: set[int] = field(default_factory=set)  # groups whose results it uses
    reach: int = 0  # bit set of the groups it depends on, directly or not


class Grouping:
    """The groups of one block by number; `ordered` gives them in an executable order."""

    def __init__(self, ops: Iterable[Op], limit: int) -> None:
        self.limit = limit
        self.groups: dict[int, Group] = {}
        self.of: dict[Op, int] = {}
        for op in ops:
            self._place(op)

    def _place(self, op: Op) -> None:
        before = {self.of[v.op] for v in dependencies(op) if v.op in self.of}
        number = len(self.of)
        space = space_of(op)
        self.groups[number] = Group([op], space, before, self._reach(before))
        self.of[op] = number
        if space is None:
            return
        # Producers that come last are the hottest in cache, so they are tried first.
        for other in sorted(before, reverse=True):
            if other in self.groups:
                self._merge(other, self.of[op])

    def _reach(self, numbers: Iterable[int]) -> int:
        out = 0
        for n in numbers:
            out |= self.groups[n].reach | 1 << n
        return out

    def _merge(self, kept: int, gone: int) -> None:
        """Join group `gone` to `kept` when spaces, size and order allow it."""
        a, b = self.groups[kept], self.groups[gone]
        if kept == gone or a.space is None or b.space is None:
            return
        space = a.space.joined(b.space)
        if space is None or len(a.members) + len(b.members) > self.limit:
            return
        if self._path(kept, b.before) or self._path(gone, a.before):
            return
        before = (a.before | b.before) - {kept, gone}
        both = 1 << kept | 1 << gone
        reach = (a.reach | b.reach) & ~both
        self.groups[kept] = Group([*a.members, *b.members], space, before, reach)
        del self.groups[gone]
        for op in b.members:
            self.of[op] = kept
        for number, group in self.groups.items():
            if gone in group.before:
                group.before = group.before - {gone} | {kept}
            if number != kept and group.reach & both:
                group.reach = group.reach & ~(1 << gone) | 1 << kept | reach

    def _path(self, source: int, before: set[int]) -> bool:
        """True when a group in `before`, other than `source`, depends on `source`."""
        return any(n != source and self.groups[n].reach >> source & 1 for n in before)

    def ordered(self) -> list[Group]:
        """The groups so that each comes after those that it uses, in source order otherwise."""
        done: set[int] = set()
        out: list[Group] = []
        waiting = sorted(self.groups)
        while waiting:
            later: list[int] = []
            for number in waiting:
                group = self.groups[number]
                if group.before <= done:
                    done.add(number)
                    out.append(group)
                else:
                    later.append(number)
            assert len(later) < len(waiting), "the groups form a cycle"
            waiting = later
        return out
