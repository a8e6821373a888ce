"""What the cost model is judged on: shapes for every family, launches of them, the fit."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import load
from tilewright.backends.profile import Fit, shipped
from tilewright.backends.target import TARGETS, detect
from tilewright.tools import bench_kernel_shapes, bench_kernels
from tilewright.tools.bench.cost_fit import Point, fit, judge
from tilewright.tools.bench.cost_points import shapes, unreached
from tilewright.tools.bench.cost_tasks import Kind, kinds
from tilewright.tools.bench.launches import compile_family, launch
from tilewright.tools.bench.parallel import Pool

PROFILE = shipped()["sapphirerapids"]


@pytest.mark.parametrize("name", ["sapphirerapids", "x86-64-v3", "neoverse-n1"])
def test_every_family_that_lowering_asks_has_a_shape(name: str) -> None:
    assert unreached(TARGETS[name]) == ()


def test_operands_of_every_shape_are_known() -> None:
    for shape in (*shapes("fit"), *shapes("check"), *bench_kernel_shapes.shapes()):
        sizes = shape.task.operands(shape.dims)
        assert all(size is None or size > 0 for size in sizes), shape.label
        assert sum(size is None for size in sizes) <= 1


def test_shapes_of_the_fit_are_not_judged() -> None:
    used = {(s.task, s.dims) for s in shapes("fit")}
    judged = [(s.task, s.dims) for s in shapes("check")]
    assert not used & set(judged)
    assert len(judged) == len(set(judged))


def test_a_task_of_a_new_form_is_refused() -> None:
    @dataclass(frozen=True)
    class StrangeTask:
        knots: int

    with pytest.raises(TypeError, match="StrangeTask is a task of a form"):
        Kind(StrangeTask)


def test_element_types_take_turns() -> None:
    (kind,) = (k for k in kinds() if k.label == "integer matmul")
    made = [task for turn in range(4) for task, _ in kind.make(turn, "bias", k=8, n=9)]
    assert len({(task.a, task.b, task.out) for task in made}) == 4
    assert all(candidates(task, TARGETS["sapphirerapids"]) for task in made)


def test_kernels_of_a_shape_are_one_a_family_and_class() -> None:
    target = TARGETS["sapphirerapids"]
    for shape in bench_kernel_shapes.shapes():
        found = [(c.family.name, c.accuracy) for c in bench_kernels.kernels(shape, target)]
        assert len(found) == len(set(found))
        assert set(found) == {(c.family.name, c.accuracy) for c in shape.candidates(target)}


def test_a_launch_on_a_pool_computes_the_same(tmp_path) -> None:
    target, task, dims = detect(), MatmulTask(40, 256), (9, 40, 256)
    chosen = next(c for c in candidates(task, target) if c.family.name == "f32_matmul")
    path = compile_family("f32_matmul", [chosen.spec], target, tmp_path)
    kernel = load(path.read_bytes(), target).kernel("kernel0")
    ready = launch(chosen, task, dims, kernel, cold=False, threads=2)
    result = ready.keep[-1].view(np.float32)
    ready.run()
    alone = result.copy()
    assert np.abs(alone).max() > 0
    pool = Pool(2, target)
    try:
        result[:] = 0
        assert ready.run(1, pool) > 0
        assert np.array_equal(result, alone)
    finally:
        pool.close()


def points(made: Fit) -> list[Point]:
    """Times that a machine with these constants would have."""
    profile, rng = replace(PROFILE, fit=made), np.random.default_rng(0)
    found = []
    for i in range(120):
        weights, work = (int(10 ** rng.uniform(4, 7)) for _ in range(2))
        cost = Cost(
            flops=int(10 ** rng.uniform(6, 10)),
            bytes=weights + work,
            unit=("f32", "bf16_tile")[i % 2],
            weights=weights,
            passes=int(rng.integers(1, 4)),
            streamed=4 * work,
            converted=work // 4,
            epilogue=int(10 ** rng.uniform(3, 6)),
            written=work // 2,
            blocks=int(10 ** rng.uniform(1, 4)),
        )
        for threads in (1, 2):
            point = Point(f"s{i // 4}", str(i), "f", 0.0, cost, 12, 1.0, threads)
            found.append(replace(point, seconds=point.predicted(profile)))
    return found


def test_a_fit_finds_the_constants_that_made_the_times() -> None:
    made = Fit(
        rate={"f32": 0.9, "bf16_tile": 0.7},
        stream=0.8,
        far=1.2,
        together=0.85,
        far_together=0.7,
        region=3.0,
    )
    known = points(made)
    found = replace(PROFILE, fit=fit(known, PROFILE))
    for name in ("together", "far_together", "region"):
        assert getattr(found.fit, name) == pytest.approx(getattr(made, name), rel=0.1)
    quality = judge(known, found)
    assert quality.error < 1.03
    assert quality.spearman > 0.999
    # Without points of several threads, what they would tell stays as it was.
    alone = fit([p for p in known if p.threads == 1], replace(PROFILE, fit=made))
    assert (alone.together, alone.region) == (0.85, 3.0)
