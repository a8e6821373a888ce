"""What it costs to hand a value on in another format, for its maker and for each of its readers.

A kernel's share is the difference of the cost model's predictions of its two specs. What no kernel
does on the way is a pass over memory of its own, or, in a region, further work on each element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from tilewright.backends.cost.model import predict
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.formats import BF16_FORMAT, BYTES, F16_FORMAT, F32_FORMAT
from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.handing import (
    ALONE,
    STRATEGIES,
    Formats,
    Handed,
    halved,
    halves,
    normed,
    stored,
)
from tilewright.backends.llvm.lowering.pricing import Prices, sizes
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.unmade import UNMADE, Unmade
from tilewright.backends.profile import MachineProfile
from tilewright.compiler.ir.dims import Dim

ROUNDING = 8
"""Operations of a region that rounds an element: bits, oddness, sum, shift, NaN, narrowing; on a
GPU it is one."""

NORMALIZING = 7
"""Operations of a region that normalizes an element: about 13 us for 128 x 384 and for 64 x 768, as
whole models without these regions say."""

LIKING = 1e-6
"""What a value of half of the bytes is worth where predictions are equal: it decides ties."""

Edge = tuple[int, tuple[tuple[float, ...], ...]]
"""A question, and for each of its candidates what each of STRATEGIES adds, the last one for values
that may stay unmade."""


@dataclass(frozen=True)
class FormatNode:
    """A value as a node of the selection: what each of `strategies` costs by itself, in the units
    of `Prices.costs`, and beside the kernel that answers a question. UNMADE, the last one, is a
    strategy of normalized values only. narrow: the format of 16 bits that it may have."""

    handed: Handed
    costs: tuple[float, ...]
    edges: tuple[Edge, ...]
    narrow: str = BF16_FORMAT

    @property
    def strategies(self) -> tuple[Formats, ...]:
        """STRATEGIES with the value's own narrow format."""
        short, both = (self.narrow,), (F32_FORMAT, self.narrow)
        return tuple({0: ALONE, 1: short, 2: both}.get(i, s) for i, s in enumerate(STRATEGIES))

    @property
    def name(self) -> str:
        """For reports."""
        return self.handed.name or self.handed.source or "a value"


def format_nodes(
    low: Lowering,
    questions: Sequence[Question],
    prices: Prices,
    profile: MachineProfile,
    cold: bool,
    threads: int,
) -> list[FormatNode]:
    """The values of the lowering `low` that some kernel could read in another format."""
    table = _Table(low, questions, prices, profile, cold, threads)
    found = (table.node(handed) for handed in low.handing.values.values())
    return [node for node in found if node is not None]


