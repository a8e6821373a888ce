"""Sessions of CUDA variants on a stand-in for the driver: results, graphs, memory, bindings."""

import dataclasses
import gc

import numpy as np
import pytest
from support import tiny_cuda

import tilewright.runtime
from tilewright.runtime import ExecutionError, FeedError
from tilewright.runtime.cuda import dlpack, graphs
from tilewright.runtime.cuda.arrays import DeviceArray
from tilewright.runtime.loader import open_artifact

CUBIN = b"\x7fELF of the stand-in"


@pytest.fixture(params=[False, True], ids=["fixed", "counts"])
def session(request, fake, tmp_path):
    path = tiny_cuda.write(tmp_path / "tiny.tw", request.param, CUBIN)
    with tilewright.runtime.load(path) as opened:
        opened.counts = request.param
        yield opened


def values(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 64), np.float32)


def check(found, x, counts):
    for mine, wanted in zip(found, tiny_cuda.expected(x, counts), strict=True):
        assert mine.shape == wanted.shape
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-3)


class Tensor:
    """An array of another library."""

    def __init__(self, array, read_only=False):
        self.memory = np.zeros(array.nbytes + 256, np.uint8)
        self.address = -(-self.memory.ctypes.data // 256) * 256
        start = self.address - self.memory.ctypes.data
        self.array = self.memory[start : start + array.nbytes].view(array.dtype)
        self.array = self.array.reshape(array.shape)
        self.array[:] = array
        self.read_only = read_only

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.array.shape,
            "typestr": self.array.dtype.str,
            "data": (self.address, self.read_only),
            "version": 3,
        }


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


def test_bound_arrays_are_used_in_place(session, fake):
    x, y = Tensor(values(6)), Tensor(np.zeros((6, 64), np.float32))
    binding = session.bind()
    binding.bind_input("x", x)
    binding.bind_output("y", y)
    binding.bind_output("sums")
    for seed in range(4):
        x.array[:] = values(6, seed)
        fake.calls.clear()
        found = binding.run()
        assert found[0] is y
        assert isinstance(found[1], DeviceArray)
        check([y.array, found[1].numpy(), *found[2:]], x.array, session.counts)
    if not session.counts:
        fake.calls.clear()
        binding.run(5)
        queued = ["cuCtxGetCurrent", "cuCtxPushCurrent", "cuGraphLaunch", "cuEventRecord"]
        assert fake.calls == [*queued, "cuCtxPopCurrent"]
        binding.synchronize()


def test_outputs_become_inputs_in_a_loop(session):
    x = values(6)
    binding = session.bind()
    binding.bind_input("x", Tensor(x))
    binding.bind_output("y")
    seen = set()
    for _ in range(4):
        y = binding.run()[0]
        wanted = tiny_cuda.expected(x, session.counts)[0]
        np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-3, atol=1e-2)
        seen.add(y.address)
        x = y.numpy()
        binding.bind_input("x", y)
    assert len(seen) > 1


def test_other_runs_between_those_of_a_binding(session):
    x, other = Tensor(values(6)), values(8)
    binding = session.bind()
    binding.bind_input("x", x)
    for _ in range(3):
        check(binding.run(), x.array, session.counts)
        check(session.run(None, {"x": other}), other, session.counts)


def test_failures_of_runs_that_were_not_waited_for(session):
    x = Tensor(values(6))
    x.array[2, 2] = np.nan
    binding = session.bind()
    binding.bind_input("x", x)
    for name in ("y", "sums", "kept")[: 3 if session.counts else 2]:
        binding.bind_output(name)
    if session.counts:
        binding.run(5)
    else:
        binding.run(5)
        with pytest.raises(ExecutionError, match="not a number"):
            binding.synchronize()


def test_numpy_arrays_can_be_bound_too(session):
    x, y = values(6), np.zeros((6, 64), np.float32)
    binding = session.bind()
    binding.bind_input("x", x)
    binding.bind_output("y", y)
    for seed in range(3):
        x[:] = values(6, seed)
        found = binding.run()
        assert found[0] is y
        check(found, x, session.counts)


