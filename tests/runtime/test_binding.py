"""Zero-copy runs: arrays in place, and what cannot be bound."""

import numpy as np
import pytest
from support.tiny_artifact import expected

from tilewright.runtime import FeedError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    return rng.standard_normal((5, 4), np.float32), rng.standard_normal(5, np.float32)


def test_arrays_are_used_in_place(session, arrays):
    x, b = arrays
    y, kept = np.empty((5, 4), np.float32), np.full(5, -1)
    binding = session.bind()
    for name, array in (("x", x), ("b", b)):
        binding.bind_input(name, array)
    binding.bind_output("y", y)
    binding.bind_output("kept", kept)
    for _ in range(2):
        got_y, got_kept = binding.run()
        want = expected(x, b)
        assert got_y is y
        np.testing.assert_array_equal(y, want[0])
        np.testing.assert_array_equal(got_kept, want[1])
        assert np.shares_memory(got_kept, kept)
        x *= 2  # seen by the next run
        b -= 0.25


def test_outputs_that_are_not_bound_are_new(session, arrays):
    binding = session.bind()
    binding.bind_input("x", arrays[0])
    binding.bind_input("b", arrays[1])
    first, second = binding.run()[0], binding.run()[0]
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, second)


def message_of(function, *args):
    with pytest.raises(FeedError) as error:
        function(*args)
    return str(error.value)


def test_messages(session, artifact, arrays):
    x, b = arrays
    binding = session.bind()
    fit = "  try: bind arrays that do not overlap"
    assert message_of(binding.bind_input, "y", x) == (
        f"{artifact}: unknown input 'y'\n  known: 'b', 'x'\n  try: see get_inputs()"
    )
    assert message_of(binding.bind_output, "keep", x) == (
        f"{artifact}: unknown output 'keep'\n  did you mean 'kept'?\n  try: see get_outputs()"
    )
    assert message_of(binding.bind_input, "b", np.zeros(10, np.float32)[::2]) == (
        f"{artifact}: input 'b': the array cannot be used in place\n"
        "  expected C-contiguous memory, found strides (8,) for shape (5,)\n"
        "  try: bind numpy.ascontiguousarray(array)"
    )
    assert message_of(binding.bind_output, "y", [1.0]) == (
        f"{artifact}: output 'y': not a numpy array\n"
        "  expected a numpy array, found list\n  try: numpy.empty(shape, dtype)"
    )
    assert message_of(binding.bind_output, "kept", np.zeros(5, np.int32)) == (
        f"{artifact}: output 'kept': wrong element type\n"
        "  expected int64, found int32\n  try: array.astype('int64')"
    )
    frozen = np.zeros((5, 4), np.float32)
    frozen.flags.writeable = False
    assert message_of(binding.bind_output, "y", frozen) == (
        f"{artifact}: output 'y': the array is read-only\n"
        "  expected a writeable array\n  try: bind an array that owns its memory"
    )
    binding.bind_input("x", x)
    assert message_of(binding.bind_output, "y", x) == (
        f"{artifact}: output 'y': the array shares memory with another bound array\n"
        f"  it overlaps the array bound to 'x'\n{fit}"
    )
    assert message_of(binding.run) == (
        f"{artifact}: input 'b' is missing\n  the model has 2 inputs, the feeds have 'x'\n"
        "  try: see get_inputs() for names, types and shapes"
    )
    binding.bind_input("b", b)
    y = np.zeros((6, 4), np.float32)
    binding.bind_output("y", y)
    assert message_of(binding.run) == (
        f"{artifact}: output 'y': the bound array has the wrong shape\n"
        "  expected (5, 4), found (6, 4)\n  try: bind an array of the expected shape"
    )
    assert message_of(binding.bind_input, "x", y) == (
        f"{artifact}: input 'x': the array shares memory with another bound array\n"
        f"  it overlaps the array bound to 'y'\n{fit}"
    )
