"""Sessions of CUDA variants on a stand-in for the driver: results, graphs, memory."""

import dataclasses
import gc

import numpy as np
import pytest
from support import tiny_cuda
from support.stand_in_arrays import CUBIN, check, values

import tilewright.runtime
from tilewright.runtime import ExecutionError, FeedError
from tilewright.runtime.cuda import graphs
from tilewright.runtime.loader import open_artifact


@pytest.fixture
def session(stand_in):
    return stand_in


def test_runs_of_any_size(session):
    for seed in range(3):
        for rows in (1, 7, 0, 129, 3):
            x = values(rows, seed)
            check(session.run(None, {"x": x}), x, session.counts)


def test_what_came_twice_is_a_graph(session, fake):
    x = values(5)
    kinds = []
    for _ in range(4):
        fake.calls.clear()
        session.run(None, {"x": x})
        kinds.append(("cuGraphInstantiate" in fake.calls, "cuLaunchKernelEx" in fake.calls))
    if session.counts:
        assert kinds == [(False, True)] * 4
        return
    assert kinds == [(False, True), (True, True), (False, False), (False, False)]
    fake.calls.clear()
    session.run(None, {"x": x})
    queued = ["cuCtxGetCurrent", "cuCtxPushCurrent", "cuGraphLaunch", "cuStreamSynchronize"]
    assert fake.calls == [*queued, "cuCtxPopCurrent"]


def test_graphs_are_forgotten_when_memory_moves(session):
    small, large = values(5), values(500)
    for _ in range(3):
        check(session.run(None, {"x": small}), small, session.counts)
    for _ in range(3):
        check(session.run(None, {"x": large}), large, session.counts)
        check(session.run(None, {"x": small}), small, session.counts)


def test_the_number_of_graphs_has_a_limit(session, fake, monkeypatch):
    monkeypatch.setattr(graphs, "_KEPT", 32)
    for rows in range(40, 0, -1):
        for _ in range(2):
            x = values(rows)
            check(session.run(None, {"x": x}), x, session.counts)
    destroyed = fake.calls.count("cuGraphExecDestroy")
    assert destroyed == (0 if session.counts else 8)


def test_a_kernel_that_fails(session):
    x, bad = values(5), values(5)
    bad[3, 3] = np.nan
    for _ in range(3):
        with pytest.raises(ExecutionError) as caught:
            session.run(None, {"x": bad})
        assert str(caught.value) == (
            f"{session.where}: an input has a value that is not a number\n"
            "  status 16 of the run\n  try: check the values of the inputs"
        )
        check(session.run(None, {"x": x}), x, session.counts)


def test_sizes_out_of_bounds(session):
    with pytest.raises(FeedError, match="dimension 'seq' is out of bounds"):
        session.run(None, {"x": values(100_001)})


def test_bounds_that_only_the_program_knows(fake, tmp_path):
    path = tiny_cuda.write(tmp_path / "loose.tw", False, CUBIN, dims={})
    with tilewright.runtime.load(path) as session, pytest.raises(FeedError) as caught:
        session.run(None, {"x": values(100_001)})
    assert str(caught.value) == (
        f"{path}: input shapes conflict with each other or lie outside of the model's bounds\n"
        "  the inputs have shapes (100001, 64)\n"
        "  try: see get_inputs() for the shapes that the model takes"
    )


def test_the_profile_has_a_row_for_every_launch(session):
    rows = session.profile({"x": values(100)}, runs=3)
    assert {row.name for row in rows} >= {"scale", "shift", "tiles"}
    assert next(row for row in rows if row.name == "scale").ms == pytest.approx(1.5)
    x = values(3)
    check(session.run(None, {"x": x}), x, session.counts)


def test_who_runs_and_what_it_needs(session):
    assert session.variant == "sm_90a"
    assert session.get_providers() == ["Tilewright[sm_90a]"]
    session.run(None, {"x": values(100)})
    assert session.arena_bytes == 100 * 256 + 64 + 100 * 256


def test_sessions_of_one_file_share_code_and_weights(session, fake):
    fake.calls.clear()
    with tilewright.runtime.load(session.where) as other:
        assert "cuModuleLoadData" not in fake.calls
        x = values(9)
        check(other.run(None, {"x": x}), x, session.counts)


