"""Which launches share a parallel region, and that results do not depend on it."""

import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from support.compiled_graph import build, check_graph
from support.draft_graph import Draft, weights

from tilewright import load
from tilewright.backends.llvm import backend
from tilewright.backends.llvm.merging import LONGEST, Memory, merge
from tilewright.backends.llvm.program import Branch, Copy, Launch, Place, Repeat, chained
from tilewright.backends.llvm.schedule import Lifetime
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import Dim, sym
from tilewright.compiler.ir.ops import reduce, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.runtime.errors import ExecutionError

n = sym("n")


def launch(reads: str, writes: str, counts: tuple[str, ...] = ()) -> Launch:
    """Letters are arena buffers, digits outputs, capital letters inputs."""

    def place(name: str) -> Place:
        if name.isdigit():
            return Place("output", int(name))
        kind, first = ("arena", "a") if name.islower() else ("input", "A")
        return Place(kind, ord(name) - ord(first))

    operands = tuple(map(place, (*reads, *writes)))
    written = tuple(range(len(reads), len(operands)))
    return Launch("", operands, (), 8, 1, 0, "label", "", written, counts=counts)


def memory(*rows: tuple[int, int, Dim, Dim]) -> Memory:
    """Rows (first step, end, bytes, offset), one a buffer."""
    lives = tuple(Lifetime(f"row{i}", *row[:3]) for i, row in enumerate(rows))
    return Memory(tuple(range(len(rows))), lives, tuple(row[3] for row in rows))


ALIVE = memory(*((0, 99, 64, 64 * i) for i in range(8)))


def joints(steps: list, where: Memory = ALIVE) -> list[str]:
    return [step.joint for step in merge(steps, where) if isinstance(step, Launch)]


@pytest.mark.parametrize(
    ("second", "joint"),
    [
        (launch("b", "d"), "after"),  # reads what the first writes
        (launch("c", "a"), "after"),  # writes what the first reads
        (launch("c", "b"), "after"),  # writes the same
        (launch("a", "d"), "beside"),  # reads the same
        (launch("A", "0"), "beside"),
        (launch("c", "c"), "beside"),
    ],
)
def test_launches_run_beside_each_other_unless_they_share_what_one_writes(
    second: Launch, joint: str
) -> None:
    assert joints([launch("a", "b"), second]) == ["", joint]


def test_outputs_are_memory_of_their_own() -> None:
    steps = [launch("a", "0"), launch("A", "1"), launch("A", "1"), launch("0", "2")]
    assert joints(steps) == ["", "beside", "after", "beside"]


@pytest.mark.parametrize(
    ("one", "other", "joint"),
    [
        ((0, 5, 64, 0), (4, 9, 64, 64), "beside"),
        ((0, 4, 64, 0), (4, 9, 64, 64), "beside"),  # not at once, but at known other places
        ((0, 4, 65, 0), (4, 9, 64, 64), "after"),
        ((4, 9, 64, 32), (0, 4, 33, 0), "after"),
        ((0, 4, n, 0), (4, 9, n, 64 * n), "after"),  # nothing is known of where they lie
        ((0, 5, n, 0), (4, 9, n, 64 * n), "beside"),  # but alive at once they are apart
    ],
)
def test_rows_that_may_share_bytes_are_not_used_at_once(
    one: tuple[int, int, Dim, Dim], other: tuple[int, int, Dim, Dim], joint: str
) -> None:
    steps = [launch("A", "a"), launch("B", "b")]
    assert joints(steps, memory(one, other)) == ["", joint]


def test_every_launch_of_a_step_is_beside_every_other() -> None:
    steps = [launch("A", "a"), launch("B", "b"), launch("a", "c"), launch("b", "d")]
    assert joints(steps) == ["", "beside", "after", "beside"]


def test_what_ends_a_region() -> None:
    place, one, two = Place("arena", 0), launch("a", "b"), launch("b", "c")
    branch = Branch(place, (one, two), (two,))
    steps = merge(
        [one, two, Copy(place, place, 4), two, branch, one, Repeat("i", 3, None, (two, two))],
        ALIVE,
    )
    found = [s.joint if isinstance(s, Launch) else "-" for s in steps]
    assert found == ["", "after", "-", "", "-", "", "-"]
    inner, loop = steps[4], steps[6]
    assert isinstance(inner, Branch)
    assert isinstance(loop, Repeat)
    assert [s.joint for s in (*inner.then, *inner.otherwise, *loop.body)] == [
        *("", "after"),
        "",
        *("", "after"),
    ]
    assert [len(run) for run in chained(steps)] == [2, 1, 1, 1, 1, 1]


