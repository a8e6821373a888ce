"""The table of weight formats: every kernel that reads one, the fastest marked."""

import json
import sys

import pytest

from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.target import TARGETS, detect
from tilewright.tools import bench_formats


def test_every_kernel_of_a_format_and_one_of_floats() -> None:
    target = TARGETS["x86-64-v4"]
    found = bench_formats.chosen(
        MatmulTask(128, 64), (1, 128, 64), target, "w2a8b64-g64|t158|bcq1-g64"
    )
    named = sorted((c.family.name, c.numerics) for c in found)
    assert named == [
        ("f32_matmul", "f32"),
        ("grouped_matmul", "w2a8b64-g64"),
        ("plane_matmul", "bcq1-g64"),
        ("plane_matmul", "w2a8b64-g64"),
        ("ternary_int8_matmul", "t158"),
        ("ternary_int8_matmul", "t158"),
    ]
    assert len({c.layout.name for c in found if c.layout}) == 6


def test_a_table_and_a_record(tmp_path, monkeypatch, capsys) -> None:
    if "avx2" not in detect().all_features:
        pytest.skip("this machine has no such kernels")
    options = "--shapes 128x32 --rows 1 --formats bcq1-g64 --seconds 0"
    path = tmp_path / "table.json"
    monkeypatch.setattr(sys, "argv", ["bench_formats", *options.split(), "--record", str(path)])
    bench_formats.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{detect().name} 1x128x32"
    assert len(lines) == 3
    assert sum("*" in line for line in lines[1:]) >= 1
    rows = json.loads(path.read_text())["rows"]
    assert {row["format"] for row in rows} > {"bcq1-g64"}
    assert all(row["hot_us"] > 0 and row["cold_predicted_us"] > 0 for row in rows)
