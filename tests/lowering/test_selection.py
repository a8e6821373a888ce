"""Which kernels a lowering takes: at which sizes, by which times, under a cap of memory."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.draft_graph import Draft, weights

from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.pricing import points
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.target import TARGETS
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops import shape
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.selection.tables import solve_tables

AMX = TARGETS["sapphirerapids"]


class Times:
    """Measured times by a function of candidate and dims."""

    def __init__(self, rule: Callable[[Candidate, tuple[int, ...]], float | None]) -> None:
        self.rule = rule

    def seconds(self, candidate: Candidate, dims: tuple[int, ...], cold: bool) -> float | None:
        return self.rule(candidate, dims)


def chain(count: int = 2, width: int = 64) -> Graph:
    """x[m, width] through `count` matrices."""
    d = Draft()
    x = d.input("x", "f32", "m", width)
    for i in range(count):
        x = d(Contract, a=x, b=d.constant(weights(width, width, seed=i)), spec="mk,kn->mn")
    return d.graph(x)


def products(low: Lowering) -> list[int]:
    """bf16 products of each choice, 0 for f32 kernels."""
    assert low.selection is not None
    made = [q.candidate(low.selection.answers).spec for q in low.selection.questions]
    return [getattr(spec, "products", 0) for spec in made]


def prefer(family: str) -> Times:
    """Everything takes 2 s, kernels of one family 1 s."""
    return Times(lambda c, dims: 1.0 if c.family.name == family else 2.0)


def labels(low: Lowering) -> list[str]:
    return [step.label for step in low.program.steps]


def test_measured_times_decide() -> None:
    for family in ("f32_matmul", "split_matmul", "bf16_matmul"):
        low = lower(chain(), AMX, None, Selecting(measured=prefer(family)))
        assert labels(low) == [family] * 2
    low = lower(chain(), TARGETS["x86-64-v3"], None, Selecting(measured=prefer("bf16_matmul")))
    assert labels(low) == ["f32_matmul"] * 2


def test_no_size_may_be_bad() -> None:
    """A kernel 1.5 times as fast at two of three sizes, but 20 times as slow at the third."""

    def rule(candidate: Candidate, dims: tuple[int, ...]) -> float:
        plain = {1: 1e-3, 16: 1e-2, 64: 1e-1}[dims[0]]
        if candidate.family.name == "f32_matmul":
            return plain
        return plain * (20 if dims[0] == 1 else 2 / 3)

    everywhere = lower(chain(), AMX, None, Selecting(measured=Times(rule)))
    assert labels(everywhere) == ["f32_matmul"] * 2
    large = lower(chain(), AMX, None, Selecting({"m": 64}, measured=Times(rule)))
    assert "f32_matmul" not in labels(large)
    assert large.selection is not None
    assert large.selection.prices.points == ({"m": 64},)


def test_what_was_not_measured_is_no_faster_than_what_was() -> None:
    rule = Times(lambda c, dims: 5.0 if c.family.name == "f32_matmul" else None)
    low = lower(chain(), AMX, None, Selecting(measured=rule))
    found = low.selection
    assert found is not None
    for i, question in enumerate(found.questions):
        assert all(min(times) >= 5.0 for times in found.prices.seconds[i])
        real = {
            c.family.name
            for c, r in zip(question.candidates, found.prices.measured[i], strict=True)
            if any(r)
        }
        assert real == {"f32_matmul"}


def test_points_stay_within_bounds() -> None:
    d = Draft((4, 64))
    x = d.input("x", "f32", "b", "s", 8)
    graph = d.graph(d(Contract, a=x, b=d.constant(weights(8, 8)), spec="bsk,kn->bsn"))
    low = lower(graph, AMX)
    found = points(low.choices.questions, graph.symbols, {})
    pairs = [(env["b"], env["s"]) for env in found]
    assert pairs == [(4, 4), (16, 16), (64, 64), (16, 4), (64, 4), (4, 16), (4, 64)]
    assert points(low.choices.questions, graph.symbols, {"s": 9})[0] == {"b": 4, "s": 9}


def limited(bytes_: int) -> Selecting:
    """Six products on tiles from bf16 planes would be fastest; they take 1.5 times the bytes."""
    return Selecting(
        max_memory=bytes_, solve=solve_tables, measured=prefer("bf16_matmul"), arena=lambda p: 100
    )


@pytest.mark.parametrize(("room", "fast"), [(3 * 24576, 3), (2 * 24576 + 16384, 2), (3 * 16384, 0)])
def test_a_cap_of_memory_decides_who_gets_the_bytes(room: int, fast: int) -> None:
    low = lower(chain(3), AMX, None, limited(room + 100))
    assert labels(low).count("bf16_matmul") == fast
    assert sum(weight.bytes for _, weight in low.weights.values()) <= room


def test_what_cannot_fit_is_as_small_as_it_can_be() -> None:
    low = lower(chain(3), AMX, None, limited(1000))
    assert sum(weight.bytes for _, weight in low.weights.values()) == 3 * 16384


def shared(reads: int, looked_up: bool = False) -> Graph:
    """One matrix that several products read, and perhaps a lookup."""
    d = Draft((1, 64))
    table = d.constant(weights(64, 64))
    out = [
        d(Contract, a=d.input(f"x{i}", "f32", "m", 64), b=table, spec="mk,nk->mn")
        for i in range(reads)
    ]
    if looked_up:
        out.append(d(shape.Gather, x=table, indices=d.input("ids", "i64", "n"), axis=0))
    return d.graph(*out)


def test_a_constant_is_stored_once_for_all_its_readers() -> None:
    """Each layout alone fits, both together do not."""

    def rule(candidate: Candidate, dims: tuple[int, ...]) -> float:
        wanted = "bf16_matmul" if dims[0] > 1 else "f32_matmul"
        return 1.0 if candidate.family.name == wanted else 1.5 * dims[0] ** -0.05

    d = Draft((1, 64))
    table = d.constant(weights(64, 64))
    big, one = d.input("big", "f32", 64, 64), d.input("one", "f32", 1, 64)
    graph = d.graph(*(d(Contract, a=x, b=table, spec="mk,nk->mn") for x in (big, one)))
    free = lower(graph, AMX, None, Selecting(measured=Times(rule), solve=solve_tables))
    assert labels(free) == ["bf16_matmul", "f32_matmul"]
    assert sum(w.bytes for _, w in free.weights.values()) == 24576 + 16384
    for room, stored in ((24576 + 16384, 24576 + 16384), (24576 + 16383, 16384)):
        how = Selecting({}, room, solve_tables, Times(rule))
        low = lower(graph, AMX, None, how)
        assert sum(w.bytes for _, w in low.weights.values()) == stored


def test_a_lookup_shares_only_f32_panels() -> None:
    fast = prefer("bf16_matmul")
    free = lower(shared(1, looked_up=True), AMX, None, Selecting(measured=fast))
    assert len(free.weights) == 2
    low = lower(
        shared(1, looked_up=True), AMX, None, Selecting({}, 24576 + 16383, solve_tables, fast)
    )
    assert len(low.weights) == 1
    assert sum(w.bytes for _, w in low.weights.values()) == 16384


def test_the_report_says_why() -> None:
    low = lower(chain(3), AMX, None, limited(2 * 24576 + 16384 + 100))
    report = selection_report(low)
    assert report is not None
    assert report["weight_limit"] == 2 * 24576 + 16384
    assert sum(len(choice["sources"]) for choice in report["choices"]) == 3
    small = next(c for c in report["choices"] if c["candidates"][0]["family"] != "bf16_matmul")
    rejected = next(c for c in small["candidates"] if c["family"] == "bf16_matmul")
    assert rejected["reason"] == ("0.50 times the time, but its 24,576 bytes of weights do not fit")
    assert all(rejected["measured"])
    loose = [c for c in small["candidates"] if c["accuracy"] > 0]
    assert {c["reason"] for c in loose} >= {"errors of class 1e-05, allowed are 0"}
    assert not any(any(c["measured"]) for c in loose)


def test_equal_questions_are_told_apart() -> None:
    """Two equal products of one input are two questions; the answers go to the right ones."""
    low = lower(shared(3), AMX, None, Selecting(measured=prefer("split_matmul")))
    assert low.selection is not None
    keys = [q.key for q in low.selection.questions]
    assert len(set(keys)) == 3
    first = low.selection.questions[0]
    answers = {keys[0]: first.candidates[0].spec, keys[1]: first.candidates[-1].spec}
    assert replace(first, repeat=1).candidate(answers).spec == first.candidates[-1].spec
    assert np.all([q.candidates == first.candidates for q in low.selection.questions])
