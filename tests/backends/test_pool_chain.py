"""Regions of several launches under hammering: order of steps, every unit once, statuses, sleep."""

import ctypes
import os
import threading
import time

import numpy as np
import pytest
from llvmlite import ir
from support.native_code import emit_object, new_module
from support.pools import (
    I32,
    I64,
    PTR,
    VOID,
    OpenPool,
    at,
    every_round,
    every_unit,
    export_pool,
    load_pools,
)

from tilewright.backends.llvm.pool import emit_pool
from tilewright.backends.llvm.pool_chain import JOB_ALIGN, JOB_BYTES, emit_chain
from tilewright.backends.llvm.pool_layout import GATE, KERNEL_TYPE
from tilewright.backends.llvm.session import DIMS, PROFILE_CALLS, PROFILE_NS

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="executes x86-64 code")

ERROR = 40


def emit_test_kernel(module):
    """`y[u] = 3 * y[u] + x[(7 * u + 1) % n] + 1` for its units, `x, y, status = args`, `n` the only
    dimension; the largest status."""
    kernel = ir.Function(module, KERNEL_TYPE, "kernel")
    args, dims, begin, end, scratch = kernel.args
    b = ir.IRBuilder(kernel.append_basic_block())
    x, y, statuses = (b.load(at(b, args, i, PTR), typ=PTR) for i in range(3))
    size = b.load(dims, typ=I64)
    b.store(b.add(b.load(scratch, typ=I64), b.sub(end, begin)), scratch)

    def one(unit):
        other = b.urem(b.add(b.mul(unit, ir.Constant(I64, 7)), ir.Constant(I64, 1)), size)
        found = b.add(b.load(at(b, x, other), typ=I64), ir.Constant(I64, 1))
        old = b.load(at(b, y, unit), typ=I64)
        b.store(b.add(b.mul(old, ir.Constant(I64, 3)), found), at(b, y, unit))
        return b.load(at(b, statuses, unit, I32), typ=I32)

    every_unit(kernel, b, one)
    return kernel


def emit_wrappers(module):
    """Exported names for the internal functions, and a loop that hammers `tw_chain`."""
    pool = emit_pool(module)
    chain, kernel = emit_chain(module, pool), emit_test_kernel(module)
    export_pool(module, pool)
    kind = ir.FunctionType(VOID, [PTR] * 4 + [I64] * 4 + [I32])
    job = ir.Function(module, kind, "tw_job")
    b = ir.IRBuilder(job.append_basic_block())
    b.call(chain.job, [*job.args[:2], kernel, *job.args[2:]])
    b.ret_void()
    kind = ir.FunctionType(I32, [PTR, PTR, PTR, PTR, I64, PTR, I64])
    repeat = ir.Function(module, kind, "tw_repeat")
    *args, rounds = repeat.args
    every_round(
        repeat,
        rounds,
        lambda b: b.call(chain.run, args),
        lambda b, old, new: b.select(b.icmp_signed("!=", old, ir.Constant(I32, 0)), old, new),
    )


@pytest.fixture(scope="module")
def library():
    module = new_module()
    emit_wrappers(module)
    loaded = load_pools(module, "tw_job", "tw_repeat")
    pointer, word = ctypes.c_void_p, ctypes.c_int64
    loaded.tw_job.argtypes = [pointer] * 4 + [word] * 4 + [ctypes.c_int32]
    loaded.tw_repeat.argtypes = [pointer] * 4 + [word, pointer, word]
    return loaded


