"""Bindings of arrays on the device to CUDA sessions, on a stand-in for the driver."""

import gc

import numpy as np
import pytest
from support import tiny_cuda
from support.stand_in_arrays import Tensor, check, values

from tilewright.runtime import ExecutionError, FeedError
from tilewright.runtime.cuda import dlpack
from tilewright.runtime.cuda.arrays import DeviceArray


@pytest.fixture
def session(stand_in):
    return stand_in


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


def test_a_loop_takes_turns_in_memory_that_it_has(session, fake):
    x = values(6)
    binding = session.bind()
    binding.bind_input("x", Tensor(x))
    binding.bind_output("y")
    seen = []
    for _ in range(6):
        (y, *_) = binding.run()
        x = tiny_cuda.expected(x, session.counts)[0]
        binding.bind_input("x", y)
        seen.append(y.address)
        if len(seen) == 3:
            fake.calls.clear()
    assert len(set(seen)) <= 3
    assert not {"cuMemAlloc", "cuMemFree", "cuCtxSynchronize"} & set(fake.calls)
    np.testing.assert_allclose(y.numpy(), x, rtol=1e-3, atol=1e-2)


def test_outputs_that_grow_have_room_to_grow_further(session, fake):
    binding = session.bind()
    binding.bind_output("y")
    for rows in range(400, 500):
        x = Tensor(values(rows))
        binding.bind_input("x", x)
        y, *others = binding.run()
        check([y.numpy(), *others], x.array, session.counts)
        if rows == 400:
            fake.calls.clear()
    assert fake.calls.count("cuMemAlloc") < 20


def test_memory_that_others_have_seen_is_not_used_again(session, fake):
    binding = session.bind()
    binding.bind_output("y")
    seen = set()
    for rows in (6, 7, 6, 7):
        binding.bind_input("x", Tensor(values(rows)))
        (y, *_) = binding.run()
        if rows == 6:
            y.__dlpack__(stream=-1)
        else:
            assert y.__cuda_array_interface__["data"][0] == y.address
        assert y.address in fake.held
        before = y.address
        binding.bind_output("y")
        del y, _
        gc.collect()
        assert before not in fake.held
        seen.add(before)


def test_what_waits_is_no_more_than_what_is_lent(session, fake):
    binding = session.bind()
    binding.bind_output("y")
    kept = []
    for rows in (6, 600, 6, 7):
        binding.bind_input("x", Tensor(values(rows)))
        kept.append(binding.run()[0])
    large = kept[1].address
    del kept[1]
    gc.collect()
    assert large not in fake.held


def test_outputs_stay_when_their_session_is_closed(session, fake):
    binding = session.bind()
    x = values(6)
    binding.bind_input("x", Tensor(x))
    binding.bind_output("y")
    y, *others = binding.run()
    session.close()
    check([y.numpy(), *others], x, session.counts)
    before = y.address
    del y, others, binding
    gc.collect()
    assert before not in fake.held


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
