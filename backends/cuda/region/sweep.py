"""Regions with reductions.

A team of threads computes one unit (a combination of the axes that are kept) in phases: phase k
goes over the reduced points, evaluates what the k-th level of reductions needs and writes full
values that are ready. What a later phase needs again stays in registers where the row is short
enough, and is computed again from memory where it is not.

The lanes of a warp lie on a reduced axis ("rows") or on a kept one ("columns").
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from tilewright.backends.cuda.region.accumulate import State
from tilewright.backends.cuda.region.arith import CudaValue
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import decode
from tilewright.backends.cuda.region.pointwise import write
from tilewright.backends.cuda.region.scope import Frame, Scope, contiguous
from tilewright.backends.cuda.region.teams import Team
from tilewright.backends.llvm.emit.convert import register
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.analysis import is_full, phase_roots
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Iota,
    Load,
    Piece,
    Reduce,
    operands,
)

SLOTS = 4
"""Accumulators of one reduction along a column: they hide the latency of the additions."""

LIGHT = 200
"""Most additions that the body of a loop over a long row is worth if it is unrolled."""


def phases(plan: Schedule) -> list[int]:
    """Levels that reduce or write something for every point."""
    spec, facts = plan.spec, plan.facts
    return [k for k in range(facts.phases) if phase_roots(spec, facts, k)]


def kept(plan: Schedule) -> dict[int, int]:
    """Values that a pass leaves for later ones: node to the phase that computes it first."""
    spec, facts = plan.spec, plan.facts
    reduced = frozenset(spec.reduced)
    made: dict[int, int] = {}
    keep: dict[int, int] = {}
    for phase in phases(plan):
        now: dict[int, int] = {}
        stack = phase_roots(spec, facts, phase)
        while stack:
            i = stack.pop()
            node = spec.body[i]
            if isinstance(node, Reduce | Const | DimValue | Iota) or i in now:
                continue
            if not facts.axes[i] & reduced:
                continue
            if i in made and (plan.kind == "columns" or plan.lane in facts.axes[i]):
                keep[i] = made[i]
                continue
            now[i] = made.get(i, phase)
            if not isinstance(node, Piece):
                stack.extend(operands(node))
        made |= now
    return keep


def late(plan: Schedule) -> list[int]:
    """Loads that no reduction of the first phase needs: they can be on their way meanwhile."""
    spec, facts = plan.spec, plan.facts
    levels = phases(plan)
    if plan.kind != "rows" or len(spec.reduced) != 1 or len(levels) < 2:
        return []
    frame = Frame(Code(), spec, facts, plan.lane)
    scope = Scope(frame, None, {})
    first = scope.reach(phase_roots(spec, facts, levels[0]))
    others = scope.reach([i for k in levels[1:] for i in phase_roots(spec, facts, k)])
    return [
        i
        for i in sorted(others - first)
        if isinstance(spec.body[i], Load)
        and facts.phase[i] == 0
        and contiguous(frame, i)
        and not any(isinstance(n, Piece) for n in spec.body)
    ]


@dataclass
class Unit:
    """The emission of one unit's phases by one team: points ``first`` to ``points`` of it."""

    plan: Schedule
    team: Team
    frame: Frame
    scope: Scope
    rank: str
    points: str
    cached: bool
    first: str = "0"
    early: dict[int, str] = field(default_factory=dict)

    @property
    def code(self) -> Code:
        return self.frame.code

    @property
    def _light(self) -> bool:
        """Whether the body is short enough to be there twice."""
        cost = sum(self.plan.facts.cost[s.value] for s in self.plan.spec.outputs)
        return self.team.wide * cost <= LIGHT

    def run(self) -> None:
        """All phases, one after the other."""
        keep = kept(self.plan) if self.cached else {}
        arrays: dict[int, str] = {}
        if self.cached and self.team.early:
            self._fetch_early()
        for phase in phases(self.plan):
            mine = [i for i, level in keep.items() if level == phase]
            for node in mine:
                kind = TYPES[register(self.plan.facts.dtypes[node])]
                arrays[node] = self.code.name("keep")
                size = f"[{self.team.chunks}][{self.team.wide}]"
                self.code.line(f"{kind} {arrays[node]}{size};")
            earlier = {i: arrays[i] for i, level in keep.items() if level < phase}
            for state in self.phase(phase, {i: arrays[i] for i in mine}, earlier):
                self.scope.memo[state.node] = state.result()

    def _fetch_early(self) -> None:
        """Declare room for what later phases read; the first one brings it."""
        team, code, spec = self.team, self.code, self.plan.spec
        for node in late(self.plan):
            load = spec.body[node]
            assert isinstance(load, Load)
            kind = TYPES[self.frame.kind(spec.inputs[load.input])]
            self.early[node] = code.name("x")
            code.line(f"alignas(16) {kind} {self.early[node]}[{team.chunks}][{team.wide}];")

    def phase(self, phase: int, mine: dict[int, str], earlier: dict[int, str]) -> list[State]:
        """One phase; its reductions, each in slot 0 of the whole team. ``mine``: arrays for values
        that later phases need, ``earlier``: those that are there already."""
        spec, facts, code = self.plan.spec, self.plan.facts, self.code
        reductions = [
            i
            for i, n in enumerate(spec.body)
            if isinstance(n, Reduce) and facts.phase[n.arg] == phase
        ]
        stores = [
            k
            for k, s in enumerate(spec.outputs)
            if is_full(spec, s) and facts.phase[s.value] == phase
        ]
        args = [n.arg for n in (spec.body[i] for i in reductions) if isinstance(n, Reduce)]
        roots = phase_roots(spec, facts, phase)
        self.scope.hoist(roots)
        slots = SLOTS if self.plan.kind == "columns" else self.team.wide
        states = [State.of(self.frame, i, slots) for i in reductions]

        def point(scope: Scope, slot: str, place: str) -> None:
            """What to do with one element."""
            for node, array in mine.items():
                code.line(f"{array}{place} = {scope.get(node).text};")
            for state, arg in zip(states, args, strict=True):
                value = scope.get(arg)
                index = value
                if state.rule.arg:
                    index = CudaValue(f"({scope.index[spec.reduced[0]]})", "i64")
                state.take(slot, value, index)

        def prepare(scope: Scope, place: str) -> None:
            if phase > 0:
                scope.raw |= {node: f"{array}{place}" for node, array in self.early.items()}
            for node, array in earlier.items():
                dtype = register(facts.dtypes[node])
                scope.kept[node] = CudaValue(f"{array}{place}", dtype)

        if self.plan.kind == "rows":
            known = self.scope.known_inverses(roots)
            if known:
                # Nearly always all divisors are moderate: no element has to ask.
                with code.block(f"if ({' && '.join(f'{x.text} == {x.text}' for x in known)})"):
                    self.frame.moderate |= {x.text for x in known}
                    self._row(stores, [*args, *mine], point, prepare)
                    self.frame.moderate.clear()
            with code.block("else") if known else nullcontext():
                self._row(stores, [*args, *mine], point, prepare)
        else:
            self._column(stores, roots, point, prepare)
        for state in states:
            state.fold()
            self.team.combine(state)
        return states

    def _row(
        self,
        stores: list[int],
        others: list[int],
        point: Callable[[Scope, str, str], None],
        prepare: Callable[[Scope, str], None],
    ) -> None:
        spec, code, team = self.plan.spec, self.code, self.team
        lane = self.plan.lane
        outer = [a for a in spec.reduced if a != lane]
        extent = spec.domain[lane]
        groups = dims.ceildiv(extent, team.wide)

        def body(q: str) -> None:
            at = self.scope.inner()
            group = q
            if outer:
                each = dim_text(groups)
                group = code.let("i64", f"tw_rem({q}, {each})")
                line = code.let("i64", f"tw_div({q}, {each})")
                at = self.scope.inner(decode(code, spec, outer, line))
            base = code.let("i64", f"{group} * {team.wide}")
            count = str(team.wide)
            if not isinstance(extent, int) or extent % team.wide:
                count = code.let("int", f"(int)tw_min({count}, {dim_text(extent)} - {base})")
            prepare(at, "[c][k]")
            if self.early and not at.raw:
                start = at.inner({lane: base})
                for node, array in self.early.items():
                    load = spec.body[node]
                    assert isinstance(load, Load)
                    place = f"in{load.input} + ({start.address(load)})"
                    code.line(f"tw_load({array}[c], {place}, {count});")

            def visit(scope: Scope) -> None:
                point(scope, "k", "[c][k]")

            write(at, stores, team.wide, count, base, others, visit if others else None)

        if self.cached:
            code.line("#pragma unroll")
            with code.block(f"for (int c = 0; c < {team.chunks}; c++)"):
                q = code.let("i64", f"c * {team.threads} + {self.rank}")
                with code.block(f"if ({q} < {self.points})"):
                    body(q)
        else:
            code.line(f"#pragma unroll {2 if self._light else 1}")
            step = team.threads
            start = f"i64 q = {self.first} + {self.rank}"
            with code.block(f"for ({start}; q < {self.points}; q += {step})"):
                body("q")

    def _column(
        self,
        stores: list[int],
        roots: list[int],
        point: Callable[[Scope, str, str], None],
        prepare: Callable[[Scope, str], None],
    ) -> None:
        spec, code, team = self.plan.spec, self.code, self.team

        def body(q: str, slot: str) -> None:
            with code.block(f"if ({q} < {self.points})"):
                at = self.scope.inner(decode(code, spec, sorted(spec.reduced), q))
                prepare(at, "[c][0]")
                at.hoist(roots)
                point(at, slot, "[c][0]")
                for number in stores:
                    at.store(number, spec.outputs[number])

        if self.cached:
            code.line("#pragma unroll")
            with code.block(f"for (int c = 0; c < {team.chunks}; c++)"):
                q = code.let("i64", f"c * {team.threads} + {self.rank}")
                body(q, f"c % {SLOTS}")
        else:
            step = team.threads * SLOTS
            start = f"i64 c = {self.first} + {self.rank}"
            with code.block(f"for ({start}; c < {self.points}; c += {step})"):
                code.line("#pragma unroll")
                with code.block(f"for (int k = 0; k < {SLOTS}; k++)"):
                    q = code.let("i64", f"c + k * {team.threads}")
                    body(q, "k")
