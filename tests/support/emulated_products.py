"""The CUDA C++ of products, run on this CPU: every launch of a case, by `warps.h`.

What it cannot show: instructions of PTX, races between barriers, speed.
"""

import ctypes
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from support.emulated_kernels import aligned_words, encoded_map

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import evaluate as units_of
from tilewright.backends.target import lookup
from tilewright.runtime import expressions

COMPILER = shutil.which("g++")
BAND = 512
TYPES = """typedef unsigned u32;
typedef unsigned short u16;
typedef long long i64;
"""
"""Of hopper.cuh."""
_TOP = re.compile(
    r"^(?:template[^\n]*\n)?static __device__[^;{]*\{\n(?:(?!^\}).*\n)*\}\n|^[^\n]*\n", re.MULTILINE
)
"""A function, or a line."""
_OWN = re.compile(r"\basm\b|__cvta_|^static __device__ [^(]* tw_")


def without_ptx(text):
    """The text without functions that have instructions of PTX in them, and without conversions:
    `warps.h` has its own."""
    return "".join(part[0] for part in _TOP.finditer(text) if not _OWN.search(part[0]))


def _source(kernel, operands, params, capability):
    text = without_ptx(prelude.expand(kernel.source)).replace('extern "C"', "static")
    text = re.sub(r"extern __shared__ [^;]*;", "char *shared = own_shared();", text)
    text = re.sub(r"__align__\((\d+)\)", r"alignas(\1)", re.sub(r"#pragma unroll.*", "", text))
    arguments = [f"operands[{k}]" for k in range(operands)] + [f"dims[{k}]" for k in range(params)]
    call = ", ".join([*arguments, "units", "workspace", "status"])
    entries = "".join(
        f"static void entry{k}() {{ kernel{entry.suffix}({'maps[0], ' * len(entry.maps)}{call});"
        " finish(); }\n"
        for k, entry in enumerate(kernel.entries)
    )
    names = ", ".join(f"entry{k}" for k in range(len(kernel.entries)))
    return f"""#define __CUDA_ARCH__ {capability}0
#include "{Path(__file__).with_name("warps.h")}"
{text}
static void **operands;
static long long *dims, units;
static char *workspace;
static int *status;
static TensorMap *maps;
{entries}
extern "C" int run(int which, void **a, long long *p, long long u, char *w, int *s, void *m,
                   const unsigned *grid, int x, int size, int shared, int late) {{
    maps = (TensorMap *)m, operands = a, dims = p, units = u, workspace = w, status = s;
    void (*all[])() = {{{names}}};
    return run_grid(all[which], grid, x, size, shared, late);
}}
"""


@cache
def compiled(family, spec, row, operands, dims):
    """The kernel and a function that runs one of its entries."""
    kernel = family.cuda(spec, lookup(row), "kernel")
    capability = int(re.sub(r"\D", "", row))
    return kernel, library_of(kernel, operands, dims, capability)


