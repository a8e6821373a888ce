"""The packers: greedy, exact and slots, against brute force and the MiniMalloc benchmarks."""

import csv
import itertools
import os
import random
import time
from pathlib import Path

import pytest

from tilewright.passes.memory.exact import pack_exact
from tilewright.passes.memory.greedy import pack_greedy
from tilewright.passes.memory.problem import Buffer, height, max_live, validate
from tilewright.passes.memory.slots import assign_slots

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("TILEWRIGHT_DATA", ROOT.parent / "shared" / "data")) / "minimalloc"
CAPACITY = 1048576


def least_height(buffers: list[Buffer]) -> int:
    """The least height over all orders, each buffer at its lowest free offset: small n only."""
    best = sum(b.size for b in buffers)
    for order in itertools.permutations(range(len(buffers))):
        offsets: dict[int, int] = {}
        for i in order:
            b, at = buffers[i], 0
            spans = sorted(
                (offsets[j], offsets[j] + buffers[j].size)
                for j in offsets
                if buffers[j].lower < b.upper and b.lower < buffers[j].upper
            )
            for low, high in spans:
                if low >= at + b.size:
                    break
                at = max(at, high)
            offsets[i] = at
        best = min(best, max(offsets[i] + b.size for i, b in enumerate(buffers)))
    return best


def random_buffers(rng: random.Random, count: int, unit: int = 1) -> list[Buffer]:
    rows = []
    for i in range(count):
        start = rng.randrange(8)
        end = start + rng.randrange(1, 6)
        rows.append(Buffer(f"b{i}", start, end, unit * rng.randrange(1, 8)))
    return rows


@pytest.mark.parametrize("seed", range(40))
def test_exact_is_as_low_as_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    buffers = random_buffers(rng, rng.randrange(1, 7), rng.choice([1, 64]))
    start = pack_greedy(buffers)
    offsets, proven = pack_exact(buffers, start, 10.0)
    validate(buffers, offsets, height(buffers, offsets))
    assert proven
    assert height(buffers, offsets) == least_height(buffers)


def test_exact_is_lower_than_greedy_at_times_and_never_higher() -> None:
    better = 0
    for seed in range(300):
        buffers = random_buffers(random.Random(seed), 9)
        start = pack_greedy(buffers)
        offsets, proven = pack_exact(buffers, start, 5.0)
        assert proven
        found = height(buffers, offsets)
        assert max_live(buffers) <= found <= height(buffers, start)
        better += found < height(buffers, start)
    assert better > 0


def test_a_problem_whose_max_live_cannot_be_met() -> None:
    """w makes a and c neighbours, v makes b and d; x then needs a and b, y needs c and d."""
    buffers = [
        Buffer("w", 0, 1, 2),
        Buffer("v", 0, 2, 2),
        Buffer("a", 1, 3, 1),
        Buffer("c", 1, 4, 1),
        Buffer("b", 2, 3, 1),
        Buffer("d", 2, 4, 1),
        Buffer("x", 3, 5, 2),
        Buffer("y", 4, 6, 2),
    ]
    assert max_live(buffers) == 4
    assert least_height(buffers) == 5
    offsets, proven = pack_exact(buffers, pack_greedy(buffers), 10.0)
    assert (height(buffers, offsets), proven) == (5, True)


def test_buffers_of_no_size_and_no_life() -> None:
    """They take no room, and the search must not stumble over them."""
    for seed in range(60):
        rng = random.Random(seed)
        solid = random_buffers(rng, 7)
        empty = [Buffer(f"e{i}", i, i + 3, 0) for i in range(4)]
        mixed = [*solid, *empty]
        rng.shuffle(mixed)
        want, _ = pack_exact(solid, pack_greedy(solid), 5.0)
        offsets, proven = pack_exact(mixed, pack_greedy(mixed), 5.0)
        assert proven
        validate(mixed, offsets, height(mixed, offsets))
        assert height(mixed, offsets) == height(solid, want)


@pytest.mark.parametrize("count", [10, 100, 1500])
def test_greedy_is_valid(count: int) -> None:
    rng = random.Random(count)
    buffers = [
        Buffer(f"b{i}", i, i + rng.randrange(1, 40), 64 * rng.randrange(0, 90))
        for i in range(count)
    ]
    offsets = pack_greedy(buffers)
    validate(buffers, offsets, height(buffers, offsets), 64)


@pytest.mark.parametrize("count", [490, 1500])
def test_a_deep_problem_ends_in_time(count: int) -> None:
    """The search goes as deep as there are buffers, which Python's stack must allow."""
    rng = random.Random(1)
    buffers = [
        Buffer(f"b{i}", i, i + rng.randrange(1, 30), 64 * rng.randrange(1, 90))
        for i in range(count)
    ]
    start = pack_greedy(buffers)
    begun = time.monotonic()
    offsets, _ = pack_exact(buffers, start, 1.0)
    assert time.monotonic() - begun < 30
    validate(buffers, offsets, height(buffers, start), 64)


@pytest.mark.parametrize("seed", range(10))
def test_members_of_a_slot_never_meet(seed: int) -> None:
    buffers = random_buffers(random.Random(seed), 25)
    slots = assign_slots(buffers)
    assert sorted(set(slots)) == list(range(max(slots) + 1))
    for a, b in itertools.combinations(range(len(buffers)), 2):
        if slots[a] == slots[b]:
            first, second = buffers[a], buffers[b]
            assert first.upper <= second.lower or second.upper <= first.lower


def minimalloc(letter: str) -> list[Buffer]:
    """A challenging instance of the MiniMalloc paper; its capacity is 1048576 bytes."""
    path = DATA / f"{letter}.{CAPACITY}.csv"
    if not path.exists():
        pytest.skip(f"no {path}; set TILEWRIGHT_DATA")
    with path.open() as file:
        return [
            Buffer(row["id"], int(row["lower"]), int(row["upper"]), int(row["size"]))
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("letter", "ABCDEF")
def test_minimalloc_instances_get_valid_plans(letter: str) -> None:
    buffers = minimalloc(letter)
    assert max_live(buffers) <= CAPACITY
    start = pack_greedy(buffers)
    offsets, _ = pack_exact(buffers, start, 1.0)
    validate(buffers, offsets, height(buffers, offsets))
    assert height(buffers, offsets) <= height(buffers, start)