class Chain(OpenPool):
    """Steps given as lists of unit counts, one a launch. Launches read the last launch of the step
    before, those of the first step what the last step made in the round before."""

    def __init__(self, library, threads, steps, grain=1, least=1):
        super().__init__(library, threads)
        self.steps = steps
        self.jobs = [(s, units) for s, step in enumerate(steps) for units in step]
        self.data = [np.zeros(max(units, 1), np.int64) for _, units in self.jobs]
        self.statuses = [np.zeros(max(units, 1), np.int32) for _, units in self.jobs]
        self.scratch = np.zeros((threads, 16), np.int64)
        self.session = np.zeros(DIMS, np.int64)
        self.raw = np.zeros(len(self.jobs) * JOB_BYTES + JOB_ALIGN, np.uint8)
        self.table = -(-self.raw.ctypes.data // JOB_ALIGN) * JOB_ALIGN
        ends = np.cumsum([len(step) for step in steps])
        self.source = [int(ends[s - 1]) - 1 for s, _ in self.jobs]
        self.args, self.dims = [], []
        for k, (s, units) in enumerate(self.jobs):
            x = self.data[self.source[k]]
            places = (x, self.data[k], self.statuses[k])
            self.args.append((ctypes.c_void_p * 3)(*(a.ctypes.data for a in places)))
            self.dims.append((ctypes.c_int64 * 1)(x.size))
            library.tw_job(
                self.table + k * JOB_BYTES,
                self.table + (int(ends[s]) - 1) * JOB_BYTES,
                ctypes.cast(self.args[k], ctypes.c_void_p),
                ctypes.cast(self.dims[k], ctypes.c_void_p),
                units,
                grain,
                least,
                k,
                ERROR + k,
            )

    def run(self, rounds=1):
        end = self.table + len(self.jobs) * JOB_BYTES
        scratch, session = self.scratch.ctypes.data, self.session.ctypes.data
        return self.library.tw_repeat(self.handle, self.table, end, scratch, 128, session, rounds)

    def regions(self):
        """How many parallel regions the pool has had: its epoch."""
        return ctypes.c_int64.from_address(self.handle + GATE).value >> 32

    def expected(self, rounds=1, steps=None):
        """What the first `steps` steps of every round make."""
        data = [np.zeros_like(a) for a in self.data]
        for _ in range(rounds):
            for k, (s, units) in enumerate(self.jobs):
                if steps is None or s < steps:
                    x, u = data[self.source[k]], np.arange(units)
                    data[k][:units] = 3 * data[k][:units] + x[(7 * u + 1) % x.size] + 1
        return data

    def check(self, rounds=1, steps=None):
        for got, want in zip(self.data, self.expected(rounds, steps), strict=True):
            np.testing.assert_array_equal(got, want)


STEPS = ([8], [1], [16, 3], [5], [2, 2, 9], [64])


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_3000_rounds_of_tiny_steps(library, threads):
    with Chain(library, threads, STEPS) as chain:
        assert chain.run(3000) == 0
        chain.check(3000)
        assert chain.scratch[:, 0].sum() == 3000 * sum(map(sum, STEPS))


@pytest.mark.parametrize("threads", [1, 2, 4, 9, 70])
@pytest.mark.parametrize(("grain", "least"), [(1, 1), (3, 1), (64, 1), (1, 5), (2, 1000)])
def test_every_unit_once_in_the_order_of_steps(library, threads, grain, least):
    steps = [[0], [1], [2, 0, 63], [64], [0, 0], [65, 1000], [3]]
    with Chain(library, threads, steps, grain, least) as chain:
        assert chain.run(20) == 0
        chain.check(20)
        assert threads < 70 or not chain.scratch[70:, 0].any()


def test_a_chain_is_one_region(library):
    with Chain(library, 2, STEPS) as chain:
        chain.run(50)
        assert chain.regions() == 50
        # profiled, launches run one by one: a region for all but the one of one unit
        kept = np.zeros((2, len(chain.jobs)), np.int64)
        chain.session[PROFILE_NS], chain.session[PROFILE_CALLS] = (a.ctypes.data for a in kept)
        chain.run(50)
        assert chain.regions() == 50 + 50 * (len(chain.jobs) - 1)
    with Chain(library, 2, [[1], [1], [64], [1]]) as chain:
        chain.run(50)
        assert chain.regions() == 50
    with Chain(library, 2, [[64], [3], [1]], least=32) as chain:
        chain.run(50)
        assert chain.regions() == 50, "one launch is shared out: nothing to merge"


def test_launches_that_are_worth_no_thread_stay_on_the_caller(library):
    with Chain(library, 4, [[8], [8, 8], [100]], least=101) as chain:
        assert chain.run(500) == 0
        assert chain.scratch[1:, 0].tolist() == [0, 0, 0]
    with Chain(library, 2, [[20_000], [20_000, 20_000]], least=20_000) as chain:
        end = time.monotonic() + 20
        while not chain.scratch[1, 0]:
            assert time.monotonic() < end, "two launches at a time are worth two threads"
            chain.run(20)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_the_first_failure_ends_the_chain_with_its_error(library, threads):
    with Chain(library, threads, STEPS) as chain:
        # launches 2 and 3 are one step: both fail, the earlier one is named
        chain.statuses[2][15], chain.statuses[3][0] = 3, 7
        chain.statuses[5][0] = 9
        assert chain.run(1) == ERROR + 2
        for k, (got, want) in enumerate(zip(chain.data, chain.expected(1, 3), strict=True)):
            if k != 3 or threads > 1:  # one by one, the other launch of the step did not run
                np.testing.assert_array_equal(got, want)
        for _ in range(2000):
            assert chain.run(1) == ERROR + 2
        assert not chain.data[4].any()
        chain.statuses[2][15] = 0
        assert chain.run(1) == ERROR + 3
        chain.statuses[3][0] = 0
        assert chain.run(1) == ERROR + 5
        chain.statuses[5][0] = 0
        assert chain.run(1) == 0, "the status of one region does not leak into the next"


def test_a_failure_of_the_last_step_is_reported(library):
    with Chain(library, 2, [[8], [8]]) as chain:
        chain.statuses[1][7] = 5
        assert chain.run(300) == ERROR + 1


def test_chains_after_a_pause_wake_the_sleeping_workers(library):
    with Chain(library, 4, STEPS) as chain:
        for _ in range(30):
            time.sleep(0.003)
            assert chain.run() == 0
        chain.check(30)


@pytest.mark.parametrize("threads", [2, 4])
def test_waiting_for_a_long_step_ends_in_sleep_and_in_waking(library, threads):
    """One unit that takes milliseconds: the others sleep on its count until it is done."""
    with Chain(library, threads, [[64], [200_000, 64], [64]], least=1) as chain:
        chain.library.tw_job(
            chain.table + JOB_BYTES,
            chain.table + 2 * JOB_BYTES,
            ctypes.cast(chain.args[1], ctypes.c_void_p),
            ctypes.cast(chain.dims[1], ctypes.c_void_p),
            200_000,
            200_000,
            1,
            1,
            ERROR,
        )
        assert chain.run(20) == 0
        chain.check(20)


def test_several_chains_at_once(library):
    right = []

    def work(steps):
        with Chain(library, 2, steps) as chain:
            status = chain.run(3000)
            chain.check(3000)
            right.append(status == 0)

    callers = [threading.Thread(target=work, args=(STEPS[i:],)) for i in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True] * 3


def test_pools_come_and_go_between_chains(library):
    before = len(os.listdir("/proc/self/task"))
    for _ in range(100):
        with Chain(library, 3, STEPS) as chain:
            assert chain.run(2) == 0
            chain.check(2)
    assert len(os.listdir("/proc/self/task")) <= before


def test_a_forked_child_still_gets_right_answers(library):
    with Chain(library, 3, STEPS) as chain:
        chain.run(10)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                chain.run(10)
                chain.check(20)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        chain.run(10)
        chain.check(20)


@pytest.mark.parametrize("threads", [1, 3])
def test_profiled_chains_time_every_launch(library, threads):
    with Chain(library, threads, STEPS) as chain:
        nanoseconds, calls = (np.zeros(len(chain.jobs), np.int64) for _ in range(2))
        chain.session[PROFILE_NS] = nanoseconds.ctypes.data
        chain.session[PROFILE_CALLS] = calls.ctypes.data
        assert chain.run(50) == 0
        assert calls.tolist() == [50] * len(chain.jobs)
        assert (nanoseconds > 0).all()
        chain.session[PROFILE_NS] = 0
        assert chain.run(50) == 0
        assert calls.tolist() == [50] * len(chain.jobs)
        chain.check(100)


def test_it_compiles_for_aarch64():
    module = new_module("aarch64-unknown-linux-gnu")
    emit_wrappers(module)
    assert emit_object(module)[18] == 183
