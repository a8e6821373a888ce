"""Operations of random graphs that move elements without computing."""

from __future__ import annotations

import numpy as np
from support.random_values import Values

from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, sym
from tilewright.compiler.ir.ops import shape
from tilewright.compiler.ir.types import DType


class Movements(Values):
    """Transposes, slices, reshapes, broadcasts, pads, concatenations and lookups."""

    def movement(self) -> None:
        value = self.pick(lambda v: v.rank > 0)
        if value is None:
            return
        rank, same = value.rank, self.same(value)
        kind = self.rng.choice(("transpose", "slice", "reshape", "reshape", "broadcast", "pad"))
        if kind == "transpose":
            perm = tuple(self.rng.sample(range(rank), rank))
            self.emit(shape.Transpose, x=value, perm=perm, exact=same)
        elif kind == "slice":
            parts = [self.part(d) for d in value.shape]
            starts, steps, sizes = zip(*parts, strict=True)
            self.emit(shape.Slice, x=value, starts=starts, steps=steps, shape=sizes, exact=same)
        elif kind == "reshape":
            self.emit(shape.Reshape, x=value, shape=self.reshaped(value.shape), exact=same)
        elif kind == "broadcast" and rank < 4:
            sizes = tuple(3 if d == 1 and self.rng.random() < 0.5 else d for d in value.shape)
            lead = (sym("m"),) if self.rng.random() < 0.5 else (2,)
            self.emit(shape.Broadcast, x=value, shape=(*lead, *sizes), exact=same)
        elif kind == "pad":
            low = tuple(self.rng.choice((0, 0, 1, 2)) for _ in range(rank))
            high = tuple(self.rng.choice((0, 0, 1)) for _ in range(rank))
            self.emit(shape.Pad, x=value, low=low, high=high, exact=same)

    def part(self, dim: Dim) -> tuple[Dim, int, Dim]:
        """Start, step and size of a piece of an axis."""
        roll = self.rng.random()
        if roll < 0.3:
            return dim - 1, -1, dim
        if isinstance(dim, int) and dim > 1 and roll < 0.7:
            by = self.rng.choice((1, 1, 2))
            start = self.rng.randrange(dim)
            return start, by, len(range(start, dim, by))
        return 0, 1, dim

    def reshaped(self, sizes: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """The same number of elements in another shape."""
        found = list(sizes)
        at = self.rng.randrange(len(found))
        if len(found) > 1 and self.rng.random() < 0.5:
            at = min(at, len(found) - 2)
            found[at : at + 2] = [found[at] * found[at + 1]]
        elif isinstance(found[at], int) and found[at] % 2 == 0 and len(found) < 5:
            found[at : at + 1] = [2, found[at] // 2]
        elif 1 in found and len(found) > 1:
            found.remove(1)
        elif len(found) < 5:
            found.insert(at, 1)
        return tuple(found)

    def join(self) -> None:
        value = self.pick(lambda v: v.rank > 0)
        if value is None:
            return
        axis = self.rng.randrange(value.rank)

        def rest(v: Value) -> tuple[Dim, ...]:
            return (*v.shape[:axis], *v.shape[axis + 1 :])

        other = self.pick(
            lambda v: v.dtype == value.dtype and v.rank == value.rank and rest(v) == rest(value)
        )
        parts = (value, other or value, *((value,) if self.rng.random() < 0.3 else ()))
        self.emit(shape.Concat, parts=parts, axis=axis, exact=self.same(*parts))

    def lookup(self) -> None:
        value = self.pick(
            lambda v: any(isinstance(d, int) and d >= 3 for d in v.shape) and v.rank < 4
        )
        if value is None:
            return
        axes = [a for a, d in enumerate(value.shape) if isinstance(d, int) and d >= 3]
        ids = self.pick(lambda v: v in self.d.inputs and v.dtype == DType.I64)
        if ids is None or self.rng.random() < 0.4:
            ids = self.d.constant(np.array([2, 0, -1, 1][: self.rng.randint(1, 4)]))
        self.emit(shape.Gather, x=value, indices=ids, axis=self.rng.choice(axes),
                  exact=self.same(value))  # fmt: skip
