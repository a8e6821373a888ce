"""Runs like the one before take a short way: same results, same refusals."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.compiled_graph import build
from support.draft_graph import Draft

import tilewright
import tilewright.runtime.session
from tilewright.compiler.ir.ops import reduce, unary
from tilewright.runtime import ExecutionError, FeedError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    d = Draft()
    x = d.input("x", "f32", "n", 3)
    found = tmp_path_factory.mktemp("repeat") / "model.tw"
    build(d.graph(d(unary.Neg, x=x), d(reduce.Reduce, x=x, kind="max", axes=(1,))), found)
    return found


@pytest.fixture
def session(path):
    with tilewright.load(path, threads=1) as opened:
        yield opened


def array(n=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3), np.float32)


def check(outputs, x):
    np.testing.assert_array_equal(outputs[0], -x)
    np.testing.assert_array_equal(outputs[1], x.max(1, keepdims=True))


def test_a_run_like_the_one_before_resolves_no_dimensions(session, monkeypatch):
    first = session.run(None, {"x": array()})

    def refuse(*_):
        raise AssertionError("dimensions were resolved")

    monkeypatch.setattr(tilewright.runtime.session, "resolve_dims", refuse)
    second = session.run(None, {"x": array(seed=1)})
    check(first, array())
    check(second, array(seed=1))
    assert not np.shares_memory(first[0], second[0])
    (picked,) = session.run(["out1"], {"x": array(seed=2)})
    np.testing.assert_array_equal(picked, array(seed=2).max(1, keepdims=True))
    with pytest.raises(AssertionError, match="resolved"):
        session.run(None, {"x": array(5)})


@pytest.mark.parametrize("n", [5, 0, 1])
def test_another_size_between(session, n):
    for size in (4, n, 4, 4, n, n):
        check(session.run(None, {"x": array(size)}), array(size))


def test_arrays_in_another_layout_are_still_copied(session):
    x = array()
    for given in (x, np.asfortranarray(x), x, np.repeat(x, 2, axis=0)[::2], x[::-1, ::-1]):
        check(session.run(None, {"x": given}), given)


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": array().astype("f8")},
        {"x": array().astype(">f4")},
        {"x": array().tolist()},
        {"x": array()[0]},
        {"x": array(), "y": array()},
        {"y": array()},
        {},
        [array()],
    ],
)
def test_what_a_first_run_refuses_a_later_one_refuses(session, feeds):
    with pytest.raises(FeedError) as first:
        session.run(None, feeds)
    session.run(None, {"x": array()})
    with pytest.raises(FeedError) as later:
        session.run(None, feeds)
    assert str(later.value) == str(first.value)
    check(session.run(None, {"x": array()}), array())


def test_unknown_outputs_and_closed_sessions_are_refused(session):
    session.run(None, {"x": array()})
    with pytest.raises(FeedError, match="unknown output 'out2'"):
        session.run(["out2"], {"x": array()})
    session.close()
    with pytest.raises(ExecutionError, match="closed"):
        session.run(None, {"x": array()})


def test_bound_outputs(session):
    x, y = array(), np.empty((4, 3), np.float32)
    binding = session.bind()
    binding.bind_input("x", x)
    binding.bind_output("out0", y)
    for _ in range(3):
        outputs = binding.run()
        assert outputs[0] is y
        check(outputs, x)
        x += 1
    binding.bind_output("out0", np.empty((5, 3), np.float32))
    with pytest.raises(FeedError, match="wrong shape"):
        binding.run()
    check(session.run(None, {"x": x}), x)


def test_threads_with_sizes_of_their_own(session):
    def work(size):
        for seed in range(200):
            x = array(size, seed)
            check(session.run(None, {"x": x}), x)

    with ThreadPoolExecutor(3) as callers:
        for done in [callers.submit(work, size) for size in (3, 3, 4)]:
            done.result()
