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
from tilewright.backends.llvm.formats import BF16_FORMAT, BYTES, F32_FORMAT
from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.handing import (
    BOTH,
    ROUNDED,
    STRATEGIES,
    Formats,
    Handed,
    normed,
    stored,
)
from tilewright.backends.llvm.lowering.pricing import Prices, sizes
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.unmade import UNMADE, Unmade
from tilewright.backends.profile import MachineProfile
from tilewright.compiler.ir.dims import Dim

ROUNDING = 8
"""Operations of a region that rounds an element: bits, oddness, sum, shift, NaN, narrowing."""

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
    """A value as a node of the selection: what each of STRATEGIES costs by itself, in the units of
    `Prices.costs`, and beside the kernel that answers a question. UNMADE, the last one, is a
    strategy of normalized values only."""

    handed: Handed
    costs: tuple[float, ...]
    edges: tuple[Edge, ...]

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
        edges = self._readers(handed)
        strategies = STRATEGIES if handed.unmade is not None else STRATEGIES[:-1]
        if all(cost == inf for _, rows in edges for row in rows for cost in row[1::2]):
            return None
        if handed.makers:
            costs = [0.0, -LIKING, 0.0]
            edges += [(n, self._maker(handed, n, part)) for n, part in handed.makers.items()]
        else:
            costs = [self._region(handed, formats) for formats in strategies]
        for j, formats in enumerate(strategies):
            if handed.plain and formats in (ROUNDED, UNMADE):
                costs[j] = inf
        return FormatNode(handed, tuple(costs), tuple(edges))

    def _readers(self, handed: Handed) -> list[Edge]:
        """A kernel takes what it can; one that knows f32 only needs that."""
        edges: list[Edge] = []
        for number in dict.fromkeys(reader.question for reader in handed.readers):
            mine = [r for r in handed.readers if r.question == number]
            places = {r.operand for r in mine}
            reads = tuple(BF16_FORMAT if i in places else F32_FORMAT for i in range(mine[0].count))
            rows = []
            for j in range(len(self.questions[number].candidates)):
                change = self._change(number, j, reads, F32_FORMAT)
                row = [0.0, change, 0.0 if change == inf else change]
                if handed.unmade is not None:
                    whole = len(mine) == 1 and mine[0].rows
                    row.append(self._normalizing(number, j, handed.unmade) if whole else inf)
                rows.append(tuple(row))
            edges.append((number, tuple(rows)))
        return edges

    def _maker(self, handed: Handed, number: int, part: float) -> tuple[tuple[float, ...], ...]:
        question = self.questions[number]
        elements = handed.elements
        passing = part * self._moved(elements, 6, ROUNDING, launches=1)
        fresh = self._written(elements) if handed.inplace else 0.0
        rows = []
        for j in range(len(question.candidates)):
            reads = (F32_FORMAT,) * handed.operands
            change = self._change(number, j, reads, BF16_FORMAT) + fresh
            rows.append((0.0, min(change, passing), passing))
        return tuple(rows)

    def _region(self, handed: Handed, formats: Formats) -> float:
        elements = handed.elements
        if formats == UNMADE and handed.unmade is not None:
            moved = 2 * BYTES[F32_FORMAT]
            return self._moved(elements, -moved, -NORMALIZING, launches=-1)
        if formats == BOTH:
            return self._moved(elements, BYTES[BF16_FORMAT], ROUNDING)
        if formats == ROUNDED:
            return self._moved(elements, BYTES[BF16_FORMAT] - BYTES[F32_FORMAT], ROUNDING)
        return 0.0

    def _change(self, number: int, j: int, reads: tuple[str, ...], writes: str) -> float:
        """What other formats add to a candidate's cost; inf if it has them not."""
        candidate = self.questions[number].candidates[j]
        return self._difference(number, candidate, stored(candidate, reads, writes))

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
