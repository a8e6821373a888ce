"""What a contract permits: keeps, plans, what is not offered."""

import re

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.quantization.planned import EXACT, Formats, Planned, for_target
from tilewright.passes.quantization.terms import Terms, check_keep, kept


class Calibrated:
    """Two sites, `a, tail` and `b`, that know two formats."""

    norms = (1.0, 1.0)

    def __init__(self):
        self.sites = {("a, tail", "w0"): None, ("b", "w1"): None}

    def formats(self, source, constant):
        return frozenset({"w8-sym", "w4-g64"} if (source, constant) in self.sites else ())


def test_the_first_pattern_decides():
    keep = (("a", "bf16"), ("*", "w8-sym"))
    assert kept(keep, "a, tail") == "bf16"
    assert kept(keep, "b") == "w8-sym"
    assert kept((("c*", "f32"),), "b") is None
    assert kept((("layer[0].up", "f32"),), "layer[0].up") == "f32"
    terms = Terms(Calibrated(), 0.1, keep=keep)
    assert terms.permits("a, tail", "w0", "bf16")
    assert not terms.permits("a, tail", "w0", "f32")
    assert terms.limits == (0.1**2, 0.1**2)


def test_a_plan_comes_before_patterns():
    plan = Formats("plan.json", {"b": "w4-g64", "a, tail@w0": "f32"})
    terms = Terms(Calibrated(), 0.1, keep=(("*", "bf16"),)).under(plan)
    assert terms.permits("b", "w1", "w4-g64")
    assert not terms.permits("b", "w1", "bf16")
    assert terms.permits("a, tail", "w0", "f32")
    assert terms.permits("c", "", "bf16")


def test_plans_of_smaller_dimensions_name_constants_that_were_made():
    keys = {"a@w.shrunk": "w4-g64", "a@v.live.shrunk.1": "w8-sym", "b.live": "bf16"}
    plan = Formats("p", keys)
    assert plan.of("a", "w") == plan.of("a", "w.shrunk") == "w4-g64"
    assert plan.of("a", "v") == "w8-sym"
    assert plan.of("b", "") is None
    followed = [("a", "w", "w4-g64"), ("a", "v", "w8-sym"), ("b.live", "u", "bf16")]
    plan.check(followed, "native")
    with pytest.raises(UserError, match=re.escape("'a@v.live.shrunk.1' is no operation")):
        plan.check([followed[0], followed[2]], "native")


def test_without_formats():
    terms = Terms(Calibrated(), 0.1, keep=(("*", "w8-sym"),)).plain()
    assert terms.formats("b", "w1") == frozenset()
    assert terms.permits("b", "w1", "bf16")


def test_keeps_that_cannot_be():
    could = [("a, tail", frozenset({"f32", "bf16"})), ("b", frozenset({"f32"}))]
    check_keep((("*", "bf16"), ("b", "f32")), could)
    with pytest.raises(UserError) as raised:
        check_keep((("b", "bf16"),), could)
    assert str(raised.value) == (
        "keep b=bf16: nothing that matches can run in bf16\n  b could have f32"
    )


def test_plans_name_variants():
    plan = {"x86-64-v3": Formats("p"), "x86-64-v4": Formats("q")}
    assert for_target(plan, "x86-64-v4").where == "q"
    assert for_target({"x86-64-v3": Formats("p")}, "sapphirerapids").where == "p"
    message = "p: has no variant x86-64-v2\n  try: did you mean 'x86-64-v4'?"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        for_target(plan, "x86-64-v2")


def test_a_plan_without_samples():
    draft = Draft()
    x = draft.input("x", "f32", "m", 128)
    w = np.random.default_rng(0).standard_normal((128, 64)).astype(np.float32)
    y = draft(Contract, a=x, b=draft.constant(w), spec="mk,kn->mn", source="dense")
    graph = draft.graph(y)
    offers = Planned(graph, Formats("p", {"dense": "w4-g64"}))
    assert offers.formats("dense", "w0") == {"w4-g64"}
    assert offers.permits("dense", "w0", "w4-g64")
    assert not offers.permits("dense", "w0", EXACT)
    assert offers.permits("other", "", EXACT)
    assert offers.encoded("dense", "w0", "w4-g64").shape == (128, 64)
    assert offers.formats("other", "") == frozenset()
    assert Planned(graph).formats("dense", "w0") > {"w4-g64", "w8a8-sym"}
