"""Plans under a cap: oracle is Dijkstra over every byte-addressed state of tiny graphs."""

import dataclasses
import heapq
import itertools
import random
from collections.abc import Iterator

import pytest

from tilewright.passes.memory.dag import Dag, Op, bits, peak
from tilewright.passes.memory.problem import Buffer, PlanError, validate
from tilewright.passes.memory.spill import plan_spills
from tilewright.passes.memory.spill_order import every_order, plan_order, reordered
from tilewright.passes.memory.stays import SpillPlan, Stay, replay


def random_dag(seed: int, ops: int = 4, changed: float = 0.0) -> Dag:
    """Each step makes one tensor of 1 to 3 bytes from up to two others; one may start outside.

    `changed` is the share of steps that change one of their inputs too.
    """
    r = random.Random(seed)
    sizes = [r.randint(1, 3)] if r.random() < 0.5 else []
    steps = []
    for i in range(ops):
        reads = tuple(sorted(r.sample(range(len(sizes)), min(len(sizes), r.randint(1, 2)))))
        updates = (r.choice(reads),) if reads and r.random() < changed else ()
        steps.append(Op(f"s{i}", reads, (len(sizes),), (), updates))
        sizes.append(r.randint(1, 3))
    kept = {len(sizes) - 1} | ({r.randrange(len(sizes))} if r.random() < 0.3 else set())
    return Dag(tuple(steps), tuple(sizes), frozenset(kept))


def least_traffic(dag: Dag, cap: int) -> int | None:
    """The fewest bytes moved, by Dijkstra over (slot, addresses of residents, copies outside)."""
    State = tuple[int, frozenset[tuple[int, int]], frozenset[int]]
    start: State = (0, frozenset(), frozenset(range(len(dag.sizes))) - frozenset(dag.maker))
    queue: list[tuple[int, int, State]] = [(0, 0, start)]
    done: set[State] = set()
    count = itertools.count()
    while queue:
        cost, _, state = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        slot, resident, outside = state
        if slot == len(dag.ops):
            if dag.kept <= outside | {t for t, _ in resident}:
                return cost
            for t, at in resident - {(t, a) for t, a in resident if t in outside}:
                after = (slot, resident - {(t, at)}, outside | {t})
                heapq.heappush(queue, (cost + dag.sizes[t], next(count), after))
            continue
        # each resident stays, is dropped, or is spilled
        choices = ["kd" if t in outside else "kds" for t, _ in sorted(resident)]
        for fates in itertools.product(*choices):
            paid, left, copies = cost, [], set(outside)
            for (t, at), fate in zip(sorted(resident), fates, strict=True):
                if fate == "k":
                    left.append((t, at))
                elif fate == "s":
                    paid += dag.sizes[t]
                    copies.add(t)
            op = dag.ops[slot]
            arrive = [t for t in (*op.reads, *op.writes) if t not in {t for t, _ in left}]
            if any(t in op.reads and t not in copies for t in arrive):
                continue
            paid += sum(dag.sizes[t] for t in arrive if t in op.reads)
            for now in placings(dag, cap, left, arrive):
                # a copy of what this step changes is worth nothing any more
                after = (slot + 1, frozenset(now), frozenset(copies - set(op.updates)))
                if after not in done:
                    heapq.heappush(queue, (paid, next(count), after))
    return None


def placings(
    dag: Dag, cap: int, placed: list[tuple[int, int]], arrive: list[int]
) -> Iterator[list[tuple[int, int]]]:
    """Every way to add the tensors `arrive` to those `placed` without overlap."""
    if not arrive:
        yield placed
        return
    taken = {c for t, at in placed for c in range(at, at + dag.sizes[t])}
    for at in range(cap - dag.sizes[arrive[0]] + 1):
        if taken.isdisjoint(range(at, at + dag.sizes[arrive[0]])):
            yield from placings(dag, cap, [*placed, (arrive[0], at)], arrive[1:])


def check(dag: Dag, plan: SpillPlan) -> None:
    assert replay(dag, plan) == plan.traffic
    buffers = [Buffer(str(s.tensor), s.first, s.end, dag.sizes[s.tensor]) for s in plan.stays]
    validate(buffers, [s.offset for s in plan.stays], plan.cap)
    assert plan.traffic >= plan.bound


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("changed", [0.0, 0.6])
def test_least_traffic_equals_brute_force(seed: int, changed: float) -> None:
    dag = random_dag(seed, changed=changed)
    top = peak(dag, range(len(dag.ops)))
    for cap in range(dag.working_set - 1, top + 1):
        want = least_traffic(dag, cap)
        plan = plan_spills(dag, cap)
        if want is None:
            assert cap < dag.working_set
            assert plan is None
            continue
        assert plan is not None
        check(dag, plan)
        assert plan.proven
        assert plan.traffic == want