def test_what_cannot_be_bound(session):
    binding = session.bind()
    where = f"{session.where}: input 'x'"
    odd = Tensor(np.zeros(4 * 64 + 4, np.float32))
    odd.array, odd.address = odd.array[1 : 1 + 4 * 64].reshape(4, 64), odd.address + 4
    wrong = [
        (
            Tensor(np.zeros((4, 64))),
            "wrong element type\n  expected f32, found f64\n  try: convert the array",
        ),
        (
            Tensor(np.zeros(64, np.float32)),
            (
                "wrong number of dimensions\n  expected 2, (seq, 64); found 1, (64,)\n"
                "  try: reshape the array"
            ),
        ),
        (
            Tensor(np.zeros((4, 32), np.float32)),
            (
                "wrong size of axis 1\n  expected 64, in shape (seq, 64); found 32, "
                "in shape (4, 32)\n  try: reshape or pad the array"
            ),
        ),
        (
            odd,
            (
                "the array cannot be used in place\n  expected an address that is a multiple of "
                f"16, found {odd.address:#x}\n  try: bind a copy"
            ),
        ),
    ]
    for array, text in wrong:
        with pytest.raises(FeedError) as caught:
            binding.bind_input("x", array)
        assert str(caught.value) == f"{where}: {text}"
    with pytest.raises(FeedError) as caught:
        binding.bind_output("y", Tensor(np.zeros((4, 64), np.float32), read_only=True))
    assert str(caught.value) == (
        f"{session.where}: output 'y': the array is read-only\n  expected a writeable array\n"
        "  try: bind an array that owns its memory"
    )
    x = Tensor(values(4))
    binding.bind_input("x", x)
    with pytest.raises(FeedError) as caught:
        binding.bind_output("y", x)
    assert str(caught.value) == (
        f"{session.where}: output 'y': the array shares memory with another bound array\n"
        "  it overlaps the array bound to 'x'\n  try: bind arrays that do not overlap"
    )
    binding.bind_output("y", Tensor(values(5)))
    with pytest.raises(FeedError, match="the bound array has the wrong shape"):
        binding.run()


@pytest.mark.parametrize(("stream", "waits"), [(None, False), (1, False), (2, True), (99, True)])
def test_streams_of_foreign_arrays_are_waited_for(session, fake, stream, waits):
    class Streamed(Tensor):
        @property
        def __cuda_array_interface__(self):
            return {**super().__cuda_array_interface__, "stream": stream}

    fake.calls.clear()
    session.bind().bind_input("x", Streamed(values(4)))
    assert ("cuStreamSynchronize" in fake.calls) == waits


def test_strides_and_devices_of_foreign_arrays(session):
    class Strided(Tensor):
        @property
        def __cuda_array_interface__(self):
            return {**super().__cuda_array_interface__, "strides": (4, 16)}

    class Elsewhere:
        def __dlpack_device__(self):
            return 2, 1

        def __dlpack__(self, stream):
            self.array = Tensor(values(4))
            return dlpack.capsule(self.array, self.array.address, 1, "f32", (4, 64))

    binding = session.bind()
    with pytest.raises(FeedError) as caught:
        binding.bind_input("x", Strided(values(4)))
    assert str(caught.value) == (
        f"{session.where}: input 'x': the array cannot be used in place\n"
        "  expected C-contiguous memory, found strides (1, 4) for shape (4, 64)\n"
        "  try: bind a contiguous copy"
    )
    with pytest.raises(FeedError) as caught:
        binding.bind_input("x", Elsewhere())
    assert str(caught.value) == (
        f"{session.where}: input 'x': the array is on another device\n"
        "  expected device 0, found device 1\n  try: copy it to the session's device"
    )


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i64", "u8", "bool", "f8e4m3fn", "i4"])
def test_capsules_come_back_as_what_they_were(dtype):
    memory = np.arange(64, dtype=np.uint8)
    address = memory.ctypes.data

    class Foreign:
        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, stream):
            return dlpack.capsule(memory, address, 0, dtype, (2, 3))

    gc.collect()
    before = len(dlpack._exported)
    found = dlpack.view(Foreign(), 0)
    assert found.dtypes == ({"f8e4m3fn": "u8", "i4": "i8"}.get(dtype, dtype),)
    assert (found.address, found.device, found.shape) == (address, 0, (2, 3))
    assert found.contiguous
    assert len(dlpack._exported) == before + 1
    del found
    gc.collect()
    assert len(dlpack._exported) == before


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
