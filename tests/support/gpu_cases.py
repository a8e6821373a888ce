"""Launches of kernel families on a GPU, every array between guard bands of poison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.cuda import prelude, toolchain
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import Case, KernelFamily, evaluate
from tilewright.backends.target import Target
from tilewright.tools.bench.gpu_kernels import Device, cubin

BAND = 4096
POISON = 0xFF
"""NaN in every format of floating-point numbers, -1 in integers."""


def machine_code(kernel: CudaKernel, name: str, target: Target, capability: int) -> bytes:
    """What a device of a compute capability loads: a cubin where it is made for it, else PTX."""
    if target.name.removeprefix("sm_").rstrip("a") == str(capability):
        return cubin(kernel, name, target).code
    text = kernel.source
    if kernel.language == "cuda":
        text = toolchain.to_ptx(prelude.expand(text), name, target)
    return text.encode() + b"\0"


class Banded:
    """Device memory of one array with ``band`` bytes of poison around it; 0: the array alone, of
    whose ends the sanitizer knows."""

    def __init__(
        self, device: Device, data: np.ndarray | bytes, shift: int = 0, band: int = BAND
    ) -> None:
        content = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        self.device, self.size, self.before = device, len(content), band + shift
        self.whole = self.before + self.size + band
        self.block = device.allocate(self.whole)
        self.address = self.block + self.before
        before = bytes([POISON]) * self.before
        after = bytes([POISON]) * (self.whole - len(before) - self.size)
        device.upload(self.block, before + content + after)

    def read(self) -> bytes:
        """What the array holds; AssertionError if anything around it was written."""
        data = bytes(self.device.download(self.block, self.whole))
        begin = self.before
        assert set(data[:begin]) <= {POISON}, "bytes before an array were written"
        assert set(data[begin + self.size :]) <= {POISON}, "bytes behind an array were written"
        return data[begin : begin + self.size]

    def close(self) -> None:
        self.device.free(self.block)


def check(
    family: KernelFamily,
    case: Case,
    device: Device,
    kernel: CudaKernel,
    code: bytes,
    name: str,
    shifts: Sequence[int] = (0, 16),
    band: int = BAND,
) -> None:
    """Runs ``case`` twice for each of ``shifts`` (bytes from a multiple of 256 to every array but
    the packed one) and compares: operands untouched, results right and the same every time.

    band: as for `Banded`.
    """
    module = device.load(code)
    units = evaluate(family.units(case.spec), case.dims)
    packed = case.weights[1] if case.weights is not None else -1
    for shift in shifts:
        args = [
            Banded(device, a, 0 if i == packed else shift, band) for i, a in enumerate(case.args)
        ]
        empty = [bytes([POISON]) * r.nbytes for r in case.results]
        results = [Banded(device, e, shift, band) for e in empty]
        operands = [a.address for a in (*args, *results)]
        size = device.workspace(kernel, device.values(operands, case.dims, units))
        status = Banded(device, bytes(4), 0, band)
        seen = []
        for _ in range(2):
            workspace = Banded(device, bytes([POISON]) * size, 0, band)
            for result, data in zip(results, empty, strict=True):
                device.upload(result.address, data)
            prepared = device.prepare(
                module, kernel, name, operands, case.dims, units, workspace.address, status.address
            )
            prepared.run(0)
            device.finish()
            workspace.read()
            workspace.close()
            assert status.read() == bytes(4), case.label
            seen.append([r.read() for r in results])
        for data, result, expected in zip(seen[0], case.results, case.expected, strict=True):
            got = np.frombuffer(data, result.dtype).reshape(result.shape)
            if got.dtype.kind == "V" or got.dtype.name == "bfloat16":
                got = got.astype(np.float32)
            np.testing.assert_allclose(
                got, expected, case.rtol, case.atol, err_msg=f"{case.label} shift {shift}"
            )
        assert seen[0] == seen[1], f"{case.label}: two runs differ"
        for arg, given in zip(args, case.args, strict=True):
            assert arg.read() == np.ascontiguousarray(given).tobytes(), "an operand was written"
        for block in (*args, *results, status):
            block.close()
    device.unload(module)
