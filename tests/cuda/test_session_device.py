"""Sessions on a GPU: graphs, data that decide, bindings, profiles, faults. A program by hand."""

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import tiny_cuda

import tilewright.runtime
from tilewright.backends.cuda.toolchain import to_cubin, to_ptx
from tilewright.backends.target import lookup
from tilewright.runtime import ExecutionError, FeedError, TargetError
from tilewright.runtime.cuda.device import open_device

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module", autouse=True)
def device():
    try:
        found = open_device("tests")
    except TargetError as missing:
        pytest.skip(f"no GPU: {missing.what}")
    if found.capability != (9, 0):
        pytest.skip(f"needs compute capability 9.0, found {found.capability}")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tiny")
    target = lookup("sm_90a")
    ptx = to_ptx(tiny_cuda.SOURCE, "tiny", target)
    cubin = to_cubin(ptx, "tiny", target).code
    for counts in (False, True):
        tiny_cuda.write(made / f"{counts}.tw", counts, cubin, ptx.encode() + b"\0")
    tiny_cuda.write(made / "ptx.tw", False, b"not a cubin", ptx.encode() + b"\0")
    return made


@pytest.fixture(params=[False, True], ids=["fixed", "counts"])
def session(request, folder):
    with tilewright.runtime.load(folder / f"{request.param}.tw") as opened:
        opened.counts = request.param
        yield opened


def values(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 64), np.float32)


def check(found, x, counts):
    for mine, wanted in zip(found, tiny_cuda.expected(x, counts), strict=True):
        mine = mine if isinstance(mine, np.ndarray) else mine.numpy()
        assert mine.shape == wanted.shape
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-3)


def test_runs_of_any_size_again_and_again(session):
    for seed in range(4):  # the second run of a shape captures, later ones replay
        for rows in (1, 7, 8, 0, 129, 1000, 3):
            x = values(rows, seed)
            check(session.run(None, {"x": x}), x, session.counts)
    assert session.get_providers() == ["Tilewright[sm_90a]"]
    assert session.arena_bytes >= 1000 * 256


def test_an_error_of_a_kernel_leaves_the_session_usable(session):
    x = values(5)
    bad = x.copy()
    bad[3, 3] = np.nan
    for _ in range(3):
        with pytest.raises(ExecutionError) as caught:
            session.run(None, {"x": bad})
        assert str(caught.value) == (
            f"{session.where}: {tiny_cuda.NAN_TEXT}\n  status 16 of the run\n"
            "  try: check the values of the inputs"
        )
        check(session.run(None, {"x": x}), x, session.counts)


def test_a_profile_has_a_row_for_every_launch(session):
    rows = session.profile({"x": values(100)}, runs=3)
    assert {row.name for row in rows} >= {"scale", "shift", "tiles"}
    assert all(row.ms > 0 for row in rows)
    assert all(row.calls >= 3 for row in rows if row.name != "twice")


def test_ptx_is_taken_where_the_cubin_is_of_no_use(folder):
    with tilewright.runtime.load(folder / "ptx.tw") as opened:
        x = values(9)
        check(opened.run(None, {"x": x}), x, False)


def test_sessions_of_a_file_share_code_and_weights(folder):
    with (
        tilewright.runtime.load(folder / "False.tw") as one,
        tilewright.runtime.load(folder / "False.tw") as two,
    ):
        assert one._native.model is two._native.model
        x = values(9)
        check(one.run(None, {"x": x}), x, False)
    kept = one
    with tilewright.runtime.load(folder / "False.tw") as three:
        check(three.run(None, {"x": x}), x, False)
    del kept


def test_memory_is_given_back(folder, device):
    with device.active():
        before, _ = device.free_bytes()
    for _ in range(3):
        opened = tilewright.runtime.load(folder / "False.tw")
        opened.run(None, {"x": values(100_000)})
        opened.close()
        del opened
        gc.collect()
    with device.active():
        after, _ = device.free_bytes()
    assert before - after < 8 << 20


def test_too_much_memory_is_an_error_and_smaller_runs_go_on(session, device):
    torch = pytest.importorskip("torch")
    x = values(3)
    check(session.run(None, {"x": x}), x, session.counts)
    torch.cuda.init()
    with device.active():
        free, _ = device.free_bytes()
        blocks = []
        while free > 16 << 20:
            blocks.append(device.driver("cuMemAlloc", max(free - (16 << 20), 1 << 21)))
            free, _ = device.free_bytes()
    try:
        with pytest.raises(ExecutionError, match="out of device memory\n  needed"):
            session.run(None, {"x": values(100_000)})
        check(session.run(None, {"x": x}), x, session.counts)
    finally:
        with device.active():
            for block in blocks:
                device.driver("cuMemFree", block)
    big = values(100_000)
    session.run(None, {"x": big})


