"""The emitted thread pool under hammering: every unit once, right status, no deadlock."""

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
    OpenPool,
    at,
    every_round,
    every_unit,
    export_pool,
    load_pools,
)

from tilewright.backends.llvm.cpuid import emit_feature_check
from tilewright.backends.llvm.elf import link
from tilewright.backends.llvm.pool import emit_pool
from tilewright.backends.llvm.pool_layout import KERNEL_TYPE

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="executes x86-64 code")


def emit_test_kernel(module):
    """`count[u] += 1` for its units; `last[tid slot] = begin` in scratch; status args[1][u]."""
    kernel = ir.Function(module, KERNEL_TYPE, "kernel")
    args, _dims, begin, end, scratch = kernel.args
    b = ir.IRBuilder(kernel.append_basic_block())
    counts, statuses = (b.load(at(b, args, i, PTR), typ=PTR) for i in range(2))
    with b.if_then(b.icmp_unsigned("!=", scratch, ir.Constant(PTR, None))):
        old = b.load(scratch, typ=I64)
        b.store(b.add(old, b.sub(end, begin)), scratch)

    def one(unit):
        slot = at(b, counts, unit)
        b.store(b.add(b.load(slot, typ=I64), ir.Constant(I64, 1)), slot)
        return b.load(at(b, statuses, unit, I32), typ=I32)

    every_unit(kernel, b, one)
    return kernel


def emit_wrappers(module, pool, kernel):
    """Exported names for the pool's internal functions, and a loop that hammers it."""
    export_pool(module, pool)
    kind = ir.FunctionType(I32, [PTR, PTR, I64, I64, I64, PTR, I64, I64])
    repeat = ir.Function(module, kind, "tw_repeat")
    handle, args, units, grain, least, scratch, stride, rounds = repeat.args
    given = [handle, kernel, args, ir.Constant(PTR, None), units, grain, least, scratch, stride]
    every_round(
        repeat,
        rounds,
        lambda b: b.call(pool.parallel, given),
        lambda b, old, new: b.select(b.icmp_signed(">", new, old), new, old),
    )


@pytest.fixture(scope="module")
def library():
    module = new_module()
    emit_wrappers(module, emit_pool(module), emit_test_kernel(module))
    loaded = load_pools(module, "tw_repeat")
    words, pointers = [ctypes.c_int64] * 3, [ctypes.c_void_p] * 2
    loaded.tw_repeat.argtypes = [*pointers, *words, ctypes.c_void_p, *words[:2]]
    return loaded


class Pool(OpenPool):
    def run(self, units, grain, rounds=1, statuses=None, least=1):
        """Counts per unit, units done per thread, worst status."""
        counts = np.zeros(max(units, 1), np.int64)
        statuses = np.zeros(max(units, 1), np.int32) if statuses is None else statuses
        scratch = np.zeros((self.threads, 16), np.int64)
        args = (ctypes.c_void_p * 2)(counts.ctypes.data, statuses.ctypes.data)
        worst = self.library.tw_repeat(
            self.handle, args, units, grain, least, scratch.ctypes.data, 128, rounds
        )
        return counts[:units], scratch[:, 0], worst


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_100k_tiny_regions(library, threads):
    with Pool(library, threads) as pool:
        counts, done, worst = pool.run(units=8, grain=1, rounds=100_000)
    assert counts.tolist() == [100_000] * 8
    assert done.sum() == 800_000
    assert worst == 0


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("grain", [1, 3, 64])
def test_every_unit_is_done_once(library, threads, grain):
    with Pool(library, threads) as pool:
        for units in (0, 1, 2, 3, 63, 64, 65, 1000):
            counts, done, worst = pool.run(units, grain)
            assert counts.tolist() == [1] * units
            assert done.sum() == units
            assert worst == 0


