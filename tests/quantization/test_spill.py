"""Matrices that are put away keep their values and leave memory."""

import numpy as np
import pytest

from tilewright.passes.quantization.spill import LEAST, Spilled


def resident():
    """Bytes of this process's pages of files that have no name."""
    found, deleted = 0, False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            if "tilewright-" in line or "(deleted)" in line:
                deleted = True
            elif line.startswith("Rss:") and deleted:
                found += 1024 * int(line.split()[1])
                deleted = False
    return found


@pytest.mark.parametrize("shape", [(8, 8), (1536, 1536)])
def test_what_is_put_away_comes_back(shape):
    made = Spilled(shape)
    assert not made.array.any()
    values = np.random.default_rng(0).standard_normal(shape)
    made.array += values
    made.put_away()
    np.testing.assert_array_equal(made.array, values)


def test_large_arrays_leave_memory():
    before = resident()
    made = Spilled((LEAST // 8 // 1024, 1024))
    made.array += 1
    assert resident() >= before + LEAST
    made.put_away()
    assert resident() <= before + LEAST // 8
    assert made.array.sum() == LEAST // 8