def test_everything_is_given_back(fake, tmp_path):
    path = tiny_cuda.write(tmp_path / "tiny.tw", False, CUBIN)
    opened = tilewright.runtime.load(path)
    opened.run(None, {"x": values(9)})
    assert fake.held
    gc.disable()
    try:
        opened.close()
        assert not fake.held  # at once, weights too
    finally:
        gc.enable()
    with pytest.raises(ExecutionError, match="the session is closed"):
        opened.run(None, {"x": values(9)})
    assert fake.calls.count("cuModuleUnload") == 1
    assert fake.calls.count("cuStreamDestroy") == 2


def test_out_of_device_memory_and_on_with_less(session, fake):
    x = values(3)
    check(session.run(None, {"x": x}), x, session.counts)
    fake.memory = fake._used() + (1 << 20)
    with pytest.raises(ExecutionError) as caught:
        session.run(None, {"x": values(90_000)})
    assert str(caught.value) == (
        f"{session.where}: out of device memory\n"
        f"  needed 23,040,064 bytes more, {caught.value.found.split()[4]} of "
        f"{fake.memory:,} bytes are free\n"
        "  try: use smaller inputs, or free device memory"
    )
    for _ in range(3):
        check(session.run(None, {"x": x}), x, session.counts)


def test_memory_that_grows_has_room_to_grow_further(session, fake):
    """A decoding loop has more at every step: not every step moves memory."""
    for rows in range(400, 500):
        x = values(rows)
        check(session.run(None, {"x": x}), x, session.counts)
    assert fake.calls.count("cuMemAlloc") < 20
    held = session.arena_bytes
    assert 500 * 256 <= held <= 1.25 * 2 * 500 * 256


def test_room_to_grow_is_not_asked_for_where_there_is_none(session, fake):
    x = values(4000)
    check(session.run(None, {"x": x}), x, session.counts)
    fake.memory = fake._used() + 16_000
    x = values(4004)
    check(session.run(None, {"x": x}), x, session.counts)


def test_a_fault_is_the_end_of_the_context(session, fake):
    session.run(None, {"x": values(3)})
    fake.statuses["cuStreamSynchronize"] = 700
    hint = "\n  try: start a new process; nothing that uses the GPU works in this one"
    with pytest.raises(ExecutionError) as caught:
        session.run(None, {"x": values(3)})
    assert str(caught.value) == (
        f"{session.where}: a kernel failed and the process has lost its CUDA context\n"
        "  cuStreamSynchronize says: CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was "
        f"encountered{hint}"
    )
    with pytest.raises(ExecutionError) as caught:
        session.run(None, {"x": values(3)})
    assert str(caught.value) == (
        f"{session.where}: the process has lost its CUDA context\n"
        f"  an earlier run ended with CUDA_ERROR_ILLEGAL_ADDRESS{hint}"
    )
    session.close()


def test_an_unknown_function_is_damage(fake, tmp_path, monkeypatch):
    from support import fake_cuda

    kept = {name: fake_cuda.KERNELS[name] for name in fake_cuda.KERNELS if name != "shift"}
    monkeypatch.setattr(fake_cuda, "KERNELS", kept)
    path = tiny_cuda.write(tmp_path / "tiny.tw", False, CUBIN)
    with pytest.raises(tilewright.runtime.ArtifactError) as caught:
        tilewright.runtime.load(path)
    assert str(caught.value) == (
        f"{path}: the artifact's CUDA program does not fit its code\n"
        "  its module has no function shift\n  try: compile the artifact again"
    )


def test_a_cpu_variant_is_taken_where_no_gpu_fits(fake, tmp_path):
    from support.tiny_artifact import MANIFEST

    path = tiny_cuda.write(tmp_path / "tiny.tw", False, CUBIN)
    gpu = open_artifact(path).manifest.variants
    from tilewright.runtime.variants import runnable

    both = [*MANIFEST.variants, *gpu]
    assert next(v.target for v in runnable("x", both)) == "sm_90a"
    fake.capability = (7, 5)
    found = runnable("x", [dataclasses.replace(v) for v in both])
    assert [v.target for v in found] == [v.target for v in MANIFEST.variants]
