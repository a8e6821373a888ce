"""Regions with reductions: the functions of their forms, and units so long and so few that several
blocks share each.

A shared unit takes one function a phase. Each block leaves its accumulators in the workspace; the
next phase's blocks, and a last function for what is written once a unit, merge them in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.accumulate import State
from tilewright.backends.cuda.region.arith import CudaValue
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import decode, formula, function, waits
from tilewright.backends.cuda.region.pointwise import width
from tilewright.backends.cuda.region.scope import Frame, Scope
from tilewright.backends.cuda.region.sweep import Unit, kept, late, phases
from tilewright.backends.cuda.region.teams import Team, teams
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.analysis import is_full
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import ARG_REDUCTIONS, Reduce
from tilewright.backends.target import Target


@dataclass(frozen=True)
class _Place:
    """Where a block's threads are: the unit's scope, the rank in its team, whether it exists
    (text, empty if all do), its number among all ``units``, and the points of a unit."""

    frame: Frame
    index: dict[int, str]
    rank: str
    live: str
    number: str
    units: Dim
    blocks: Dim
    points: Dim

    @property
    def scope(self) -> Scope:
        return Scope(self.frame, None, self.index)

    def finish(self, scope: Scope) -> None:
        """Write what has one element a unit."""
        spec, code = self.frame.spec, self.frame.code
        rest = [n for n, s in enumerate(spec.outputs) if not is_full(spec, s)]
        if rest:
            with code.block(f"if ({self.rank} == 0" + (f" && {self.live})" if self.live else ")")):
                last = scope.inner()
                for n in rest:
                    last.store(n, spec.outputs[n])


def _units(plan: Schedule, team: Team) -> tuple[Dim, Dim, Dim]:
    """(units, blocks for all of them, points of one as threads count them)"""
    spec, lane = plan.spec, plan.lane
    kept_axes = [a for a in range(len(spec.domain)) if a not in spec.reduced]
    units = dims.product([spec.domain[a] for a in kept_axes])
    if plan.kind == "columns":
        outer = dims.product([spec.domain[a] for a in kept_axes if a != lane])
        strips = dims.ceildiv(spec.domain[lane], team.teams)
        return units, dims.mul(outer, strips), plan.reduced_size
    others = dims.product([spec.domain[a] for a in spec.reduced if a != lane])
    points = dims.mul(others, dims.ceildiv(spec.domain[lane], team.wide))
    return units, dims.ceildiv(units, team.teams), points


def _place(plan: Schedule, team: Team, code: Code, block: str) -> _Place:
    """Declare what the threads of block ``block`` work on."""
    spec, lane = plan.spec, plan.lane
    frame = Frame(code, spec, plan.facts, lane)
    frame.pointers()
    units, blocks, points = _units(plan, team)
    kept_axes = [a for a in range(len(spec.domain)) if a not in spec.reduced]
    if plan.kind == "rows":
        rank, unit, live = "threadIdx.x", block, ""
        if team.teams > 1:
            rank = code.let("int", f"threadIdx.x % {team.threads}")
            given = code.let("i64", f"{block} * {team.teams} + threadIdx.x / {team.threads}")
            live = code.let("bool", f"{given} < {dim_text(units)}", "v")
            unit = f"{live} ? {given} : {dim_text(units)} - 1"
        number = code.let("i64", unit)
        index = decode(code, spec, kept_axes, number)
        return _Place(frame, index, rank, live, number, units, blocks, points)
    outer = [a for a in kept_axes if a != lane]
    extent = dim_text(spec.domain[lane])
    each = dim_text(dims.ceildiv(spec.domain[lane], team.teams))
    strip = code.let("i64", f"tw_rem({block}, {each})")
    before = "0"
    index = {}
    if outer:
        before = code.let("i64", f"tw_div({block}, {each})")
        index = decode(code, spec, outer, before)
    given = code.let("i64", f"{strip} * {team.teams} + threadIdx.x")
    live = code.let("bool", f"{given} < {extent}", "v")
    index[lane] = code.let("i64", f"{live} ? {given} : {extent} - 1")
    number = code.let("i64", f"{before} * {extent} + {index[lane]}")
    return _Place(frame, index, "threadIdx.y", live, number, units, blocks, points)


def _block(team: Team) -> tuple[int, int, int]:
    return (team.teams, team.threads, 1) if team.columns else (team.threads * team.teams, 1, 1)


def _variant(plan: Schedule, target: Target, name: str, team: Team) -> tuple[str, Entry]:
    """One function: all units, each by a team of ``team``."""
    code = Code()
    place = _place(plan, team, code, "(i64)blockIdx.x")
    points = code.let("i64", dim_text(place.points))
    mine = code.let("i64", f"{place.live} ? {points} : 0") if place.live else points

    def run(cached: bool) -> None:
        scope = place.scope
        Unit(plan, team, place.frame, scope, place.rank, mine, cached).run()
        place.finish(scope)

    if team.chunks and team.loops:
        with code.block(f"if ({points} <= {team.chunks * team.threads})"):
            run(True)
        with code.block("else"):
            run(False)
    else:
        run(bool(team.chunks))
    block = _block(team)
    source = function(plan.spec, target, name + team.suffix, block[0] * block[1], code)
    grid = formula(place.blocks)
    grid = f"({grid}) * ({team.gate})" if team.gate else grid
    return source, Entry((grid, "1", "1"), block, suffix=team.suffix, overlaps=waits(target))


@dataclass(frozen=True)
class _Shared:
    """Units that several blocks share: ``parts`` blocks each."""

    plan: Schedule
    target: Target
    name: str
    team: Team

    @property
    def parts(self) -> Dim:
        _, _, points = _units(self.plan, self.team)
        return dims.maximum(1, dims.ceildiv(points, self.team.share))

    @property
    def cells(self) -> dict[int, int]:
        """Number of the first array of partial accumulators of every reduction."""
        found: dict[int, int] = {}
        count = 0
        for i, node in enumerate(self.plan.spec.body):
            if isinstance(node, Reduce):
                found[i] = count
                count += 2 if node.kind in ARG_REDUCTIONS else 1
        return found

    @property
    def workspace(self) -> str:
        """Bytes: 8 for every part of every accumulator of every unit."""
        arrays = sum(
            2 if node.kind in ARG_REDUCTIONS else 1
            for node in self.plan.spec.body
            if isinstance(node, Reduce)
        )
        units, _, _ = _units(self.plan, self.team)
        size = formula(dims.mul(8 * arrays, dims.mul(units, self.parts)))
        return f"({size}) * ({self.team.gate})" if self.team.gate else size

    def _cell(self, place: _Place, node: int, part: int, number: str) -> str:
        """Address of a partial accumulator: unit by unit within each part."""
        units, parts = dim_text(place.units), dim_text(self.parts)
        first = self.cells[node] + part
        return f"workspace + 8 * (({first} * {parts} + {number}) * {units} + {place.number})"

    def _merged(self, place: _Place, scope: Scope, levels: list[int]) -> None:
        """The results of earlier phases from their parts."""
        spec, facts, code = self.plan.spec, self.plan.facts, place.frame.code
        for i, node in enumerate(spec.body):
            if not isinstance(node, Reduce) or facts.phase[node.arg] not in levels:
                continue
            state = State.of(place.frame, i, 1)
            head = (
                f"for (i64 w = {place.rank}; w < {dim_text(self.parts)}; w += {self.team.threads})"
            )
            with code.block(head):
                other = []
                for part, kind in enumerate(state.types):
                    address = self._cell(place, i, part, "w")
                    text = f"*(const {TYPES[kind]} *)({address})"
                    other.append(CudaValue(code.let(TYPES[kind], text, "v"), kind))
                state.set("0", state.merge(state.slot("0"), other))
            self.team.combine(state)
            scope.memo[i] = state.result()

    def _function(self, level: int | None, before: list[int], suffix: str) -> tuple[str, Entry]:
        plan, team = self.plan, self.team
        code = Code()
        parts = dim_text(self.parts)
        block, part = "(i64)blockIdx.x", "0"
        if level is not None:
            part = code.let("i64", f"tw_rem(blockIdx.x, {parts})")
            block = code.let("i64", f"tw_div(blockIdx.x, {parts})")
        place = _place(plan, team, code, block)
        scope = place.scope
        self._merged(place, scope, before)
        blocks = place.blocks
        if level is None:
            place.finish(scope)
        else:
            blocks = dims.mul(blocks, self.parts)
            first = code.let("i64", f"{part} * {team.share}")
            end = f"tw_min({first} + {team.share}, {dim_text(place.points)})"
            end = code.let("i64", f"{place.live} ? {end} : 0" if place.live else end)
            unit = Unit(plan, team, place.frame, scope, place.rank, end, False, first)
            states = unit.phase(level, {}, {})
            test = f"{place.rank} == 0" + (f" && {place.live}" if place.live else "")
            with code.block(f"if ({test})"):
                for state in states:
                    for number, value in enumerate(state.slot("0")):
                        address = self._cell(place, state.node, number, part)
                        code.line(f"*({TYPES[value.dtype]} *)({address}) = {value.text};")
        shape = _block(team)
        source = function(plan.spec, self.target, self.name + suffix, shape[0] * shape[1], code)
        grid = formula(blocks)
        grid = f"({grid}) * ({team.gate})" if team.gate else grid
        return source, Entry((grid, "1", "1"), shape, suffix=suffix, overlaps=waits(self.target))

    def functions(self) -> list[tuple[str, Entry]]:
        spec, levels = self.plan.spec, phases(self.plan)
        made = [
            self._function(level, levels[:k], f"{self.team.suffix}{k}")
            for k, level in enumerate(levels)
        ]
        if not all(is_full(spec, s) for s in spec.outputs):
            made.append(self._function(None, levels, f"{self.team.suffix}_end"))
        return made


def emit_reduction(plan: Schedule, target: Target, name: str) -> tuple[str, tuple[Entry, ...], str]:
    """Source, entries and bytes of workspace of a region with reductions."""
    wide = width(plan, reduced=True) if plan.kind == "rows" else 1
    workspace = "0"
    plain, shared = teams(plan, wide, len(kept(plan)), len(late(plan)))
    made = [_variant(plan, target, name, team) for team in plain]
    if shared is not None:
        several = _Shared(plan, target, name, shared)
        made += several.functions()
        workspace = several.workspace
    return "\n".join(text for text, _ in made), tuple(entry for _, entry in made), workspace
