"""Target rows: inheritance, parsing, detection."""

from __future__ import annotations

import pytest

from tilewright.backends import target as targets


def test_features_are_inherited_and_named_once() -> None:
    row = targets.lookup("sapphirerapids")
    assert [r.name for r in row.chain][:2] == ["x86-64-v2", "x86-64-v3"]
    assert {"sse4.2", "fma", "avx512f", "amx-int8"} <= set(row.all_features)
    assert len(set(row.all_features)) == len(row.all_features)
    assert set(targets.lookup("x86-64-v4").required_flags) < set(row.required_flags)


def test_parse_keeps_order_and_drops_repeats() -> None:
    rows = targets.parse(" x86-64-v4, x86-64-v3,x86-64-v4")
    assert [row.name for row in rows] == ["x86-64-v4", "x86-64-v3"]


@pytest.mark.parametrize("text", ["x86-64-v33", "x86-64-v3,x86-64-v33"])
def test_unknown_name_lists_the_known_and_the_nearest(text: str) -> None:
    with pytest.raises(targets.UnknownTargetError) as raised:
        targets.parse(text)
    assert str(raised.value) == (
        "unknown target 'x86-64-v33' (did you mean 'x86-64-v3'?); known targets: "
        "x86-64-v2, x86-64-v3, x86-64-v4, sapphirerapids, neoverse-n1, sm_80, sm_90a"
    )


def test_detection_follows_the_cpu_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = targets.lookup("x86-64-v3").required_flags
    monkeypatch.setattr(targets.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(targets, "cpu_flags", lambda: frozenset(flags))
    assert targets.detect().name == "x86-64-v3"
    monkeypatch.setattr(targets, "cpu_flags", lambda: frozenset(flags) - {"fma"})
    assert targets.detect().name == "x86-64-v2"
    monkeypatch.setattr(targets, "cpu_flags", frozenset)
    with pytest.raises(targets.UnknownTargetError, match="native"):
        targets.detect()


@pytest.mark.parametrize("row", targets.TARGETS.values(), ids=lambda r: r.name)
def test_every_row_makes_a_target_machine(row: targets.Target) -> None:
    assert targets.target_machine(row).triple == row.triple
