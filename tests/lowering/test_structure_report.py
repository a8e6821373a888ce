"""The report says which structure of weights is used where, and why no other."""

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.backends import reference
from tilewright.backends.artifact.structure_report import (
    structure_counts,
    structure_report,
)
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.tables import OBJECTIVES
from tilewright.backends.target import TARGETS
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.unused_structure import REASONS
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.selection.tables import solve_tables

RANDOM = np.random.default_rng(11)


def runner(graph):
    return lambda feeds: dict(zip(graph.output_names, reference.run(graph, feeds), strict=True))


def terms(bound):
    """Two products of full rank: x of the first lies in 12 of 256 dimensions, that of the second is
    noise."""
    draft = Draft(bounds=(1, 200))
    outputs = []
    for name in ("thin", "noise"):
        w = draft.constant((RANDOM.standard_normal((256, 256)) / 16).astype(np.float32))
        x = draft.input(f"x_{name}", "f32", "rows", 256)
        outputs.append(draft(Contract, a=x, b=w, spec="mk,kn->mn", source=name))
    graph = draft.graph(*outputs)
    basis = RANDOM.standard_normal((12, 256))
    feeds = [
        {
            "x_thin": (RANDOM.standard_normal((150, 12)) @ basis).astype(np.float32),
            "x_noise": RANDOM.standard_normal((150, 256)).astype(np.float32),
        }
        for _ in range(8)
    ]
    return Terms(calibrate(graph, feeds, runner), bound)


def rows_under(offers, bound, objective="size"):
    how = Selecting(solve=solve_tables, offers=offers, objective=OBJECTIVES[objective])
    low = lower(offers.calibration.graph, TARGETS["sapphirerapids"], bound, how)
    return {row["source"]: row for row in structure_report(low)}


@pytest.fixture(scope="module")
def two():
    return terms(0.04)


def test_structure_that_is_there_is_used_and_noise_has_none(two):
    rows = rows_under(two, 0.04)
    assert rows["thin"]["used"] == "low rank"
    assert rows["thin"]["format"].startswith(("r16-", "r32-"))
    assert "low rank" not in rows["thin"]["not_used"]
    ladder = rows["thin"]["offered"]["low rank"]
    assert {int(name[1:].partition("-")[0]) for name in ladder} == {16, 32, 48, 64, 96}
    assert len(ladder) == 16  # five in f32 and bf16, codes from 48 on
    noise = rows["noise"]
    assert noise["used"] == ""
    assert noise["not_used"]["low rank"]["why"] == "chance"
    text = noise["not_used"]["low rank"]["text"]
    assert text.startswith("loses ")
    assert ", noise would " in text
    counts = structure_counts(list(rows.values()))
    assert counts["low rank"] == {"used": 1, "chance": 1, "bound": 0, "slower": 0, "budget": 0}
    assert set(counts["low rank"]) == {"used", *REASONS}


def test_a_bound_that_no_rank_keeps_is_named(two):
    rows = rows_under(two.tightened(1e-6), 0.04)
    for structure in ("2:4 zeros", "codes and low rank", "zeros"):
        other = rows["thin"]["not_used"][structure]
        assert other["why"] == "bound"
        times = other["text"].removeprefix("takes ").removesuffix(" times the error budget")
        assert float(times) > 1
    # Noise is nearer to nothing than to this, whatever the bound is.
    other = rows["noise"]["not_used"]["2:4 zeros"]
    assert (other["format"], other["why"]) == ("bf16-2in4", "chance")


def test_what_fits_but_is_no_faster_and_no_smaller_is_slower(two):
    rows = rows_under(two.tightened(1e4), 0.04, "latency")
    reasons = [o for row in rows.values() for o in row["not_used"].values()]
    slower = [o for o in reasons if o["why"] == "slower"]
    assert slower
    assert all(" times the time, " in o["text"] for o in slower)


def test_without_a_contract_there_is_nothing_to_report(two):
    graph = two.calibration.graph
    low = lower(graph, TARGETS["sapphirerapids"], 1e-2, Selecting(solve=solve_tables))
    assert structure_report(low) == []
