"""Regions with reductions.

A team of threads computes one unit (a combination of the axes that are kept) in phases: phase k
goes over the reduced points, evaluates what the k-th level of reductions needs and writes full
values that are ready. What a later phase needs again stays in registers where the row is short
enough, and is computed again from memory where it is not.

The lanes of a warp lie on a reduced axis ("rows") or on a kept one ("columns").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.accumulate import State
from tilewright.backends.cuda.region.arith import CudaValue
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import decode, formula, function, waits
from tilewright.backends.cuda.region.pointwise import width, write
from tilewright.backends.cuda.region.scope import Frame, Scope
from tilewright.backends.cuda.region.teams import Team, teams
from tilewright.backends.llvm.emit.convert import register
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.analysis import is_full, phase_roots
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Iota,
    Piece,
    Reduce,
    operands,
)
from tilewright.backends.target import Target

SLOTS = 4
"""Accumulators of one reduction along a column: they hide the latency of the additions."""


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


@dataclass
class _Unit:
    """The emission of one unit's phases by one team."""

    plan: Schedule
    team: Team
    code: Code
    frame: Frame
    scope: Scope
    rank: str
    points: str
    cached: bool

    def run(self) -> None:
        keep = kept(self.plan) if self.cached else {}
        arrays: dict[int, str] = {}
        for phase in phases(self.plan):
            mine = [i for i, level in keep.items() if level == phase]
            for node in mine:
                kind = TYPES[register(self.plan.facts.dtypes[node])]
                arrays[node] = self.code.name("keep")
                size = f"[{self.team.chunks}][{self.team.wide}]"
                self.code.line(f"{kind} {arrays[node]}{size};")
            earlier = {i: arrays[i] for i, level in keep.items() if level < phase}
            self._phase(phase, {i: arrays[i] for i in mine}, earlier)

    def _phase(self, phase: int, mine: dict[int, str], earlier: dict[int, str]) -> None:
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
            for node, array in earlier.items():
                dtype = register(facts.dtypes[node])
                scope.kept[node] = CudaValue(f"{array}{place}", dtype)

        if self.plan.kind == "rows":
            self._row(stores, [*args, *mine], point, prepare)
        else:
            self._column(stores, roots, point, prepare)
        for state, node in zip(states, reductions, strict=True):
            state.fold()
            self.team.combine(state)
            self.scope.memo[node] = state.result()

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
            code.line("#pragma unroll 2")
            step = team.threads
            with code.block(f"for (i64 q = {self.rank}; q < {self.points}; q += {step})"):
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
            with code.block(f"for (i64 c = {self.rank}; c < {self.points}; c += {step})"):
                code.line("#pragma unroll")
                with code.block(f"for (int k = 0; k < {SLOTS}; k++)"):
                    q = code.let("i64", f"c + k * {team.threads}")
                    body(q, "k")


def _variant(plan: Schedule, target: Target, name: str, team: Team) -> tuple[str, Entry]:
    """One function: all units, each by a team of ``team``."""
    spec, lane = plan.spec, plan.lane
    code = Code()
    frame = Frame(code, spec, plan.facts, lane)
    frame.pointers()
    kept_axes = [a for a in range(len(spec.domain)) if a not in spec.reduced]
    if plan.kind == "rows":
        units = dims.product([spec.domain[a] for a in kept_axes])
        blocks = dims.ceildiv(units, team.teams)
        points: Dim = dims.mul(
            dims.product([spec.domain[a] for a in spec.reduced if a != lane]),
            dims.ceildiv(spec.domain[lane], team.wide),
        )
        rank, unit, live = "threadIdx.x", "(i64)blockIdx.x", ""
        if team.teams > 1:
            rank = code.let("int", f"threadIdx.x % {team.threads}")
            given = code.let("i64", f"{unit} * {team.teams} + threadIdx.x / {team.threads}")
            live = code.let("bool", f"{given} < {dim_text(units)}", "v")
            unit = f"({live} ? {given} : {dim_text(units)} - 1)"
        unit = code.let("i64", unit)
        index = decode(code, spec, kept_axes, unit)
    else:
        outer = [a for a in kept_axes if a != lane]
        strips = dims.ceildiv(spec.domain[lane], team.teams)
        blocks = dims.mul(dims.product([spec.domain[a] for a in outer]), strips)
        points = plan.reduced_size
        rank = "threadIdx.y"
        each = dim_text(strips)
        strip = code.let("i64", f"tw_rem(blockIdx.x, {each})")
        index = {}
        if outer:
            index = decode(code, spec, outer, code.let("i64", f"tw_div(blockIdx.x, {each})"))
        given = code.let("i64", f"{strip} * {team.teams} + threadIdx.x")
        extent = dim_text(spec.domain[lane])
        live = code.let("bool", f"{given} < {extent}", "v")
        index[lane] = code.let("i64", f"{live} ? {given} : {extent} - 1")
    all_points = code.let("i64", dim_text(points))
    mine = code.let("i64", f"{live} ? {all_points} : 0") if live else all_points

    def run(cached: bool) -> None:
        scope = Scope(frame, None, index)
        _Unit(plan, team, code, frame, scope, rank, mine, cached).run()
        rest = [n for n, s in enumerate(spec.outputs) if not is_full(spec, s)]
        if rest:
            test = f"if ({rank} == 0" + (f" && {live})" if live else ")")
            with code.block(test):
                last = scope.inner()
                for n in rest:
                    last.store(n, spec.outputs[n])

    if team.chunks and team.loops:
        with code.block(f"if ({all_points} <= {team.chunks * team.threads})"):
            run(True)
        with code.block("else"):
            run(False)
    else:
        run(bool(team.chunks))
    block = (team.threads * team.teams, 1, 1)
    if plan.kind == "columns":
        block = (team.teams, team.threads, 1)
    size = block[0] * block[1]
    source = function(spec, target, name + team.suffix, size, code)
    grid = formula(blocks)
    if team.gate:
        grid = f"({grid}) * ({team.gate})"
    return source, Entry((grid, "1", "1"), block, suffix=team.suffix, overlaps=waits(target))


def emit_reduction(plan: Schedule, target: Target, name: str) -> tuple[str, tuple[Entry, ...], str]:
    """Source, entries and bytes of workspace of a region with reductions."""
    wide = width(plan, reduced=True) if plan.kind == "rows" else 1
    made = [_variant(plan, target, name, team) for team in teams(plan, wide, len(kept(plan)))]
    return "\n".join(text for text, _ in made), tuple(entry for _, entry in made), "0"