def two_branches() -> Dag:
    """a (4) and b (6) are made first; a is needed again after a wide step on b alone."""
    ops = (
        Op("a", (), (0,)),
        Op("b", (0,), (1,)),
        Op("wide", (1,), (2,)),
        Op("narrow", (2,), (3,)),
        Op("join", (0, 3), (4,)),
    )
    return Dag(ops, (4, 6, 8, 2, 4), frozenset({4}))


def test_branch_that_waits_is_spilled_and_retrieved() -> None:
    dag = two_branches()
    assert (dag.working_set, peak(dag, range(5))) == (14, 18)
    plan = plan_spills(dag, 14)
    assert plan is not None
    check(dag, plan)
    assert plan.proven
    assert plan.traffic == 8
    moves = [a for a in plan.actions() if a[1] in ("spill", "retrieve")]
    assert moves == [(2, "spill", 0), (4, "retrieve", 0)]
    enough = plan_spills(dag, 18)
    assert enough is not None
    assert (enough.traffic, enough.proven) == (0, True)
    assert plan_spills(dag, 13) is None


def test_tensors_that_fit_by_bytes_but_not_by_place() -> None:
    """Never more than 5 bytes alive, but no packing within 5: the program needs a cut."""
    rows = [(0, 5, 1), (3, 5, 1), (3, 7, 1), (4, 6, 2), (6, 7, 3), (0, 4, 1), (1, 3, 3)]
    rows += [(6, 7, 1), (5, 6, 2)]
    ops = tuple(
        Op(
            f"s{s}",
            tuple(t for t, (lower, upper, _) in enumerate(rows) if lower < s == upper - 1),
            tuple(t for t, (lower, _, _) in enumerate(rows) if lower == s),
        )
        for s in range(7)
    )
    kept = frozenset(t for t, row in enumerate(rows) if row[1] == 7)
    dag = Dag(ops, tuple(size for _, _, size in rows), kept)
    assert dag.working_set == peak(dag, range(7)) == 5
    plan = plan_spills(dag, 5)
    assert plan is not None
    check(dag, plan)
    assert plan.proven
    assert plan.traffic == least_traffic(dag, 5) == 2


def test_a_copy_of_what_changed_later_is_not_used() -> None:
    """a waits twice beside a wide step and is changed in between: it has to be copied out twice."""
    ops = (
        Op("a", (), (0,)),
        Op("wide", (), (1,)),
        Op("change a", (0,), (2,), (1,), (0,)),
        Op("wide again", (), (3,), (2,)),
        Op("join", (0, 2), (4,), (3,)),
    )
    dag = Dag(ops, (4, 8, 1, 8, 2), frozenset({4}))
    assert (dag.working_set, peak(dag, range(5))) == (8, 13)
    plan = plan_spills(dag, 9)
    assert plan is not None
    check(dag, plan)
    assert plan.proven
    assert plan.traffic == least_traffic(dag, 9) == 16
    once = [s for s in plan.stays if s.tensor == 0]
    stale = tuple(dataclasses.replace(s, spilled=s.spilled and s is once[0]) for s in plan.stays)
    with pytest.raises(PlanError, match="tensor 0 was not spilled before slot 4"):
        replay(dag, dataclasses.replace(plan, stays=stale))


def long_skips(steps: int) -> Dag:
    """A chain whose every fourth result is read again at the mirrored place of the second half."""
    r = random.Random(7)
    sizes = [r.randint(1, 8) * 64 for _ in range(steps)]
    ops = []
    for i in range(steps):
        mirror = steps - 1 - i
        reads = {i - 1} if i else set()
        if mirror < i - 1 and mirror % 4 == 0:
            reads.add(mirror)
        ops.append(Op(f"s{i}", tuple(sorted(reads)), (i,)))
    return Dag(tuple(ops), tuple(sizes), frozenset({steps - 1}))


