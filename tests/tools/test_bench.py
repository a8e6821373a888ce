"""The bench recorder: interleaving, ratios, and the JSON that it writes."""

import json
import time
from pathlib import Path

import pytest

from tilewright.tools.bench import interleave, machine, record
from tilewright.tools.bench.timing import summarise


def test_contenders_take_turns_and_each_goes_first_equally_often() -> None:
    calls: list[str] = []
    table = interleave(
        {name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3, warmup=0
    )
    assert "".join(calls) == "abcbcacab"
    assert [timing.rounds for timing in table.values()] == [3, 3, 3]


def test_warmup_is_not_counted() -> None:
    calls: list[int] = []
    table = interleave({"only": lambda: calls.append(1)}, rounds=2, warmup=5)
    assert len(calls) == 7
    assert table["only"].rounds == 2


def test_ratio_compares_neighbours_not_medians() -> None:
    # The machine slows fivefold half way; in every round the second takes twice as long.
    times = {"first": [100, 100, 500, 500, 500], "second": [200, 200, 1000, 1000, 1000]}
    table = summarise(times)
    assert table["first"].ratio == 1
    assert table["second"].ratio == 2
    assert table["second"].median_ms == pytest.approx(1e-3)
    assert table["second"].min_ms == pytest.approx(2e-4)


def test_budget_ends_the_measurement_after_a_whole_round() -> None:
    table = interleave(
        {"a": lambda: time.sleep(0.01), "b": lambda: None}, rounds=1000, warmup=0, budget_s=0.02
    )
    assert 1 <= table["a"].rounds == table["b"].rounds < 10


@pytest.mark.parametrize(
    ("contenders", "rounds", "message"),
    [({}, 1, "at least one contender"), ({"a": int}, 0, "rounds must be at least 1")],
)
def test_bad_requests_are_refused(contenders: dict, rounds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interleave(contenders, rounds=rounds)


def test_record_keeps_rows_and_machine(tmp_path: Path) -> None:
    table = interleave({"a": int}, rounds=1, warmup=0)
    path = record(
        tmp_path / "benchmarks" / "x.json", [*table.values(), {"name": "b"}], command="run me"
    )
    entry = json.loads(path.read_text())
    assert entry["command"] == "run me"
    assert entry["machine"]["cores"] >= 1
    assert [row["name"] for row in entry["rows"]] == ["a", "b"]
    assert not list(path.parent.glob("*.part"))


def test_record_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to record"):
        record(tmp_path / "x.json", [], command="")
    with pytest.raises(TypeError, match="not int"):
        record(tmp_path / "x.json", [3], command="")
    with pytest.raises(ValueError, match="not JSON compliant"):
        record(tmp_path / "x.json", [{"ratio": float("nan")}], command="")
    assert not (tmp_path / "x.json").exists()


def test_machine_is_json_ready() -> None:
    facts = machine()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["numpy"]


@pytest.mark.isa("no-such-feature")
def test_isa_mark_skips_without_the_feature() -> None:
    raise AssertionError("the isa mark let a test run on a CPU without the feature")


def test_features_name_the_base_of_this_architecture() -> None:
    expected = {"x86_64": "sse2", "aarch64": "neon"}.get(machine()["architecture"])
    if expected is None:
        pytest.skip("features are read from /proc/cpuinfo of x86-64 and aarch64 only")
    assert expected in machine()["features"]
