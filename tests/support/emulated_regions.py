"""The CUDA C++ of regions, run on this CPU: a stand-in for `region_runner.CompiledRegion`.

`fibers.h` says how; g++ compiles. What it cannot show: instructions of PTX, races, speed.
"""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace

import numpy as np
from support.region_oracle import DTYPES

from tilewright.backends import target
from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.region import region_kernel
from tilewright.runtime import expressions

BAND = 256
"""Bytes of poison on both sides of every result."""
POISON = 0xA5

# sm_80: without griddepcontrol, which only PTX has.
ROW = target.lookup("sm_80")
COMPILER = shutil.which("g++")
_LINE = r"(?:(?!^\}).*\n)*"
_PTX = re.compile(rf"^static __device__ [^\n]*\{{\n{_LINE}?.*\basm\(.*\n{_LINE}\}}\n", re.MULTILINE)
"""Functions of one instruction; `fibers.h` has its own."""


def _source(kernel, operands, params):
    """The kernel as C++ of this machine, with a function that runs one of its entries."""
    shared = _PTX.sub("", prelude.parts()["region.cuh"])
    text = kernel.source.replace('#include "region.cuh"', shared).replace('extern "C"', "static")
    text = text.replace('#include "normalize.cuh"', prelude.parts()["normalize.cuh"])
    text = re.sub(r"#pragma unroll.*", "", text)
    arguments = [f"operands[{k}]" for k in range(operands)] + [f"dims[{k}]" for k in range(params)]
    call = ", ".join([*arguments, "1", "workspace", "status"])
    entries = "".join(
        f"static void entry{k}() {{ kernel{entry.suffix}({call}); finish(); }}\n"
        for k, entry in enumerate(kernel.entries)
    )
    names = ", ".join(f"entry{k}" for k in range(len(kernel.entries)))
    return f"""#include "{Path(__file__).with_name("fibers.h")}"
{text}
static void **operands;
static long long *dims;
static char *workspace;
static int *status;
{entries}
extern "C" void run(int which, void **a, long long *p, char *w, int *s, long long blocks, int x,
                    int y) {{
    operands = a, dims = p, workspace = w, status = s;
    void (*all[])() = {{{names}}};
    run_blocks(all[which], blocks, x, y);
}}
"""


class EmulatedRegion:
    """A region compiled for this CPU; call it with arrays and parameters."""

    calls = frozenset()

    def __init__(self, spec, row=None, tier="llvm"):
        self.spec = spec
        self.region = SimpleNamespace(tier=tier, reason="")
        self.kernel = region_kernel(spec, ROW, "kernel")
        folder = Path(mkdtemp(prefix="tw-regions-"))
        source, library = folder / "kernel.cpp", folder / "kernel.so"
        source.write_text(_source(self.kernel, len(spec.inputs) + len(spec.outputs), spec.params))
        options = "-std=c++17 -O0 -fno-strict-aliasing -ffp-contract=off -mfma -mf16c -w -fPIC"
        command = [COMPILER, *options.split(), "-shared", "-o", str(library), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:2000]
            self.run = ctypes.CDLL(str(library)).run
        finally:
            shutil.rmtree(folder)

    def __call__(self, arrays, sizes, params=(), splits=1):
        """(status, outputs): nothing around a result may change."""
        values = {f"p{k}": v for k, v in enumerate(params)} | {"units": 1, "sms": 1}
        inputs = [np.ascontiguousarray(a) for a in arrays]
        addresses = [a.ctypes.data for a in inputs]
        results, bands = [], []
        for size, store in zip(sizes, self.spec.outputs, strict=True):
            results.append(np.zeros(size, DTYPES[store.dtype]))
            block = np.full(results[-1].nbytes + 2 * BAND + 16, POISON, np.uint8)
            first = BAND + -(block.ctypes.data + BAND) % 16
            block[first : first + results[-1].nbytes] = 0
            bands.append((block, first))
            addresses.append(block.ctypes.data + first)
        work = np.full(expressions.evaluate(self.kernel.workspace, values) + 8, POISON, np.uint8)
        status = np.zeros(1, np.int32)
        operands = (ctypes.c_void_p * len(addresses))(*addresses)
        dims = (ctypes.c_longlong * max(1, len(params)))(*params)
        for k, entry in enumerate(self.kernel.entries):
            blocks = expressions.evaluate(entry.grid[0], values)
            places = (ctypes.c_void_p(work.ctypes.data), ctypes.c_void_p(status.ctypes.data))
            if blocks > 0:
                count = ctypes.c_longlong(blocks)
                self.run(k, operands, dims, *places, count, *entry.block[:2])
        for result, (block, first) in zip(results, bands, strict=True):
            assert (block[:first] == POISON).all(), "written before a result"
            assert (block[first + result.nbytes :] == POISON).all(), "written behind a result"
            result.view(np.uint8)[:] = block[first : first + result.nbytes]
        return int(status[0]), results
