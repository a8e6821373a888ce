"""Finding passes by name, their options, and the order of the pipelines."""

import pytest

from tilewright.compiler.errors import UserError, VerifyError
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.parse import parse_graph
from tilewright.passes import registry
from tilewright.passes.pipelines import PIPELINES, Step, run_pipeline
from tilewright.passes.registry import check_order, parse_pass, passes, split_passes

TEXT = "graph @g(%x: f32[2]) {\n  %1 = exp %x : f32[2]\n  %2 = exp %x : f32[2]\n  return %2\n}\n"


def test_passes_are_found_with_their_contract() -> None:
    assert "fold-constants" in passes()
    assert parse_pass("recognize-attention")[0].requires == (
        "recognize-softmax",
        "cancel-transposes",
    )


def test_options() -> None:
    found, options = parse_pass("fuse-regions{max-ops=3}")
    assert found.name == "fuse-regions"
    assert options == {"max_ops": 3}
    assert split_passes("a, fuse-regions{max-ops=3},b") == ("a", "fuse-regions{max-ops=3}", "b")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "fuse-region",
            "pass 'fuse-region': there is no such pass\n  try: did you mean 'fuse-regions'?",
        ),
        (
            "fuse-regions{ops=3}",
            "pass 'fuse-regions': has no option 'ops'\n  try: did you mean 'max-ops'?",
        ),
        ("fuse-regions{max-ops=x}", "pass 'fuse-regions', option max-ops: 'x' is not of type int"),
        ("Fuse", "pass 'Fuse': is not of the form name{option=value, ...}"),
    ],
)
def test_unknown_names(spec: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_pass(spec)
    assert str(error.value) == message


def test_the_pipelines_are_in_order() -> None:
    check_order(PIPELINES["default"])
    check_order(PIPELINES["recognize"])
    assert PIPELINES["default"] == (*PIPELINES["recognize"], *PIPELINES["fuse"])
    with pytest.raises(UserError, match="must run after recognize-softmax"):
        check_order(("recognize-attention",))


def test_observer_sees_what_changed() -> None:
    steps: list[Step] = []
    graph = run_pipeline(parse_graph(TEXT), ("remove-dead-code",) * 2, steps.append)
    assert [s.changed for s in steps] == [True, False]
    assert str(steps[1]).endswith("1 ops (unchanged)")
    assert len(graph.ops) == 1


def test_a_broken_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_order(graph: Graph) -> Graph:
        return graph.replace(output_names=("a", "b"))

    broken = registry.Pass("break-order", break_order, {}, (), "")
    monkeypatch.setitem(passes(), "break-order", broken)
    with pytest.raises(VerifyError, match=r"pass break-order \(ran before: remove-dead-code\)"):
        run_pipeline(parse_graph(TEXT), ("remove-dead-code", "break-order"))
