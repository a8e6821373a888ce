"""How many threads share a unit of a reduction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.cuda.region.accumulate import State
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.schedule import Schedule

WARP = 32
BLOCK = 128
"""Threads of a block of small teams."""

REGISTERS = 32
"""Most elements of one value that a thread keeps between passes."""

UNROLLED = 1536
"""Most additions that the unrolled passes of a thread over its row are worth."""

COLUMN_THREADS = 16
SHARED_COLUMN = 8

EARLY, FEW_ROWS = 96, 2048
"""Most elements that a thread fetches early, and rows that are on the device all at once even so:
their time is latency, 1.5 instead of 2.1 us for 128 rows of 384. More rows need the registers for
more threads instead, 137 instead of 151 us for 175000."""

FEWEST, MOST = 4, 64
"""Blocks that a unit must be worth for several to share it, and blocks of a launch where units are
few enough for that."""


@dataclass(frozen=True)
class Team:
    """``threads`` of a unit and ``teams`` units of a block; ``wide`` elements of a thread at once.

    ``chunks``: times ``threads`` that the cached form covers a row, 0 if there is none; ``loops``:
    whether there is a form for longer rows. ``gate``: formula, 1 where this one is launched.
    ``share``: points of a block where several share a unit. ``early``: whether what later phases
    load is fetched at once.
    """

    columns: bool
    threads: int
    teams: int
    wide: int
    chunks: int
    loops: bool
    suffix: str = ""
    gate: str = ""
    share: int = 0
    early: bool = False

    def combine(self, state: State) -> None:
        """The team's accumulators into one that all of it know."""
        if self.columns:
            if self.threads > 1:
                state.share(self.threads, self.teams, "threadIdx.y", "threadIdx.x")
            return
        state.across(min(self.threads, WARP))
        if self.threads > WARP:
            state.share(self.threads // WARP, 1, "threadIdx.x / 32", "0")


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _clamp(n: int, low: int, high: int) -> int:
    return max(low, min(high, n))


def _at_most(size: Dim, limit: int) -> str:
    """1 if ``size`` <= ``limit``, else 0."""
    return f"max(0, min(1, {limit + 1} - ({dims.text(size)})))"


def _with_early(rows: list[Team], units: Dim, late: int) -> list[Team]:
    """``rows``, and forms for few units that fetch the operands of later phases early."""
    made = []
    for team in rows:
        fits = late and team.chunks * team.wide * (1 + late) <= EARLY
        if not fits or team.loops or (isinstance(units, int) and units > FEW_ROWS):
            made.append(team)
        elif isinstance(units, int):
            made.append(replace(team, early=True))
        else:
            few, suffix = _at_most(units, FEW_ROWS), team.suffix
            gates = [few, f"1 - {few}"]
            if team.gate:
                gates = [f"({team.gate}) * ({g})" for g in gates]
            made.append(replace(team, early=True, suffix=f"{suffix}_few", gate=gates[0]))
            made.append(replace(team, suffix=f"{suffix}_many", gate=gates[1]))
    return made


def teams(plan: Schedule, wide: int, keeps: int, late: int) -> tuple[list[Team], Team | None]:
    """The forms of a reduction and, for few long units, the one where several blocks share each;
    exactly one of all is launched for given sizes."""
    cost = max(1, sum(plan.facts.cost[s.value] for s in plan.spec.outputs))
    most = _clamp(UNROLLED // (wide * cost), 1, 8)
    kept_axes = [a for a in range(len(plan.spec.domain)) if a not in plan.spec.reduced]
    units = dims.product([plan.spec.domain[a] for a in kept_axes])
    if plan.kind == "columns":
        points, blocks = plan.reduced_size, dims.ceildiv(units, WARP)
        plain = _columns(points, keeps, most)
        shared = Team(True, SHARED_COLUMN, WARP, 1, 0, True, "_shared", share=SHARED_COLUMN * 32)
    else:
        points = dims.mul(
            dims.product([plan.spec.domain[a] for a in plan.spec.reduced if a != plan.lane]),
            dims.ceildiv(plan.spec.domain[plan.lane], wide),
        )
        blocks = units
        plain = _rows(points, wide, _clamp(REGISTERS // wide // max(1, keeps - 1), 1, most))
        plain = _with_early(plain, units, late)
        shared = Team(False, 256, 1, wide, 0, True, "_shared", share=256 * 8)
    if isinstance(points, int) and isinstance(blocks, int):
        few = points >= FEWEST * shared.share and blocks <= MOST
        return ([], shared) if few else (plain, None)
    if isinstance(points, int) and points < FEWEST * shared.share:
        return plain, None
    if isinstance(blocks, int) and blocks > MOST:
        return plain, None
    short = _at_most(points, FEWEST * shared.share - 1)
    gate = f"(1 - {short}) * {_at_most(blocks, MOST)}"
    gated = [
        replace(t, gate=f"({t.gate}) * (1 - {gate})" if t.gate else f"1 - {gate}") for t in plain
    ]
    return gated, replace(shared, gate=gate)


def _rows(groups: Dim, wide: int, per: int) -> list[Team]:
    if not isinstance(groups, int):
        small = WARP * min(per, 4)
        fits = _at_most(groups, small)
        return [
            Team(False, WARP, BLOCK // WARP, wide, small // WARP, False, "_warp", fits),
            Team(False, 256, 1, wide, min(per, 4), True, "_block", f"1 - {fits}"),
        ]
    if groups <= WARP * per:
        threads = min(WARP, _power(groups))
        return [Team(False, threads, BLOCK // threads, wide, -(-max(groups, 1) // threads), False)]
    threads = _clamp(_power(-(-groups // min(per, 4))), 64, 512)
    if groups > threads * per:
        threads = 1024
    chunks = -(-groups // threads)
    cached = chunks <= per
    return [Team(False, threads, 1, wide, chunks if cached else 0, not cached)]


def _columns(points: Dim, keeps: int, most: int) -> list[Team]:
    per = _clamp(REGISTERS // max(1, keeps - 1), 1, most)
    if not isinstance(points, int):
        return [Team(True, 8, WARP, 1, per, True)]
    threads = _clamp(_power(-(-points // 4)), 1, COLUMN_THREADS)
    columns = max(WARP, BLOCK // threads)
    chunks = -(-max(points, 1) // threads)
    cached = chunks <= per
    return [Team(True, threads, columns, 1, chunks if cached else 0, not cached)]
