"""Benchmarks of sparse weights: shares at which times are equal, what is measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tilewright.backends.profile import shipped
from tilewright.backends.target import TARGETS, runs_here
from tilewright.tools import (
    bench_gpu_bitmaps,
    bench_gpu_sparse,
    bench_sparse,
    bench_sparse_models,
)


def test_the_share_at_which_times_are_equal() -> None:
    assert bench_sparse.even([(0.5, 1.2), (0.1, 3.0)]) == "above 0.50"
    assert bench_sparse.even([(0.1, 0.9), (0.5, 0.2)]) == "below 0.10"
    assert bench_sparse.even([(0.5, 0.5), (0.3, 0.75), (0.1, 1.25)]) == "0.20"


def test_blocks_have_the_share_of_weights_that_is_asked_for() -> None:
    for job in bench_sparse.jobs(384, 1020, (0.3,)):
        spec = job.candidate.spec
        if job.name not in bench_sparse.BLOCKS:
            continue
        wide, deep = bench_sparse.BLOCKS[job.name]
        share = spec.blocks / (-(-384 // deep) * -(-1020 // wide))
        assert abs(share - 0.3) < 0.01, job.name
        sample = job.candidate.family.sample
        assert sample is not None
        weights = job.candidate.family.unpack(sample(spec), spec)
        matrix = weights if isinstance(weights, np.ndarray) else weights["codes"]
        assert abs(np.count_nonzero(matrix) / matrix.size - 0.3) < 0.02


def test_narrow_tiles_are_measured_for_few_rows() -> None:
    few = bench_gpu_sparse.choices((16, 4096, 4096), 50)
    assert {one.tile.rows for one in few} == {16, 32, 64}
    assert {one.tile.rows for one in bench_gpu_sparse.choices((8192, 4096, 4096), 2)} == {256}


def test_weights_with_zeros_are_measured_as_they_are_packed() -> None:
    w, spec, packed = bench_gpu_bitmaps.operands(bench_gpu_bitmaps.Weights(256, 96, 30))
    assert abs(np.count_nonzero(w) / w.size - 0.3) < 0.02
    assert packed.nbytes == spec.packed_bytes
    assert bench_gpu_bitmaps.make(spec).entries


def model_of(weights: np.ndarray, path: Path) -> Path:
    k, n = weights.shape
    head = np.random.default_rng(1).standard_normal((n, 32)).astype(np.float32)
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
            helper.make_node("Sigmoid", ["h"], ["s"]),
            helper.make_node("MatMul", ["s", "v"], ["y"], name="second"),
        ],
        "g",
        [helper.make_tensor_value_info("x", floats, ["n", k])],
        [helper.make_tensor_value_info("y", floats, ["n", 32])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(head, "v")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not runs_here(bench_sparse.DOTS), reason="bytes are not multiplied here")
def test_whole_models_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((384, 256)).astype(np.float32)
    pruned = dense * np.repeat(rng.random((384, 16)) < 0.1, 16, axis=1)
    models = [model_of(dense, tmp_path / "dense.onnx"), model_of(pruned, tmp_path / "few.onnx")]
    out = tmp_path / "rows.json"
    command = ["bench", *map(str, models), "--typical", "n=64", "--seconds", "0.1"]
    monkeypatch.setattr(sys, "argv", [*command, "--record", str(out)])
    row = bench_sparse.DOTS.name
    monkeypatch.setitem(TARGETS, row, bench_sparse.DOTS)
    monkeypatch.setitem(shipped(), row, shipped()["sapphirerapids"])
    bench_sparse_models.main()
    first, second = json.loads(out.read_text())["rows"]
    assert first["of_dense"] == first["products_of_dense"] == 1.0
    assert second["model"] == "few"
    assert 0 < second["products_ms"] < second["ms"]
    there = np.count_nonzero(pruned) + 256 * 32
    assert second["there_mb"] == there / 1e6
    assert second["weights_mb"] < first["weights_mb"]
    assert capsys.readouterr().out.count("times the first") == 2
