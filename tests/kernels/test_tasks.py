"""Tasks: every family answers its own, and the operands of a launch are those of the test cases."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from tilewright.backends.kernels import tasks
from tilewright.backends.kernels.candidates import CLASSES, allowed, candidates
from tilewright.backends.kernels.family import Case, KernelFamily
from tilewright.backends.kernels.registry import families
from tilewright.backends.target import TARGETS

TASKS = (tasks.MatmulTask, tasks.BatchedMatmulTask, tasks.ConvTask, tasks.AttentionTask)
TARGET = TARGETS["sapphirerapids"]
ANSWERING = {name: f for name, f in families().items() if f.candidates is not None}


def tasks_of(family: KernelFamily, case: Case) -> list[object]:
    """The tasks of this package that a case's spec is an answer to."""
    given = {f.name: getattr(case.spec, f.name) for f in dataclasses.fields(case.spec)}
    found = []
    for kind in TASKS:
        names = [f.name for f in dataclasses.fields(kind)]
        if set(names) <= set(given):
            task = kind(**{name: given[name] for name in names})
            assert family.candidates is not None
            if family.candidates(task, TARGET):
                found.append(task)
    return found


@pytest.mark.parametrize("family", ANSWERING.values(), ids=ANSWERING)
def test_operands_cover_what_kernels_touch(family: KernelFamily) -> None:
    for case in family.cases():
        for task in tasks_of(family, case):
            sizes = list(task.operands(case.dims))
            norm = getattr(case.spec, "norm", None)
            if norm is not None:  # scale and bias come with the choice, not with the task
                sizes[-1:-1] = [4 * case.spec.k] * norm.arguments
            arrays = (*case.args, *case.results)
            assert len(sizes) == len(arrays), case.label
            for position, (size, array) in enumerate(zip(sizes, arrays, strict=True)):
                packed = case.weights is not None and position == case.weights[1]
                assert (size is None) == packed, case.label
                if size is not None:
                    low, high = np.lib.array_utils.byte_bounds(array)
                    held = high - low if array.size else 0
                    # the format of values comes with the choice too: the task counts f32
                    handed = position in (0, len(arrays) - 1)
                    halved = array.dtype == ml_dtypes.bfloat16 or (
                        handed and array.dtype == np.float16
                    )
                    assert held == (size // 2 if halved else size), case.label


@pytest.mark.parametrize("error", CLASSES)
def test_answers_keep_to_the_class_of_error(error: float) -> None:
    task = tasks.MatmulTask(64, 96)
    found = candidates(task, TARGET, error)
    assert found
    assert len({c.spec for c in found}) == len(found)
    assert all(c.accuracy <= error for c in found)
    of_all = [c for c in found if c.family.suits is None]
    assert all(c.layout is not None and c.layout.bytes >= 2 * 64 * 96 for c in of_all)
    small = candidates(task, TARGETS["x86-64-v3"], error)
    assert {c.family.name for c in small if c.family.suits is None} == {"f32_matmul"}


@pytest.mark.parametrize(
    ("bound", "worst"),
    [
        (None, 0),
        (0, 0),
        (9e-6, 0),
        (1e-5, 1e-5),
        (9e-4, 1e-5),
        (1e-3, 1e-3),
        (1e-2, 1e-2),
        (1, 1e-2),
    ],
)
def test_a_bound_allows_classes_up_to_it(bound: float | None, worst: float) -> None:
    assert allowed(bound) == worst


def test_a_task_that_no_family_knows_has_no_candidates() -> None:
    assert candidates(("a task of nobody",), TARGET) == ()
