"""Benchmarks of sparse weights: shares at which times are equal, what is measured."""

from __future__ import annotations

import numpy as np

from tilewright.tools import bench_gpu_bitmaps, bench_gpu_sparse, bench_sparse


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