def test_what_decides_a_size_is_the_last_of_its_region() -> None:
    steps = [launch("a", "b"), launch("b", "c", ("k",)), launch("A", "d"), launch("d", "e")]
    assert joints(steps) == ["", "after", "", "after"]


def test_regions_have_a_longest() -> None:
    found = joints([launch("a", "a")] * (LONGEST + 2))
    assert [i for i, joint in enumerate(found) if not joint] == [0, LONGEST]


def layers(count: int) -> Graph:
    """A chain of products; every one's operand is also reduced. A look-up of rows may fail."""
    d = Draft((1, 300))
    x, rows = d.input("x", "f32", "n", 64), d.input("rows", "i64", "n")
    found = []
    for i in range(count):
        found.append(d(reduce.Reduce, x=x, kind="max", axes=(1,)))
        a = d(Contract, a=x, b=d.constant(weights(64, 64) / (8 + i)), spec="mk,kn->mn")
        x = d(unary.Tanh, x=a)
        if i == count // 2:
            x = d(Gather, x=x, indices=rows, axis=0)
    return d.graph(x, *found)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Graph]:
    """The same model with launches merged, and each in a region of its own."""
    folder = tmp_path_factory.mktemp("merging")
    graph = layers(6)
    merged, apart = folder / "merged.tw", folder / "apart.tw"
    lowered = build(graph, merged)
    again = folder / "again.tw"
    build(graph, again)
    assert merged.read_bytes() == again.read_bytes(), "the same compile gives the same bytes"
    regions = list(chained(lowered.state.program.steps))
    assert len(regions) < len(lowered.launches) / 4, "what this file tests does not happen"
    assert any(step.joint == "beside" for step in lowered.launches)
    with patch.object(backend, "merge", lambda steps, memory: list(steps)):
        build(graph, apart)
    return merged, apart, graph


def feeds(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((rows, 64)).astype(np.float32),
        "rows": rng.integers(0, rows, rows),
    }


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_results_have_the_same_bits_as_apart(
    artifacts: tuple[Path, Path, Graph], threads: int
) -> None:
    merged, apart, _ = artifacts
    with load(apart, threads=1) as one, load(merged, threads=threads) as session:
        for rows in (1, 2, 7, 64, 300):
            given = feeds(rows, rows)
            want = one.run(None, given)
            for _ in range(300):
                for got, right in zip(session.run(None, given), want, strict=True):
                    assert got.tobytes() == right.tobytes()


def test_the_reference_agrees(artifacts: tuple[Path, Path, Graph]) -> None:
    check_graph(artifacts[2], feeds=list(feeds(300).values()), threads=2, scale=20)


def test_sessions_at_once(artifacts: tuple[Path, Path, Graph]) -> None:
    merged, apart, _ = artifacts
    right = []

    def work(rows: int) -> None:
        given = feeds(rows, rows)
        with load(apart, threads=1) as one:
            want = one.run(None, given)
        with load(merged, threads=2) as session:
            found = [session.run(None, given) for _ in range(200)]
        right.append(
            all(g.tobytes() == w.tobytes() for f in found for g, w in zip(f, want, strict=True))
        )

    callers = [threading.Thread(target=work, args=(rows,)) for rows in (300, 200, 100)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True] * 3


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_inside_of_a_region_is_the_models_own(
    artifacts: tuple[Path, Path, Graph], threads: int
) -> None:
    merged, apart, _ = artifacts
    good = feeds(300)
    bad = {**good, "rows": np.full(300, 300)}
    with load(apart, threads=1) as one, pytest.raises(ExecutionError) as wanted:
        one.run(None, bad)
    with load(merged, threads=threads) as session:
        want = session.run(None, good)
        for _ in range(50):
            with pytest.raises(ExecutionError) as found:
                session.run(None, bad)
            assert str(found.value).split(":", 1)[1] == str(wanted.value).split(":", 1)[1]
            for got, right in zip(session.run(None, good), want, strict=True):
                assert got.tobytes() == right.tobytes()


def test_profiles_have_a_time_for_every_launch(artifacts: tuple[Path, Path, Graph]) -> None:
    with load(artifacts[0], threads=2) as session:
        want = session.run(None, feeds(300))
        rows = session.profile(feeds(300), runs=3)
        assert sum(row.calls for row in rows) == 3 * len(session.manifest.launches)
        assert all(row.ms > 0 for row in rows)
        for got, right in zip(session.run(None, feeds(300)), want, strict=True):
            assert got.tobytes() == right.tobytes()