def test_bound_tensors_of_torch_are_used_in_place(session):
    torch = pytest.importorskip("torch")
    x = torch.randn(50, 64, device="cuda")
    y = torch.zeros(50, 64, device="cuda")
    binding = session.bind()
    binding.bind_input("x", x)
    binding.bind_output("y", y)
    binding.bind_output("sums")
    for seed in range(4):
        x.copy_(torch.from_numpy(values(50, seed)))
        found = binding.run()
        assert found[0] is y
        sums = torch.from_dlpack(found[1])
        assert sums.data_ptr() == found[1].address
        got = [y.cpu().numpy(), sums.cpu().numpy(), *found[2:]]
        check(got, x.cpu().numpy(), session.counts)


def test_runs_in_a_stream_of_the_caller(folder):
    torch = pytest.importorskip("torch")
    stream = torch.cuda.Stream()
    with tilewright.runtime.load(folder / "False.tw") as session, torch.cuda.stream(stream):
        x = torch.randn(50, 64, device="cuda")
        y, sums = torch.zeros(50, 64, device="cuda"), torch.zeros(50, device="cuda")
        binding = session.bind()
        binding.bind_input("x", x)
        binding.bind_output("y", y)
        binding.bind_output("sums", sums)
        for _ in range(20):
            binding.run(stream.cuda_stream)
            x.copy_(y * 0.25)
        wanted = None
        binding.synchronize()
        stream.synchronize()
        wanted = x.cpu().numpy() * 4
        np.testing.assert_allclose(y.cpu().numpy(), wanted, rtol=1e-5)
        x[2, 2] = float("nan")
        binding.run(stream.cuda_stream)
        with pytest.raises(ExecutionError, match=tiny_cuda.NAN_TEXT):
            binding.synchronize()


def test_cupy_by_the_array_interface(session):
    cupy = pytest.importorskip("cupy")

    class OnlyInterface:
        def __init__(self, array):
            self.array = array

        @property
        def __cuda_array_interface__(self):
            return self.array.__cuda_array_interface__

    x = cupy.asarray(values(20))
    binding = session.bind()
    binding.bind_input("x", OnlyInterface(x))
    binding.bind_output("y")
    for _ in range(3):
        y, sums, *rest = binding.run()
        got = cupy.asarray(y)
        assert got.data.ptr == y.address
        check([cupy.asnumpy(got), sums, *rest], cupy.asnumpy(x), session.counts)


def test_what_cannot_be_bound(session):
    torch = pytest.importorskip("torch")
    binding = session.bind()
    where = f"{session.where}: input 'x'"
    wrong = {
        f"{where}: wrong element type\n  expected f32, found f64\n  try: convert the array": (
            torch.zeros(4, 64, dtype=torch.float64, device="cuda")
        ),
        f"{where}: wrong number of dimensions\n  expected 2, (seq, 64); found 1, (64,)\n"
        "  try: reshape the array": torch.zeros(64, device="cuda"),
        f"{where}: wrong size of axis 1\n  expected 64, in shape (seq, 64); found 32, in shape "
        "(4, 32)\n  try: reshape or pad the array": torch.zeros(4, 32, device="cuda"),
        f"{where}: the array cannot be used in place\n  expected C-contiguous memory, found "
        "strides (1, 64) for shape (64, 64)\n  try: bind a contiguous copy": (
            torch.zeros(64, 64, device="cuda").T
        ),
    }
    for text, array in wrong.items():
        with pytest.raises(FeedError) as caught:
            binding.bind_input("x", array)
        assert str(caught.value) == text
    x = torch.zeros(4, 64, device="cuda")
    binding.bind_input("x", x)
    with pytest.raises(FeedError, match="shares memory with another bound array"):
        binding.bind_output("y", x)
    with pytest.raises(FeedError, match="expected an address that is a multiple of 16"):
        binding.bind_input("x", torch.zeros(4 * 64 + 1, device="cuda")[1:].view(4, 64))


def test_a_fault_ends_the_process_s_context_cleanly(folder):
    program = Path(__file__).parent.parent / "support" / "faulty_cuda.py"
    done = subprocess.run(
        [sys.executable, program, folder], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_overhead_of_a_run(folder, record_property):
    torch = pytest.importorskip("torch")
    with tilewright.runtime.load(folder / "False.tw") as session:
        x = values(1)
        binding = session.bind()
        binding.bind_input("x", torch.from_numpy(x).cuda())
        binding.bind_output("y")
        binding.bind_output("sums")
        runs = {
            "run": lambda: session.run(None, {"x": x}),
            "bound": binding.run,
            "queued": lambda: binding.run(0),
        }
        for name, run in runs.items():
            for _ in range(10):
                run()
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(300):
                run()
            spent = (time.perf_counter() - begun) / 300 * 1e6
            torch.cuda.synchronize()
            print(f"{name}: {spent:.1f} us a run of three launches")
            record_property(name, spent)