@dataclass(frozen=True)
class _Table:
    low: Lowering
    questions: Sequence[Question]
    prices: Prices
    profile: MachineProfile
    cold: bool
    threads: int

    def node(self, handed: Handed) -> FormatNode | None:
        narrow = self._narrow(handed)
        edges = self._readers(handed, narrow)
        strategies = STRATEGIES if handed.unmade is not None else STRATEGIES[:-1]
        alone = narrow == F16_FORMAT and handed.regions > 0
        if not alone and all(c == inf for _, rows in edges for row in rows for c in row[1::2]):
            return None
        if handed.makers:
            saved = self._moved(handed.elements, -BYTES[narrow], 0) * handed.regions
            costs = [0.0, saved - LIKING, 0.0]
            edges += [(n, self._maker(handed, n, p, narrow)) for n, p in handed.makers.items()]
        else:
            costs = [self._region(handed, formats) for formats in strategies]
        exact = handed.regions > 0 or any(reader.extra for reader in handed.readers)
        if handed.plain or (exact and narrow != F16_FORMAT):
            costs[1::2] = [inf] * len(costs[1::2])
        return FormatNode(handed, tuple(costs), tuple(edges), narrow)

    def _narrow(self, handed: Handed) -> str:
        """f16 where something wants all of f32, f16 holds that, and some kernel of each that makes
        or reads it knows it. Products that round to bf16 anyway are 1 to 5 % faster than those of
        f16, which draw more power."""
        exact = handed.regions > 0 or any(reader.extra for reader in handed.readers)
        if not (exact and halves(self.low) and self.low.handing.magnitudes.in_f16(handed.value)):
            return BF16_FORMAT
        every = [rows for _, rows in self._readers(handed, F16_FORMAT)]
        every += [self._maker(handed, n, 1.0, F16_FORMAT, alone=True) for n in handed.makers]
        known = all(any(row[1] < inf for row in rows) for rows in every)
        return F16_FORMAT if known else BF16_FORMAT

    def _readers(self, handed: Handed, narrow: str) -> list[Edge]:
        """A kernel takes what it can; one that knows f32 only needs that."""
        edges: list[Edge] = []
        for number in dict.fromkeys(reader.question for reader in handed.readers):
            mine = [r for r in handed.readers if r.question == number]
            places = {r.operand for r in mine if not r.extra}
            extras = {r.operand for r in mine if r.extra and narrow == F16_FORMAT}
            reads = tuple(narrow if i in places else F32_FORMAT for i in range(mine[0].count))
            rows = []
            for j in range(len(self.questions[number].candidates)):
                change = self._change(number, j, reads, F32_FORMAT) if places else 0.0
                other = self._beside(number, j, extras) if extras else 0.0
                row = [0.0, change + other, 0.0 if change == inf else change]
                if handed.unmade is not None:
                    whole = len(mine) == 1 and mine[0].rows
                    row.append(self._normalizing(number, j, handed.unmade) if whole else inf)
                rows.append(tuple(row))
            edges.append((number, tuple(rows)))
        return edges

    def _maker(
        self, handed: Handed, number: int, part: float, narrow: str, alone: bool = False
    ) -> tuple[tuple[float, ...], ...]:
        """What its kernel adds, or a pass behind it, unless it has to do it ``alone``."""
        question = self.questions[number]
        elements = handed.elements
        passing = part * self._moved(elements, 6, self._rounding, launches=1)
        fresh = self._written(elements) if handed.inplace and not self.low.target.gpu else 0.0
        rows = []
        for j in range(len(question.candidates)):
            reads = (F32_FORMAT,) * handed.operands
            change = self._change(number, j, reads, narrow) + fresh
            rows.append((0.0, change if alone else min(change, passing), passing))
        return tuple(rows)

    @property
    def _rounding(self) -> int:
        return 1 if self.low.target.gpu else ROUNDING

    def _region(self, handed: Handed, formats: Formats) -> float:
        elements = handed.elements
        if formats == UNMADE and handed.unmade is not None:
            moved = 2 * BYTES[F32_FORMAT]
            return self._moved(elements, -moved, -NORMALIZING, launches=-1)
        if formats == ALONE:
            return 0.0
        narrow = BYTES[BF16_FORMAT]
        further = narrow if F32_FORMAT in formats else narrow - BYTES[F32_FORMAT]
        return self._moved(elements, further, self._rounding)

    def _change(self, number: int, j: int, reads: tuple[str, ...], writes: str) -> float:
        """What other formats add to a candidate's cost; inf if it has them not."""
        candidate = self.questions[number].candidates[j]
        return self._difference(number, candidate, stored(candidate, reads, writes))

    def _beside(self, number: int, j: int, extras: set[int]) -> float:
        """What reading extras in f16 adds to a candidate's cost; inf if it cannot."""
        candidate = self.questions[number].candidates[j]
        return self._difference(number, candidate, halved(self.low, candidate.spec, extras))

    def _normalizing(self, number: int, j: int, found: Unmade) -> float:
        """What it costs a candidate to normalize the rows that it reads; inf if it cannot."""
        candidate = self.questions[number].candidates[j]
        return self._difference(number, candidate, normed(candidate, candidate.spec, found))

    def _difference(self, number: int, candidate: Candidate, other: Any) -> float:
        """What the spec `other` costs more than a candidate's own; inf for None."""
        question = self.questions[number]
        if other is None:
            return inf
        total = 0.0
        for env, least in zip(self.prices.points, self.prices.least, strict=True):
            dims = sizes(question.dims, env)
            before, after = (
                predict(
                    candidate.family,
                    spec,
                    dims,
                    self.low.target,
                    self.profile,
                    self.threads,
                    self.cold,
                )
                for spec in (candidate.spec, other)
            )
            total += (after - before) / least
        return total

    def _written(self, elements: Dim) -> float:
        """Lines of bf16 that a kernel gets only to write them. With a residual of 3136 x 256 in L3
        that f32 results overwrite it took 0.37 ms instead of 0.22."""
        total = 0.0
        for env, least in zip(self.prices.points, self.prices.least, strict=True):
            (count,) = sizes((self.low.bound(elements),), env)
            seconds = count * BYTES[BF16_FORMAT] / self.profile.write.one / self.threads
            total += seconds / least
        return total

    def _moved(self, elements: Dim, each: int, operations: int, launches: int = 0) -> float:
        """``each`` further bytes and operations of all elements, and further launches."""
        profile, total = self.profile, 0.0
        for env, least in zip(self.prices.points, self.prices.least, strict=True):
            (count,) = sizes((self.low.bound(elements),), env)
            level = profile.read.l2 if 6 * count <= profile.l2 else profile.read.l3
            work = operations * profile.fit.epilogue / profile.vector
            seconds = count * (work + each / level.one) / self.threads
            launch = launches * (profile.fit.launch_ns + profile.launch_ns) * 1e-9
            total += (seconds + launch) / least
        return total
