"""Peers in their own process, rooflines, and linear layers, without measuring anything."""

import os

import numpy as np
import pytest
from support.bench_peers import doubles, refuses

from tilewright.backends.profile import shipped
from tilewright.runtime.profile import ProfileRow
from tilewright.tools.bench.linear import Layer, layers
from tilewright.tools.bench.peer_process import PeerProcess
from tilewright.tools.bench.roofline import Roofline, rows_with_bounds
from tilewright.tools.bench.timing import Elapsed, interleave
from tilewright.tools.cli.peers import Peer

PROFILE = shipped()["sapphirerapids"]


def test_a_peer_in_its_own_process_sees_the_environment() -> None:
    peer = PeerProcess(doubles, {"TILEWRIGHT_TEST_LIMIT": "AVX2"})
    try:
        twice, limit = peer.set({"x": np.arange(3)})
        assert twice.tolist() == [0, 2, 4]
        assert limit == "AVX2"
        assert peer.run() > 0
    finally:
        peer.close()
    assert "TILEWRIGHT_TEST_LIMIT" not in os.environ


def test_a_peer_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"^no such model$"):
        PeerProcess(refuses, {})


def test_a_contender_may_know_its_own_time() -> None:
    table = interleave({"a": lambda: Elapsed(2_000_000), "b": lambda: Elapsed(1_000_000)}, rounds=3)
    assert (table["a"].median_ms, table["b"].ratio) == (2.0, 0.5)


@pytest.mark.parametrize("text", ["openvino", "openvino:bf16", "openvino@avx2", "torch:bf16@vnni"])
def test_names_of_peers(text: str) -> None:
    peer = Peer.parse(text)
    assert peer.label == text
    assert bool(peer.environment) == ("@" in text)


def row(ms: float, gflops: float, gbs: float, kernel: str = "k") -> ProfileRow:
    return ProfileRow(kernel, "node", 2, ms, gbs, gflops)


def test_a_kernel_is_bound_by_what_takes_longest() -> None:
    plan = {"launches": [{"kernel": "k", "unit": "bf16_tile", "issue": 6.0}, {"kernel": "other"}]}
    one = Roofline(PROFILE, plan, 1)
    rate = PROFILE.rates.bf16_tile.sustained
    # 2 ms for 2 calls at a sixth of the rate: half of what 6 issued operations allow.
    half = one.bound(row(2.0, rate / 12 / 1e9, 0.001))
    assert half.by == "compute"
    assert half.ms == pytest.approx(0.5)
    moved = one.bound(row(2.0, 0.001, PROFILE.read.l3.one / 1e9))
    assert moved.by == "memory"
    assert moved.ms == pytest.approx(1.0)
    two = Roofline(PROFILE, plan, 2).bound(row(2.0, rate / 12 / 1e9, 0.001))
    assert two.ms == pytest.approx(0.25)
    assert one.bound(ProfileRow("k", "", 1, 1.0, None, None)).by is None


def test_rows_tell_fraction_and_gap() -> None:
    rows = [row(4.0, PROFILE.vector / 4e9, 0.001), ProfileRow("k", "", 1, 1.0, None, None)]
    table = rows_with_bounds(rows, [{"ms": 2.0}, {"ms": 1.0}], Roofline(PROFILE, {}, 1))
    assert table[0]["fraction"] == pytest.approx(0.25)
    assert table[0]["gap_ms"] == pytest.approx(1.5)
    assert (table[1]["fraction"], table[1]["gap_ms"]) == (None, None)


def test_layers_of_a_plan() -> None:
    def choice(task: str, rows: str, count: int) -> dict:
        return {"task": task, "dims": [rows, "8", "9"], "sources": ["n"] * count}

    plan = {
        "selection": {
            "choices": [
                choice("matmul k=8 n=9, epilogue: add", "batch * seq", 2),
                choice("matmul k=8 n=9", "batch * seq", 1),
                choice("matmul k=64 n=9", "batch", 1),
                choice("conv channels=3", "1", 1),
            ]
        }
    }
    found = layers(plan, {"batch": 2, "seq": 3})
    assert found == (Layer(6, 8, 9, 3), Layer(2, 64, 9, 1))
    assert layers({}, {}) == ()


def test_linear_times_our_kernel(monkeypatch) -> None:
    from tilewright.backends.target import detect
    from tilewright.tools.bench import linear

    def torch(layer, precision):
        assert (layer.n, precision) == (64, "bf16")
        return lambda feeds: []

    monkeypatch.setattr(linear, "torch_linear", torch)
    target = detect()
    found = linear.time_layers(
        [Layer(4, 32, 64, 1)],
        *(target, shipped()[target.name], None),
        {"torch:bf16": ("bf16", {})},
        2,
        1.0,
    )
    (timed,) = found
    assert timed.ms[timed.kernel] > 0
    assert set(timed.ratio) == {"torch:bf16"}
