"""Caps that a model keeps to or is refused by, with the whole message."""

import pytest

from tilewright.backends.llvm.schedule import Access, Lifetime
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Dim, sym
from tilewright.passes.memory.caps import Caps
from tilewright.passes.memory.fast import place_rest, plan_visits
from tilewright.passes.memory.planner import MemoryPlanner
from tilewright.passes.memory.problem import Buffer, PlanError

n, m = sym("n"), sym("m")
BOUNDED = {"n": Symbol(1, 8, ("shape", 0, 0)), "m": Symbol(1, 4, ("shape", 0, 1))}
OPEN = {"n": Symbol(1, None, ("shape", 0, 0)), "m": Symbol(1, None, ("shape", 0, 1))}


def steps(*touched: tuple[set[int], set[int]]) -> list[Access]:
    """Accesses of single steps, by what each reads and writes."""
    return [Access(frozenset(r), frozenset(w), i, i + 1) for i, (r, w) in enumerate(touched)]


def skipped(unit: Dim = 64) -> tuple[list[Access], list[Lifetime]]:
    """`early` waits beside `wide`, which only `narrow` is made from; `last` takes both."""
    accesses = steps((set(), {0}), ({0}, {1}), ({1}, {2}), ({0, 2}, {3}))
    rows = [
        Lifetime("early", 0, 4, 2 * unit),
        Lifetime("wide", 1, 3, 6 * unit),
        Lifetime("narrow", 2, 4, unit),
        Lifetime("last", 3, 4, unit),
    ]
    return accesses, rows


def message(planner: MemoryPlanner, accesses: list[Access], rows: list[Lifetime]) -> str:
    def compiled() -> None:
        planner.visits(accesses, rows)
        planner.place(accesses, rows, 1000)

    with pytest.raises(UserError) as refused:
        compiled()
    return str(refused.value)


def test_a_model_that_needs_more_memory_is_refused_with_what_blocks_it() -> None:
    planner = MemoryPlanner(BOUNDED, Caps(memory=5000))
    assert message(planner, *skipped(64 * n)) == (
        "max_memory: the model does not run in 5,000 bytes\n"
        "  weights take 1,000 bytes, intermediate tensors 4,608 with n = 8; "
        "these cannot be there together: 'wide' (3,072), 'early' (1,024)\n"
        "  try: narrow the dimensions with --dim, or allow 5,608 bytes"
    )
    assert message(MemoryPlanner({}, Caps(memory=900)), *skipped()) == (
        "max_memory: the model does not run in 900 bytes\n"
        "  weights take 1,000 bytes, intermediate tensors 576\n"
        "  try: allow 1,576 bytes"
    )
    roomy = MemoryPlanner({}, Caps(memory=1576))
    assert roomy.place(*skipped(), 1000).arena == 576


def test_a_step_that_needs_more_fast_memory_is_named_by_its_tensors() -> None:
    planner = MemoryPlanner({}, Caps(fast=500))
    assert message(planner, *skipped()) == (
        "fast_memory: 500 bytes do not hold what one step works on\n"
        "  it needs 512 bytes: 'wide' (384), 'early' (128)\n"
        "  try: allow 512 bytes or more"
    )


def test_what_is_inside_a_step_counts_too() -> None:
    rows = [Buffer("x", 0, 6, 64), *(Buffer(f"in{i}", 1 + i, 3 + i, 128) for i in range(3))]
    accesses = [
        Access(frozenset(), frozenset({0}), 0, 1),
        Access(frozenset({0}), frozenset({1, 2, 3}), 1, 6),
    ]
    found, traffic = plan_visits(accesses, rows, 320)
    assert traffic.copied == 0
    inner = {v.row: v.offset for v in found if v.row > 0}
    assert inner[1] == inner[3] != inner[2], "the first and the third never meet"
    with pytest.raises(UserError) as refused:
        plan_visits(accesses, rows, 319)
    assert str(refused.value) == (
        "fast_memory: 319 bytes do not hold what one step works on\n"
        "  it needs 320 bytes: 'x' (64) and 256 bytes inside of it\n"
        "  try: allow 320 bytes or more"
    )


@pytest.mark.parametrize("option", ["max_memory", "fast_memory"])
def test_dimensions_without_bounds_cannot_be_capped(option: str) -> None:
    caps = Caps(memory=1 << 40) if option == "max_memory" else Caps(fast=1 << 40)
    assert message(MemoryPlanner(OPEN, caps), *skipped(64 * n * m)) == (
        f"{option}: it takes dimensions with bounds\n"
        "  without: 'm', 'n'\n"
        "  try: --dim m=1..N --dim n=1..N"
    )


def test_what_waits_is_copied_out_and_back() -> None:
    accesses, rows = skipped()
    planner = MemoryPlanner({}, Caps(fast=512))
    found = planner.visits(accesses, rows)
    assert found is not None
    moves = [(v.row, v.first, v.end) for v in found if v.spilled or v.retrieved]
    assert moves == [(0, 0, 2), (0, 3, 4)]
    assert planner.traffic is not None
    assert planner.traffic.conclusion() == (
        "steps work in 512 B; a run copies 256 B: the fewest for this order"
    )
    assert MemoryPlanner({}, Caps(fast=576)).visits(accesses, rows) is None
    assert MemoryPlanner({}).visits(accesses, rows) is None


def test_the_rest_lies_above_the_fast_part() -> None:
    rows = [Buffer("a", 0, 4, 64), Buffer("out", 1, 6, 64), Buffer("b", 4, 6, 128)]
    assert place_rest(rows, [0, None, 0], 130) == [0, 192, 0]
    with pytest.raises(PlanError, match="overlap"):
        place_rest([*rows, Buffer("c", 2, 5, 64)], [0, None, 0, 64], 192)
