"""Values of random graphs: choosing operands, emitting operations, and what may decide.

A value is `exact` when every correct implementation gives the same bits: only such values may
decide something (comparisons, positions, conversions to integers), because two correct results of
exp or of a long sum may differ in the last bit and a decision would make that a large difference.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from support.draft_graph import Draft

from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.ops import unary
from tilewright.compiler.ir.types import DType

FLOATS = (DType.F32, DType.F32, DType.F32, DType.F64, DType.F16)
INTS = (DType.I64, DType.I32, DType.U8, DType.I8)


@dataclass
class Values:
    """Grows one graph; `exact` holds the values that are the same in every implementation."""

    rng: random.Random
    d: Draft = field(default_factory=lambda: Draft((0, 64)))
    values: list[Value] = field(default_factory=list)
    exact: set[Value] = field(default_factory=set)
    depth: int = 0

    def pick(self, test: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """A value that passes `test`, recent ones more often."""
        found = [v for v in self.values if test(v)]
        return (
            found[min(int(self.rng.expovariate(0.4)), len(found) - 1) * -1 - 1] if found else None
        )

    def floats(self) -> Value | None:
        return self.pick(lambda v: v.dtype in FLOATS)

    def channels(self, *ranks: int, even: bool = False, f64: bool = False) -> Value | None:
        """An f32 (or f64) value of one of some ranks, its last dimension known and not 0."""
        kinds = (DType.F32, DType.F64) if f64 else (DType.F32,)

        def test(v: Value) -> bool:
            last = v.shape[-1] if v.rank in ranks else 0
            return (
                v.dtype in kinds and isinstance(last, int) and last > 0 and last % (1 + even) == 0
            )

        return self.pick(test)

    def emit(self, cls: type[Op], *, exact: bool = False, **fields: Any) -> Value:
        """Add an operation of one result to the graph and its result to the values."""
        made = self.d(cls, **fields)
        return self.keep(made, exact)

    def keep(self, made: Value, exact: bool) -> Value:
        self.values.append(made)
        if exact:
            self.exact.add(made)
        return made

    def same(self, *values: Value) -> bool:
        return all(v in self.exact for v in values)

    def tame(self, value: Value) -> Value:
        """`value` in -1..1, so that no chain of products overflows."""
        return self.emit(unary.Tanh, x=value) if self.rng.random() < 0.8 else value

    def array(self, dtype: DType, sizes: tuple[int, ...]) -> Value:
        """A random constant."""
        rng = np.random.default_rng(self.rng.randrange(1 << 30))
        if dtype.is_float:
            found = rng.standard_normal(sizes).astype(dtype.numpy)
        elif dtype == DType.BOOL:
            found = rng.random(sizes) < 0.5
        else:
            found = rng.integers(0, 5, sizes).astype(dtype.numpy)
        made = self.d.constant(found)
        self.exact.add(made)
        return made

    def partner(self, value: Value) -> Value:
        """Something that broadcasts with `value`: a value of its shape or less, or a constant."""
        found = self.pick(lambda v: v.dtype == value.dtype and fits(v, value))
        if found is not None and self.rng.random() < 0.6:
            return found
        sizes = [d if isinstance(d, int) and self.rng.random() < 0.7 else 1 for d in value.shape]
        return self.array(value.dtype, tuple(sizes[self.rng.randrange(value.rank + 1) :]))


def fits(v: Value, into: Value) -> bool:
    """Whether `v` broadcasts to the shape of `into` without changing it."""
    tail = into.shape[into.rank - v.rank :] if v.rank <= into.rank else None
    return tail is not None and all(a in (1, b) for a, b in zip(v.shape, tail, strict=True))


def elements(value: Value) -> int:
    """About how many elements a value has."""
    total = 1
    for dim in value.shape:
        total *= dim if isinstance(dim, int) else 8
    return total