def library_of(kernel, operands, dims, capability):
    """A function that runs an entry."""
    folder = Path(mkdtemp(prefix="tw-products-"))
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    source.write_text(_source(kernel, operands, dims, capability))
    options = "-std=c++17 -O1 -fno-strict-aliasing -ffp-contract=off -mfma -mf16c -w -fPIC"
    command = [COMPILER, *options.split(), "-shared", "-o", str(library), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
        return ctypes.CDLL(str(library)).run
    finally:
        shutil.rmtree(folder)


def run_entry(kernel, suffix, first, arrays, dims):
    """What one entry without maps leaves in the workspace; of the text only constants and what
    begins with ``first``."""
    (entry,) = (e for e in kernel.entries if e.suffix == suffix)
    constants = re.findall(r"^constexpr int \w+ = \d+;\n", kernel.source, re.MULTILINE)
    text = "".join(constants) + kernel.source[kernel.source.index(first) :]
    alone = CudaKernel(TYPES + text, (entry,))
    run = library_of(alone, len(arrays), len(dims), 90)
    places = [Placed(a) for a in arrays]
    values = {f"p{k}": v for k, v in enumerate(dims)} | {"units": 1, "sms": 132}
    work = Placed(np.full(expressions.evaluate(kernel.workspace, values), 0xFF, np.uint8))
    failed = run(
        0,
        (ctypes.c_void_p * len(places))(*(p.address for p in places)),
        (ctypes.c_longlong * len(dims))(*dims),
        ctypes.c_longlong(1),
        ctypes.c_void_p(work.address),
        None,
        None,
        (ctypes.c_uint * 3)(*(expressions.evaluate(g, values) for g in entry.grid)),
        entry.block[0],
        1,
        0,
        True,
    )
    assert not failed
    work.check()
    return work.data


class Placed:
    """A copy of an array between bands of 0xFF, at a multiple of 256 and `shift` bytes."""

    def __init__(self, data, shift=0):
        data = np.ascontiguousarray(data)
        self.block = np.full(data.nbytes + 2 * BAND + 256 + shift, 0xFF, np.uint8)
        self.first = BAND + -(self.block.ctypes.data + BAND) % 256 + shift
        self.data = self.block[self.first : self.first + data.nbytes]
        self.data[:] = data.reshape(-1).view(np.uint8)
        self.address = self.data.ctypes.data

    def check(self):
        end = self.first + self.data.nbytes
        assert (self.block[: self.first] == 0xFF).all(), "bytes before an array were written"
        assert (self.block[end:] == 0xFF).all(), "bytes behind an array were written"


def check(family, case, row, late=True, shift=0, sms=132):
    """Runs ``case`` and compares; the names of the functions that ran."""
    operands = len(case.args) + len(case.results)
    kernel, run = compiled(family, case.spec, row, operands, len(case.dims))
    packed = case.weights[1] if case.weights is not None else -1
    args = [Placed(a, 0 if i == packed else shift) for i, a in enumerate(case.args)]
    results = [Placed(np.full(r.shape, 0xFF, "u1").repeat(r.itemsize), shift) for r in case.results]
    places = [*args, *results]
    units = units_of(family.units(case.spec), case.dims)
    values = {f"p{k}": v for k, v in enumerate(case.dims)} | {"units": units, "sms": sms}
    values |= {f"a{k}": p.address % 256 for k, p in enumerate(places)}
    work = Placed(np.full(expressions.evaluate(kernel.workspace, values), 0xFF, np.uint8))
    status = np.zeros(1, np.int32)
    operands = (ctypes.c_void_p * len(places))(*(p.address for p in places))
    dims = (ctypes.c_longlong * len(case.dims))(*case.dims)
    ran = []
    for k, entry in enumerate(kernel.entries):
        grid = [expressions.evaluate(text, values) for text in entry.grid]
        if 0 in grid:
            continue
        ran.append(entry.suffix)
        shared = expressions.evaluate(entry.shared, values)
        assert grid[0] % entry.cluster[0] == 0
        assert len(entry.maps) <= 1
        addresses = [place.address for place in places]
        words = [encoded_map(m, addresses, work.address, values) for m in entry.maps]
        maps = aligned_words(np.array(words, np.uint64).reshape(-1))
        failed = run(
            k,
            operands,
            dims,
            ctypes.c_longlong(units),
            ctypes.c_void_p(work.address),
            ctypes.c_void_p(status.ctypes.data),
            ctypes.c_void_p(maps.ctypes.data),
            (ctypes.c_uint * 3)(*grid),
            entry.block[0],
            entry.cluster[0],
            shared,
            late,
        )
        assert not failed, ("", "threads wait for ever", "shared memory is overrun")[failed]
    assert status[0] == 0
    for place in (*places, work):
        place.check()
    for place, given in zip(args, case.args, strict=True):
        assert place.data.tobytes() == np.ascontiguousarray(given).tobytes(), (
            "an operand was written"
        )
    for place, result, expected in zip(results, case.results, case.expected, strict=True):
        got = np.frombuffer(place.data.tobytes(), result.dtype).reshape(result.shape)
        got = got.astype(np.float32) if got.dtype.kind == "V" else got
        label = f"{case.label} {row} {ran}"
        np.testing.assert_allclose(
            got.astype(np.float64), expected, case.rtol, case.atol, err_msg=label
        )
    return ran
