"""Region specs on a GPU: a stand-in for `region_runner.CompiledRegion`."""

import ctypes
from functools import cache
from types import SimpleNamespace

import numpy as np
from support.region_oracle import DTYPES

from tilewright.backends import target
from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.region import region_kernel
from tilewright.backends.cuda.toolchain import to_both
from tilewright.runtime import expressions

BAND = 256
"""Bytes of poison on both sides of every result."""
POISON = 0xA5


@cache
def driver():
    """The driver with a context, or None where there is no GPU."""
    try:
        from cuda.bindings import driver as module
    except ImportError:
        return None
    try:
        if module.cuInit(0)[0] or module.cuDeviceGetCount()[1] == 0:
            return None
    except RuntimeError:  # the package is there, the driver's library is not
        return None
    device = checked(module.cuDeviceGet(0))
    context = checked(module.cuDevicePrimaryCtxRetain(device))
    checked(module.cuCtxSetCurrent(context))
    return module


def checked(answer):
    """What a function of the driver gives; its failure as an assertion."""
    status, *values = answer
    assert not int(status), status
    return values[0] if len(values) == 1 else values


@cache
def compiled(spec, row):
    """(kernel, functions of its entries) of ``spec`` on this GPU."""
    kernel = region_kernel(spec, row, "kernel")
    code = to_both(prelude.expand(kernel.source), "kernel", row)[1].code
    module = checked(driver().cuModuleLoadData(code))
    names = [f"kernel{entry.suffix}".encode() for entry in kernel.entries]
    return kernel, [checked(driver().cuModuleGetFunction(module, name)) for name in names]


class Memory:
    """Device memory for as long as the block lasts."""

    def __enter__(self):
        self.held = []
        return self

    def __exit__(self, *_):
        for address in self.held:
            driver().cuMemFree(address)

    def take(self, size):
        address = checked(driver().cuMemAlloc(max(int(size), 1)))
        self.held.append(address)
        return int(address)

    def put(self, array):
        """The address of a copy of ``array``."""
        address = self.take(array.nbytes)
        if array.nbytes:
            checked(driver().cuMemcpyHtoD(address, array.ctypes.data, array.nbytes))
        return address


def fetch(address, array):
    if array.nbytes:
        checked(driver().cuMemcpyDtoH(array.ctypes.data, address, array.nbytes))
    return array


def launch(kernel, functions, operands, params, workspace, status, stream=0):
    """Queue all entries."""
    values = {f"p{k}": v for k, v in enumerate(params)} | {"units": 1, "sms": 1}
    words = [*operands, *params, 1, workspace, status]
    kinds = [ctypes.c_void_p] * len(operands) + [ctypes.c_longlong] * (len(params) + 1)
    kinds += [ctypes.c_void_p] * 2
    for entry, function in zip(kernel.entries, functions, strict=True):
        grid = [max(0, expressions.evaluate(text, values)) for text in entry.grid]
        shared = expressions.evaluate(entry.shared, values)
        if all(grid):
            arguments = (tuple(words), tuple(kinds))
            checked(
                driver().cuLaunchKernel(function, *grid, *entry.block, shared, stream, arguments, 0)
            )


class DeviceRegion:
    """A region compiled for the GPU; call it with arrays and parameters."""

    calls = frozenset()

    def __init__(self, spec, row=None, tier="llvm"):
        self.spec = spec
        self.region = SimpleNamespace(tier=tier, reason="")
        self.kernel, self.functions = compiled(spec, target.lookup("sm_90a"))

    def __call__(self, arrays, sizes, params=(), splits=1):
        """(status, outputs): nothing around a result may change."""
        kernel, cuda = self.kernel, driver()
        values = {f"p{k}": v for k, v in enumerate(params)} | {"units": 1, "sms": 1}
        with Memory() as memory:
            operands = [memory.put(np.ascontiguousarray(a)) for a in arrays]
            results = [
                np.zeros(n, DTYPES[s.dtype]) for n, s in zip(sizes, self.spec.outputs, strict=True)
            ]
            bands = []
            for result in results:
                block = np.full(result.nbytes + 2 * BAND, POISON, np.uint8)
                block[BAND : BAND + result.nbytes] = 0
                bands.append((memory.put(block), block))
                operands.append(bands[-1][0] + BAND)
            workspace = memory.put(
                np.full(expressions.evaluate(kernel.workspace, values), POISON, np.uint8)
            )
            status = memory.put(np.zeros(1, np.int32))
            launch(kernel, self.functions, operands, params, workspace, status)
            checked(cuda.cuCtxSynchronize())
            for result, (address, block) in zip(results, bands, strict=True):
                fetch(address, block)
                assert (block[:BAND] == POISON).all(), "written before a result"
                assert (block[BAND + result.nbytes :] == POISON).all(), "written behind a result"
                result.view(np.uint8)[:] = block[BAND : BAND + result.nbytes]
            code = fetch(status, np.zeros(1, np.int32))
        return int(code[0]), results
