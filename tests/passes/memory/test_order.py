"""The order of steps: oracle is every topological order of small graphs."""

import random

import pytest

from tilewright.passes.memory import stretch
from tilewright.passes.memory.dag import Dag, Op, check_order, from_accesses, peak
from tilewright.passes.memory.order import must_live, order_steps
from tilewright.passes.memory.order_ilp import order_ilp
from tilewright.passes.memory.problem import PlanError
from tilewright.passes.memory.stretch import Effort


def random_dag(seed: int, ops: int, *, unit: int = 1) -> Dag:
    """Steps with up to three inputs and two outputs, some control edges, inputs and kept ones."""
    r = random.Random(seed)
    sizes = [r.randint(1, 9) * unit for _ in range(r.randint(0, 2))]
    steps = []
    for i in range(ops):
        reads = tuple(sorted(r.sample(range(len(sizes)), min(len(sizes), r.randint(0, 3)))))
        writes = tuple(range(len(sizes), len(sizes) + r.choice([1, 1, 1, 2])))
        sizes += [r.randint(1, 9) * unit for _ in writes]
        after = (r.randrange(i),) if i and r.random() < 0.2 else ()
        steps.append(Op(f"s{i}", reads, writes, after))
    kept = frozenset(t for t in range(len(sizes)) if r.random() < 0.15)
    return Dag(tuple(steps), tuple(sizes), kept)


def replayed_peak(dag: Dag, steps: tuple[int, ...]) -> int:
    """The peak by walking the order with a set of what is alive, apart from `dag.spans`."""
    alive = {t for t in range(len(dag.sizes)) if t not in dag.maker}
    alive = {t for t in alive if t in dag.kept or any(t in op.reads for op in dag.ops)}
    best, left = 0, list(steps)
    while left:
        op = dag.ops[left.pop(0)]
        assert set(op.reads) <= alive
        alive |= set(op.writes)
        best = max(best, sum(dag.sizes[t] for t in alive))
        wanted = {t for i in left for t in dag.ops[i].reads} | dag.kept
        alive &= wanted
    return best


def every_order(dag: Dag) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []

    def extend(done: tuple[int, ...], mask: int) -> None:
        if len(done) == len(dag.ops):
            found.append(done)
        for i, need in enumerate(dag.needs):
            if not mask >> i & 1 and not need & ~mask:
                extend((*done, i), mask | 1 << i)

    extend((), 0)
    return found


@pytest.mark.parametrize("seed", range(25))
def test_search_and_integer_program_equal_brute_force(seed: int) -> None:
    dag = random_dag(seed, 4 + seed % 4)
    orders = every_order(dag)
    peaks = [replayed_peak(dag, steps) for steps in orders]
    assert peaks == [peak(dag, steps) for steps in orders]
    best = min(peaks)
    assert dag.working_set <= must_live(dag) <= best

    found = order_steps(dag)
    check_order(dag, found.steps)
    assert found.peak == replayed_peak(dag, found.steps) == best
    assert found.proven

    everything = (1 << len(dag.ops)) - 1
    steps, bound = order_ilp(dag, 0, everything, 0, best + 1, 20.0)
    assert bound == best
    assert steps is not None
    assert replayed_peak(dag, tuple(steps)) == best
    assert order_ilp(dag, 0, everything, 0, best, 20.0) == (None, best)


@pytest.mark.parametrize("seed", range(4))
def test_integer_program_and_search_agree_on_larger_graphs(seed: int) -> None:
    dag = random_dag(100 + seed, 12, unit=64)
    found = order_steps(dag)
    steps, bound = order_ilp(dag, 0, (1 << 12) - 1, must_live(dag), found.peak + 64, 20.0)
    assert found.proven
    assert steps is not None
    assert bound == peak(dag, steps) == found.peak


def test_integer_program_takes_over_when_there_are_too_many_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dags = [random_dag(seed, 10) for seed in range(200, 210)]
    want = [order_steps(dag) for dag in dags]
    calls = []

    def counted(*arguments: object) -> tuple[list[int] | None, int]:
        calls.append(arguments)
        return order_ilp(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stretch, "order_ilp", counted)
    for dag, best in zip(dags, want, strict=True):
        found = order_steps(dag, Effort(beam=1, states=3, seconds=20.0))
        assert (found.peak, found.bound) == (best.peak, best.bound)
        assert best.proven
    assert calls


