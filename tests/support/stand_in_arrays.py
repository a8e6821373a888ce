"""What tests of CUDA sessions on a stand-in for the driver share."""

import numpy as np
from support import tiny_cuda

CUBIN = b"\x7fELF of the stand-in"


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
