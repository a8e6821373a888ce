"""Views against numpy's strided arrays, with known and symbolic dimensions."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from tilewright.backends.llvm.lowering.epilogues import as_rows, merge
from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.dims import Dim, evaluate, sym
from tilewright.compiler.ir.types import DType

ENV = {"a": 3, "b": 4, "c": 2}
NAMES = {size: sym(name) for name, size in ENV.items()}


def dense(shape: tuple[Dim, ...]) -> View:
    return View(Place("input", 0), DType.F32, shape, dense_strides(shape))


def shown(view: View, memory: np.ndarray) -> np.ndarray:
    """What a view shows of `memory`, when its symbols have the values of ENV."""
    shape, strides = ([evaluate(d, ENV) for d in x] for x in (view.shape, view.strides))
    start = memory.reshape(-1)[evaluate(view.offset, ENV) :]
    return as_strided(start, shape, [s * memory.itemsize for s in strides])


def symbolic(rng: np.random.Generator, size: int) -> Dim:
    """`size`, sometimes written as a symbol."""
    return NAMES[size] if size in NAMES and rng.random() < 0.5 else size


def step(
    rng: np.random.Generator, view: View, array: np.ndarray, may_repeat: bool
) -> tuple[View, np.ndarray, bool]:
    """One random movement, applied to the view and to the array that it shows."""
    rank = array.ndim
    kind = rng.choice(["transpose", "slice", "broadcast", "reshape"])
    if kind == "transpose":
        perm = tuple(int(p) for p in rng.permutation(rank))
        return view.transpose(perm), array.transpose(perm), may_repeat
    if kind == "slice" and array.size:
        starts, steps, shape, picks = [], [], [], []
        for size in array.shape:
            by = int(rng.choice([1, 1, 1, 2, -1]))
            at = int(rng.integers(0, size)) if by > 0 else size - 1
            count = len(range(at, size if by > 0 else -1, by))
            starts.append(at)
            steps.append(by)
            shape.append(symbolic(rng, count))
            picks.append(slice(at, size, by) if by > 0 else slice(at, None, by))
        return view.slice(tuple(starts), tuple(steps), tuple(shape)), array[tuple(picks)], True
    if kind == "broadcast" and rank < 5:
        lead = (3,) if rng.random() < 0.3 else ()
        shape = lead + tuple(2 if s == 1 and rng.random() < 0.5 else s for s in array.shape)
        want = (*lead, *(n if n != o else d for n, o, d in zip(
            shape[len(lead):], array.shape, view.shape, strict=True)))  # fmt: skip
        return view.broadcast(want), np.broadcast_to(array, shape), True
    axes = [int(s) for s in array.shape]
    if rank > 1 and rng.random() < 0.6:
        at = int(rng.integers(0, rank - 1))
        merged = view.shape[at] * view.shape[at + 1]
        want = (*view.shape[:at], merged, *view.shape[at + 2 :])
    else:
        at = int(rng.integers(0, rank + 1))
        want = (*view.shape[:at], 1, *view.shape[at:])
    del axes
    found = view.reshape(want)
    values = tuple(evaluate(d, ENV) for d in want)
    if found is None:
        assert may_repeat or not view.dense
        return view, array, may_repeat
    return found, array.reshape(values), may_repeat


@pytest.mark.parametrize("seed", range(60))
def test_random_movements(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(s) for s in rng.choice([1, 2, 3, 4, 5], rng.integers(1, 5))]
    view = dense(tuple(symbolic(rng, s) for s in sizes))
    memory = np.arange(np.prod(sizes), dtype=np.float32)
    array, loose = memory.reshape(sizes), False
    for _ in range(6):
        view, array, loose = step(rng, view, array, loose)
        np.testing.assert_array_equal(shown(view, memory), array)
        if view.dense:
            flat = np.ascontiguousarray(array).reshape(-1)
            at = evaluate(view.offset, ENV)
            np.testing.assert_array_equal(memory[at : at + flat.size], flat)


a, b, c = (sym(n) for n in "abc")


@pytest.mark.parametrize(
    ("view", "shape", "works"),
    [
        (dense((a, b, 8)), (a * b, 2, 4), True),
        (dense((a, b, 8)).transpose((1, 0, 2)), (b, a, 2, 4), True),
        (dense((a, b, 8)).transpose((1, 0, 2)), (a * b, 8), False),
        (dense((a, b, 8)).slice((0, 0, 0), (1, 1, 1), (a, b, 4)), (a * b, 4), True),
        (dense((a, b, 8)).slice((0, 0, 0), (1, 1, 1), (a, b, 4)), (a, b * 4), False),
        (dense((a, b, 8)).slice((0, 1, 0), (1, 1, 1), (a, b - 1, 8)), (a, (b - 1) * 8), True),
        (dense((a, b, 8)).slice((0, 1, 0), (1, 1, 1), (a, b - 1, 8)), (a * (b - 1), 8), False),
        (dense((a, 1, b)).broadcast((a, c, b)), (a, 1, c, b), True),
        (dense((a, 1, b)).broadcast((a, c, b)), (a * c, b), False),
        (dense((1, 1, b)).broadcast((a, c, b)), (a * c, b), True),
        (dense((12,)).slice((11,), (-1,), (12,)), (3, 4), True),
        (dense((0, b)), (b, 0), True),
        (dense((0, b, 3)).transpose((2, 1, 0)), (3, b * 0), False),
        (dense((1, 1)).transpose((1, 0)), (), True),
        (dense(()), (1, 1), True),
        (dense((a, 4 * b)).transpose((1, 0)), (4, b, a), True),
        (dense((a, 4 * b)).transpose((1, 0)), (b, 4, a), True),
    ],
)
def test_which_reshapes_need_no_copy(view: View, shape: tuple[Dim, ...], works: bool) -> None:
    found = view.reshape(shape)
    assert (found is not None) == works
    if found is not None:
        memory = np.arange(4096, dtype=np.float32)
        sizes = [evaluate(d, ENV) for d in shape]
        np.testing.assert_array_equal(shown(found, memory), shown(view, memory).reshape(sizes))


def test_dense_whole_and_address() -> None:
    view = dense((a, 8))
    assert view.dense
    assert view.whole
    assert view.at == Place("input", 0, 0)
    assert view.bytes == a * 32
    tail = view.slice((1, 0), (1, 1), (a - 1, 8))
    assert tail.dense
    assert not tail.whole
    assert tail.at == Place("input", 0, 32)
    assert not view.slice((0, 0), (1, 1), (a, 4)).dense
    assert view.slice((0, 0), (1, 1), (1, 4)).dense, "the stride of an axis of size 1 is no matter"


def test_axes_seen_as_one() -> None:
    assert merge((a, b, 8), (b * 8, 8, 1)) == (a * b * 8, 1)
    assert merge((a, b, 8), (b * 16, 16, 1)) is None
    assert merge((a, 1, b), (b * 16, 999, 16)) == (a * b, 16)
    assert merge((a, b), (0, 0)) == (a * b, 0)
    assert merge((), ()) == (1, 0)
    assert as_rows(dense((a, b, 8)), 2) == (a * b, 8, 8)
    assert as_rows(dense((a, b, 8)), 0) == (1, 0, a * b * 8)
    assert as_rows(dense((a, b, 8)).transpose((0, 2, 1)), 1) is None
    assert as_rows(dense((a, 1, 8)).broadcast((a, b, 8)), 2) is None
    assert as_rows(dense((1, 1, 8)).broadcast((a, b, 8)), 2) == (a * b, 0, 8)