@pytest.mark.parametrize("least", [0, 1, 5, 6, 7, 12, 13, 100])
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_get_equal_chunks_of_at_least_what_pays(library, threads, least):
    units = 12
    parts = max(1, min(threads, units // max(least, 1)))
    with Pool(library, threads) as pool:
        for _ in range(200):
            counts, done, _worst = pool.run(units, grain=1, least=least)
            assert counts.tolist() == [1] * units
            assert all(share % -(-units // parts) == 0 for share in done), done
            assert parts > 1 or done[0] == units


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_largest_status_comes_back(library, threads):
    statuses = np.zeros(100, np.int32)
    statuses[[7, 50, 99]] = 3, 19, 16
    with Pool(library, threads) as pool:
        assert pool.run(100, 1, statuses=statuses)[2] == 19
        assert pool.run(100, 1)[2] == 0  # the status of one region does not leak into the next


def test_regions_after_a_pause_wake_the_sleeping_workers(library):
    with Pool(library, 4) as pool:
        for _ in range(30):
            time.sleep(0.003)
            counts, _done, _worst = pool.run(units=1000, grain=1)
            assert counts.tolist() == [1] * 1000


def test_workers_really_help(library):
    with Pool(library, 2) as pool:
        for _ in range(200):
            _counts, done, _worst = pool.run(units=100_000, grain=16, rounds=4)
            if done[1] > 0:
                return
    pytest.fail("the second thread never got a chunk")


def worker_cpus(own):
    """The CPUs that each thread of this process may use, but for those in `own`."""
    tasks = set(map(int, os.listdir("/proc/self/task"))) - own
    return [os.sched_getaffinity(task) for task in tasks]


def test_a_woken_worker_keeps_off_the_callers_cpu(library):
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) < 2:
        pytest.skip("this test needs two CPUs")
    own = set(map(int, os.listdir("/proc/self/task")))
    with Pool(library, 2) as pool:
        allowed = everywhere
        end = time.monotonic() + 10
        while allowed == everywhere and time.monotonic() < end:
            time.sleep(0.01)  # until the worker sleeps; on a busy machine that may take longer
            pool.run(units=1000, grain=1)
            (allowed,) = worker_cpus(own)
        assert allowed < everywhere
        assert len(allowed) == len(everywhere) - 1
    assert os.sched_getaffinity(0) == everywhere


def test_workers_of_a_crowded_pool_run_anywhere(library):
    everywhere = os.sched_getaffinity(0)
    own = set(map(int, os.listdir("/proc/self/task")))
    with Pool(library, len(everywhere) + 1) as pool:
        time.sleep(0.01)
        pool.run(units=1000, grain=1)
        assert worker_cpus(own) == [everywhere] * len(everywhere)


def test_a_forked_child_leaves_the_parents_workers_alone(library):
    everywhere = os.sched_getaffinity(0)
    own = set(map(int, os.listdir("/proc/self/task")))
    with Pool(library, len(everywhere)) as pool:
        time.sleep(0.01)
        child = os.fork()
        if child == 0:
            pool.run(units=1000, grain=1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert worker_cpus(own) == [everywhere] * (len(everywhere) - 1)


def test_pools_come_and_go(library):
    before = set(os.listdir("/proc/self/task"))
    for _ in range(200):
        with Pool(library, 3) as pool:
            assert pool.run(10, 1)[0].tolist() == [1] * 10
    # Those before may end meanwhile, and the kernel lists a thread a moment longer than join waits.
    deadline = time.monotonic() + 10
    while set(os.listdir("/proc/self/task")) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(os.listdir("/proc/self/task")) - before


def test_a_worker_that_takes_in_an_epoch_looks_for_the_end_behind_it():
    """Between looking and taking in, the last epoch may begin: too rare for a run to show it."""
    worker = emit_pool(new_module()).create.module.get_global("tw.pool_worker")
    doors = [block for block in worker.blocks if block.name.startswith("door")]
    (door,) = doors
    loads = [i for i in door.instructions if i.opname == "load atomic" or i.opname == "load"]
    assert [i.type.width for i in loads] == [64, 32]  # the gate, then whether to stop
    assert all("seq_cst" in str(i) for i in loads)
    stored = [i for i in door.instructions if i.opname == "store"]
    assert len(stored) == 1
    ends = [b for b in worker.blocks if b.terminator.opname == "ret"]
    assert [b.name for b in ends] == ["exit"]


def test_two_pools_at_once(library):
    results = []

    def work():
        with Pool(library, 2) as pool:
            results.append(pool.run(units=16, grain=1, rounds=5000)[0].tolist())

    callers = [threading.Thread(target=work) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [[5000] * 16] * 2


def test_destroying_no_pool_does_nothing(library):
    library.tw_destroy_pool(None)


def test_a_forked_child_still_gets_right_answers(library):
    with Pool(library, 3) as pool:
        pool.run(100, 1)
        child = os.fork()
        if child == 0:
            right = pool.run(100, 1)[0].tolist() == [1] * 100
            os._exit(0 if right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_workers_block_signals_so_that_the_program_keeps_them(library):
    with Pool(library, 2):
        masks = []
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/status") as status:
                masks += [line.split()[1] for line in status if line.startswith("SigBlk")]
    # All signals but the two that libc keeps for itself and SIGKILL, SIGSTOP.
    assert any(int(mask, 16) & 0x7FFFFFF == 0x7FFFFFF & ~(1 << 8 | 1 << 18) for mask in masks)


def test_it_compiles_for_aarch64():
    module = new_module("aarch64-unknown-linux-gnu")
    emit_wrappers(module, emit_pool(module), emit_test_kernel(module))
    assert emit_object(module)[18] == 183


def test_features_are_checked_on_aarch64_too():
    module = new_module("aarch64-unknown-linux-gnu")
    kind = ir.FunctionType(I32, [])
    b = ir.IRBuilder(ir.Function(module, kind, "tw_missing").append_basic_block())
    b.ret(emit_feature_check(b, ["neon", "dotprod", "i8mm"]))
    image = link([emit_object(module)], ["tw_missing"], "m.so")
    assert b"getauxval\0" in image
    with pytest.raises(ValueError, match=r"^no run-time check is known for avx2; known: fp-armv8"):
        emit_feature_check(b, ["neon", "avx2"])