def test_thirty_tensors_are_solved_exactly() -> None:
    dag = long_skips(30)
    top = peak(dag, range(30))
    assert dag.working_set < top
    traffic = []
    for cap in (dag.working_set, (dag.working_set + top) // 2, top):
        plan = plan_spills(dag, cap)
        assert plan is not None
        check(dag, plan)
        assert plan.proven
        traffic.append(plan.traffic)
    assert traffic[0] > traffic[1] > traffic[2] == 0


def test_many_tensors_get_a_plan_that_runs() -> None:
    dag = long_skips(80)
    plan = plan_spills(dag, dag.working_set, seconds=2.0)
    assert plan is not None
    check(dag, plan)
    assert plan.traffic > 0


def broken(plan: SpillPlan, tensor: int, **change: object) -> SpillPlan:
    """`plan` with the last stay of `tensor` changed."""
    last = max(k for k, s in enumerate(plan.stays) if s.tensor == tensor)
    stays: list[Stay] = list(plan.stays)
    stays[last] = dataclasses.replace(stays[last], **change)
    return dataclasses.replace(plan, stays=tuple(stays))


def test_replay_refuses_wrong_plans() -> None:
    dag = two_branches()
    plan = plan_spills(dag, 14)
    assert plan is not None
    for gone in (s for s in plan.stays if s.tensor == 0 and s.arrival == "retrieve"):
        rest = tuple(s for s in plan.stays if s != gone)
        with pytest.raises(PlanError, match="tensor 0 is not whole in slot 4"):
            replay(dag, dataclasses.replace(plan, stays=rest))
    with pytest.raises(PlanError, match="tensor 2 leaves the arena in slot 2"):
        replay(dag, broken(plan, 2, offset=7))
    input_ = next(s for s in plan.stays if s.tensor == 1)
    overlapping = broken(plan, 2, offset=min(input_.offset, 6))
    with pytest.raises(PlanError, match="tensor 1 is not whole in slot 2"):
        replay(dag, overlapping)
    never = dataclasses.replace(
        plan, stays=tuple(dataclasses.replace(s, spilled=False) for s in plan.stays)
    )
    with pytest.raises(PlanError, match="tensor 0 was not spilled before slot 4"):
        replay(dag, never)
    unmade = tuple(s for s in plan.stays if s.tensor != 4)
    with pytest.raises(PlanError, match="tensor 4 is not whole in slot 4"):
        replay(dag, dataclasses.replace(plan, stays=unmade))


@pytest.mark.parametrize("changed", [0.0, 0.4])
def test_order_and_copies_together_equal_brute_force(changed: float) -> None:
    """Every permutation of up to seven steps with its least traffic, proven as above."""
    compared = 0
    for seed in range(1000, 1020):
        dag = random_dag(seed, 4 + seed % 4, changed)
        top = peak(dag, range(len(dag.ops)))
        if dag.working_set >= top or every_order(dag) is None:
            continue
        cap = random.Random(seed).randrange(dag.working_set, top)
        found = plan_order(dag, cap)
        assert found is not None
        order, plan = found
        check(reordered(dag, order), plan)
        traffic = []
        for steps in itertools.permutations(range(len(dag.ops))):
            if all(set(bits(dag.needs[i])) <= set(steps[:k]) for k, i in enumerate(steps)):
                fixed = plan_spills(reordered(dag, steps), cap)
                assert fixed is not None
                assert fixed.proven
                traffic.append(fixed.traffic)
        assert plan.traffic == plan.bound == min(traffic)
        compared += 1
    assert compared >= 3
    assert plan_order(two_branches(), 13) is None


def test_another_order_may_copy_less() -> None:
    """Two wide results before either is narrowed: copies that the other order does without."""
    ops = (
        Op("wide a", (), (0,)),
        Op("wide b", (), (1,)),
        Op("narrow a", (0,), (2,)),
        Op("narrow b", (1,), (3,)),
        Op("join", (2, 3), (4,)),
    )
    dag = Dag(ops, (8, 8, 2, 2, 2), frozenset({4}))
    fixed = plan_spills(dag, 12)
    found = plan_order(dag, 12)
    assert fixed is not None
    assert found is not None
    assert (fixed.traffic, found[1].traffic) == (32, 0)


def test_many_orders_are_not_all_tried() -> None:
    ops = tuple(Op(f"s{i}", (), (i,)) for i in range(6))
    dag = Dag((*ops, Op("all", tuple(range(6)), (6,))), (2,) * 7)
    assert every_order(dag) is None
    found = plan_order(dag, 14)
    assert found is not None
    assert found[1].traffic == 0
