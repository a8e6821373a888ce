"""The exact packer on perfect packings, small proofs, and the MiniMalloc benchmarks."""

import csv
import os
import random
import time
from pathlib import Path

import pytest

from tilewright.passes.memory.blocking import blocking
from tilewright.passes.memory.exact import decide, pack_exact, pack_within
from tilewright.passes.memory.greedy import pack_greedy
from tilewright.passes.memory.problem import Buffer, height, max_live, validate
from tilewright.passes.memory.search import Undecided
from tilewright.passes.memory.sections import sweep

CAPACITY = 1048576


def cut_rectangle(seed: int, steps: int, bytes_: int, pieces: int) -> list[Buffer]:
    """Guillotine cuts of a rectangle: a packing without a gap whose optimum is `bytes_`."""
    r = random.Random(seed)
    parts = [(0, steps, 0, bytes_)]
    while len(parts) < pieces:
        parts.sort(key=lambda p: (p[1] - p[0]) * (p[3] - p[2]))
        lower, upper, low, high = parts.pop(-1 if r.random() < 0.7 else r.randrange(len(parts)))
        across = r.random() < (upper - lower) / (upper - lower + (high - low) / 8)
        if across and upper - lower > 1:
            cut = r.randrange(lower + 1, upper)
            parts += [(lower, cut, low, high), (cut, upper, low, high)]
        elif high - low > 1:
            cut = r.randrange(low + 1, high)
            parts += [(lower, upper, low, cut), (lower, upper, cut, high)]
        else:
            parts.append((lower, upper, low, high))
    r.shuffle(parts)
    return [Buffer(f"p{i}", a, b, high - low) for i, (a, b, low, high) in enumerate(parts)]


@pytest.mark.parametrize(("seed", "pieces"), [(1, 60), (2, 90)])
def test_cut_rectangles_are_put_together_again(seed: int, pieces: int) -> None:
    buffers = cut_rectangle(seed, 60, 500, pieces)
    start = pack_greedy(buffers)
    assert height(buffers, start) > max_live(buffers) == 500
    offsets, proven = pack_exact(buffers, start, 20.0)
    validate(buffers, offsets, 500)
    assert proven


def test_search_is_deterministic() -> None:
    buffers = cut_rectangle(3, 40, 300, 50)
    assert pack_within(buffers, 300, 20.0) == pack_within(buffers, 300, 20.0) is not None


def test_sections_are_the_maximal_live_sets() -> None:
    r = random.Random(5)
    for _ in range(50):
        buffers = [
            Buffer(f"b{i}", a, a + r.randrange(4), 8 * r.randrange(5))
            for i, a in enumerate(r.choices(range(12), k=10))
        ]
        live = [
            {i for i, b in enumerate(buffers) if b.lower <= t < b.upper and b.size}
            for t in range(16)
        ]
        maximal = {frozenset(s) for s in live if s and not any(s < other for other in live)}
        found = sweep(buffers)
        columns = [
            frozenset(found.indices[k] for k in range(len(found.indices)) if found.inside[k, s])
            for s in range(found.count)
        ]
        assert set(columns) == maximal
        assert len(columns) == len(maximal)
        for k in range(len(found.indices)):
            assert found.inside[k].nonzero()[0].tolist() == [*range(found.low[k], found.high[k])]


def never_met() -> list[Buffer]:
    """Nine buffers with 5 bytes alive at most that need 6."""
    rows = [(0, 5, 1), (3, 5, 1), (3, 7, 1), (4, 6, 2), (6, 7, 3), (0, 4, 1), (1, 3, 3)]
    rows += [(6, 7, 1), (5, 6, 2)]
    return [Buffer(f"b{i}", *row) for i, row in enumerate(rows)]


def test_proof_that_the_bound_cannot_be_met() -> None:
    buffers = never_met()
    assert max_live(buffers) == 5
    assert decide(buffers, 5, 10.0) is None
    offsets, proven = pack_exact(buffers, pack_greedy(buffers), 10.0)
    assert (height(buffers, offsets), proven) == (6, True)
    validate(buffers, offsets, 6)


def test_blocking_buffers_are_irreducible() -> None:
    buffers = [*never_met(), Buffer("spare", 7, 9, 2), Buffer("spare too", 0, 1, 1)]
    for capacity in (3, 5):
        part = [buffers[i] for i in blocking(buffers, capacity)]
        assert decide(part, capacity, 10.0) is None
        for b in part:
            rest = [c for c in part if c is not b]
            offsets = decide(rest, capacity, 10.0)
            assert offsets is not None
            validate(rest, offsets, capacity)
    # above the bound nothing less than a stack of simultaneous buffers stands in the way
    assert sum(buffers[i].size for i in blocking(buffers, 3)) > 3
    assert blocking(buffers, 6) == []


def test_out_of_time_is_not_a_proof() -> None:
    buffers = cut_rectangle(1, 60, 500, 90)
    with pytest.raises(Undecided):
        decide(buffers, 500, 0.0)
    assert pack_within(buffers, 500, 0.0) is None
    start = pack_greedy(buffers)
    assert pack_exact(buffers, start, 0.0) == (start, False)
    assert decide(buffers, 499, 0.0) is None  # the bound needs no time


def test_node_limit_gives_equal_answers() -> None:
    buffers = cut_rectangle(4, 200, 2000, 250)
    start = pack_greedy(buffers)
    found = [pack_exact(buffers, start, 60.0, nodes=300) for _ in range(2)]
    assert found[0] == found[1]
    with pytest.raises(Undecided):
        decide(buffers, 2000, 60.0, nodes=200)  # fewer than there are buffers to place


def test_buffers_without_bytes_or_steps() -> None:
    buffers = [Buffer("a", 0, 4, 8), Buffer("instant", 2, 2, 8), Buffer("nothing", 1, 3, 0)]
    offsets = pack_within(buffers, 16, 1.0)
    assert offsets is not None
    validate(buffers, offsets, 16)
    assert pack_within([], 0, 1.0) == []


@pytest.mark.slow
def test_minimalloc_benchmarks_fit_within_a_minute() -> None:
    """A to F of Moffitt (ASPLOS 2023): each has a packing of 1 MiB, greedy needs 28 to 44% more."""
    if "TILEWRIGHT_DATA" not in os.environ:
        pytest.skip("TILEWRIGHT_DATA does not name the folder that holds minimalloc/*.csv")
    paths = sorted(Path(os.environ["TILEWRIGHT_DATA"], "minimalloc").glob("*.1048576.csv"))
    assert [path.name[0] for path in paths] == list("ABCDEF")
    seconds = {}
    for path in paths:
        with path.open() as file:
            rows = list(csv.DictReader(file))
        buffers = [Buffer(r["id"], int(r["lower"]), int(r["upper"]), int(r["size"])) for r in rows]
        began = time.perf_counter()
        offsets = pack_within(buffers, CAPACITY, 60.0)
        seconds[path.name[0]] = round(time.perf_counter() - began, 2)
        assert offsets is not None, f"{path.name} not solved: {seconds}"
        validate(buffers, offsets, CAPACITY)
    assert sum(seconds.values()) < 60, seconds