def test_long_stretches_are_solved_in_windows() -> None:
    """A ladder that no step splits and that has too many sets: windows still find a good order."""
    r = random.Random(3)
    sizes, ops = [1, 1], [Op("left", (), (0,)), Op("right", (), (1,))]
    rails = [0, 1]
    for rung in range(40):
        wide = []
        for _ in range(3):
            sizes.append(r.randint(20, 60))
            ops.append(Op(f"{rung}.wide", tuple(rails), (len(sizes) - 1,)))
            wide.append(len(sizes) - 1)
        narrow = []
        for t in wide:
            sizes.append(2)
            ops.append(Op(f"{rung}.narrow", (t,), (len(sizes) - 1,)))
            narrow.append(len(sizes) - 1)
        sizes += [1]
        # the other rail moves on without waiting for this rung
        ops.append(Op(f"{rung}.join", tuple(narrow), (len(sizes) - 1,)))
        rails = [rails[1], len(sizes) - 1]
    dag = Dag(tuple(ops), tuple(sizes), frozenset(rails))
    given = peak(dag, range(len(ops)))
    few = Effort(beam=1, states=300, ilp_steps=0, seconds=60.0)
    found = order_steps(dag, few)
    check_order(dag, found.steps)
    assert found.bound <= found.peak < given / 2
    assert found == order_steps(dag, few), "limits that do not depend on time give equal orders"


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_when_the_search_is_cut_short(seed: int) -> None:
    dag = random_dag(300 + seed, 14, unit=64)
    best = order_steps(dag)
    assert best.proven
    for states in (0, 4, 20, 100):
        found = order_steps(dag, Effort(beam=2, states=states, ilp_steps=0))
        check_order(dag, found.steps)
        assert found.bound <= best.peak <= found.peak == peak(dag, found.steps)
        assert found.peak <= peak(dag, range(len(dag.ops)))


def branches(count: int, length: int) -> Dag:
    """Parallel branches, written breadth first: each grows to 100 bytes and ends in one byte."""
    sizes, ops, heads = [1], [Op("start", (), (0,))], [0] * count
    for step in range(length):
        for b in range(count):
            sizes.append(1 if step == length - 1 else 100)
            ops.append(Op(f"b{b}.{step}", (heads[b],), (len(sizes) - 1,)))
            heads[b] = len(sizes) - 1
    sizes.append(1)
    ops.append(Op("join", tuple(heads), (len(sizes) - 1,)))
    return Dag(tuple(ops), tuple(sizes), frozenset({len(sizes) - 1}))


def test_branches_are_run_one_after_the_other() -> None:
    dag = branches(6, 8)
    assert peak(dag, range(len(dag.ops))) > 600
    found = order_steps(dag)
    # the last branch runs beside five finished ones; the common input is not needed by then
    assert found.peak == 205
    assert found.proven


def test_a_chain_of_blocks_is_solved_block_by_block() -> None:
    """300 steps: far beyond what one search over all sets could do, but each block is small."""
    sizes, ops, tail = [4], [Op("in", (), (0,))], 0
    for block in range(33):
        heads = []
        for b in range(4):
            sizes += [50, 2]
            ops.append(Op(f"{block}.{b}.wide", (tail,), (len(sizes) - 2,)))
            heads.append(len(sizes) - 1)
        ops += [Op(f"{block}.{b}.narrow", (heads[b] - 1,), (heads[b],)) for b in range(4)]
        sizes.append(4)
        ops.append(Op(f"{block}.join", tuple(heads), (len(sizes) - 1,)))
        tail = len(sizes) - 1
    dag = Dag(tuple(ops), tuple(sizes), frozenset({tail}))
    assert len(ops) == 298
    found = order_steps(dag)
    assert found.proven
    # the last of four: three narrow results, its wide and its narrow one; the input is gone
    assert found.peak == max(50 + 4 + 6, 50 + 2 + 6)


def test_given_order_is_kept_when_nothing_is_better() -> None:
    dag = Dag((Op("a", (), (0,)), Op("b", (0,), (1,))), (8, 8))
    found = order_steps(dag)
    assert (found.steps, found.peak, found.bound) == ((0, 1), 16, 16)
    assert order_steps(Dag((), ())).peak == 0


def test_accesses_keep_writers_and_readers_in_order() -> None:
    # 0 is filled, read, changed in place and read again; 1 and 2 are free of it
    accesses = [((), (0,)), ((0,), (1,)), ((0,), (0,)), ((0,), (2,)), ((1, 2), (3,))]
    dag = from_accesses(accesses, [4, 4, 4, 4], kept=[3])
    orders = every_order(dag)
    assert orders == [(0, 1, 2, 3, 4)]
    assert peak(dag, orders[0]) == 12


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ((Op("a", (1,), (0,)), Op("b", (), (1,))), "step 0 cannot run here"),
        ((Op("a", (), (0,)), Op("b", (), (0,))), "a tensor is written by two steps"),
    ],
)
def test_graphs_that_have_no_order_are_refused(ops: tuple[Op, ...], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Dag(ops, (1, 1))
