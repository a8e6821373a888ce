"""GPU kernels with tensor cores, run on this CPU from their CUDA C++.

`blocks.h` says how, and what of the machine it has; g++ compiles, each entry when it is launched.
Functions that are one instruction of PTX are those of `blocks.h`. What it cannot show: whether PTX
means what `blocks.h` does, speed.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from support.guarded import Guarded

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.kernels.family import Case, KernelFamily, evaluate
from tilewright.backends.target import Target
from tilewright.runtime import expressions

BAND = 256
"""Bytes of poison on both sides of every result and of the workspace."""
POISON = 0xFF
"""NaN in every format of floating-point numbers."""

COMPILER = shutil.which("g++")
ORDERS = {"early": 0, "late": 1, "any": 2}
"""When copies and products of warp groups happen."""

OPTIONS = "-std=gnu++17 -O1 -fno-strict-aliasing -ffp-contract=off -mfma -mf16c -w -fPIC -shared"
_FUNCTION = re.compile(
    r"^(?:template [^\n]*\n)?static __device__ [^{}]*\{\n(?:(?!\}).*\n)*?\}\n", re.MULTILINE
)
_PTX = re.compile(r"\basm\b|__cvta_generic_to_shared")
_SIZES = {"bf16": 2, "f16": 2, "f32": 4, "u8": 1, "i8": 1}


class EmulationError(AssertionError):
    """Threads that wait for each other, memory that is not theirs, lanes that part."""


def _plain(text: str) -> str:
    """CUDA C++ without functions that have PTX."""
    text = text.replace('#include "hopper.cuh"\n', prelude.parts()["hopper.cuh"] + "\n")
    text = _FUNCTION.sub(lambda found: "" if _PTX.search(found[0]) else found[0], text)
    text = text.replace('extern "C" __global__ void', "static void")
    text = re.sub(r"extern __shared__ [^;]*?(\w+)\[\];", r"char *\1 = block_shared;", text)
    return re.sub(r"#pragma unroll.*", "", text)


def _source(kernel: CudaKernel, entry: Entry, name: str, operands: int, dims: int) -> str:
    arguments = [f"maps[{i}]" for i in range(len(entry.maps))]
    arguments += [f"operands[{k}]" for k in range(operands)] + [f"dims[{k}]" for k in range(dims)]
    call = ", ".join([*arguments, "units", "workspace", "status"])
    return f"""#include "{Path(__file__).with_name("blocks.h")}"
{_plain(kernel.source)}
static TensorMap maps[8];
static void **operands;
static long long *dims, units;
static char *workspace;
static int *status;
static void called() {{ {name}{entry.suffix}({call}); }}
extern "C" const char *run(void **a, long long *p, long long u, char *w, int *s, const TensorMap *m,
                           int count, const int *grid, int wide, int high, int threads,
                           int shared, int order, int seed) {{
    operands = a, dims = p, units = u, workspace = w, status = s;
    for (int i = 0; i < count; i++) maps[i] = m[i];
    return run_grid(called, grid, wide, high, threads, shared, order, seed);
}}
"""


class _Banded:
    """Memory of ``data`` with poison around it; an address that is a multiple of 256."""

    def __init__(self, data: np.ndarray) -> None:
        self.block = np.full(data.nbytes + 2 * BAND + 256, POISON, np.uint8)
        self.first = BAND + -(self.block.ctypes.data + BAND) % 256
        self.end = self.first + data.nbytes
        self.block[self.first : self.end] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.address = self.block.ctypes.data + self.first

    def read(self) -> np.ndarray:
        around = np.concatenate([self.block[: self.first], self.block[self.end :]])
        assert (around == POISON).all(), "written beside a result"
        inside: np.ndarray = self.block[self.first : self.end]
        return inside


class EmulatedKernel:
    """A kernel on this CPU."""

    def __init__(self, kernel: CudaKernel, name: str, operands: int, dims: int) -> None:
        self.kernel = kernel
        self.known = name, operands, dims
        self.compiled: dict[str, Any] = {}

    def _entry(self, entry: Entry) -> Any:
        """The function that runs a grid of it."""
        if entry.suffix in self.compiled:
            return self.compiled[entry.suffix]
        assert COMPILER is not None
        folder = Path(mkdtemp(prefix="tw-kernel-"))
        source, library = folder / "kernel.cpp", folder / "kernel.so"
        source.write_text(_source(self.kernel, entry, *self.known))
        command = [COMPILER, *OPTIONS.split(), "-o", str(library), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            found = ctypes.CDLL(str(library)).run
        finally:
            shutil.rmtree(folder)
        found.restype = ctypes.c_char_p
        self.compiled[entry.suffix] = found
        return found

    def launch(
        self,
        operands: list[int],
        dims: tuple[int, ...],
        units: int,
        sms: int = 132,
        order: str = "any",
        seed: int = 0,
    ) -> tuple[str, ...]:
        """All entries on addresses of operands; suffixes of those that had a grid. Raises
        EmulationError."""
        values: dict[str, int] = {f"p{k}": v for k, v in enumerate(dims)}
        values |= {f"a{k}": address % 256 for k, address in enumerate(operands)}
        values |= {"units": units, "sms": sms}
        size = expressions.evaluate(self.kernel.workspace, values)
        work = _Banded(np.full(size, POISON, np.uint8))
        status = _Banded(np.zeros(1, np.int32))
        ran = []
        for entry in self.kernel.entries:
            grid = [expressions.evaluate(text, values) for text in entry.grid]
            if 0 in grid:
                continue
            assert min(grid) > 0, grid
            maps = [encoded_map(m, operands, work.address, values) for m in entry.maps]
            table = aligned_words(np.array(maps, np.uint64).reshape(-1))
            found = self._entry(entry)(
                (ctypes.c_void_p * len(operands))(*operands),
                (ctypes.c_longlong * len(dims))(*dims),
                ctypes.c_longlong(units),
                ctypes.c_void_p(work.address),
                ctypes.c_void_p(status.address),
                ctypes.c_void_p(table.ctypes.data),
                len(maps),
                (ctypes.c_int * 3)(*grid),
                entry.cluster[0],
                entry.cluster[1],
                entry.block[0],
                expressions.evaluate(entry.shared, values),
                ORDERS[order],
                seed,
            )
            if found:
                raise EmulationError(f"{entry.suffix or 'main entry'}: {found.decode()}")
            ran.append(entry.suffix)
        work.read()
        assert not status.read().any()
        return tuple(ran)


def aligned_words(words: np.ndarray) -> np.ndarray:
    room = np.zeros(words.size + 8, np.uint64)
    first = -room.ctypes.data % 64 // 8
    room[first : first + words.size] = words
    return room[first:]


def encoded_map(
    tensor: TensorMap, operands: list[int], workspace: int, values: Mapping[str, int]
) -> list[int]:
    """The words of `TensorMap` in blocks.h."""

    def number(text: str) -> int:
        return expressions.evaluate(text, values)

    base = workspace if tensor.operand == WORKSPACE else operands[tensor.operand]
    base += number(tensor.offset)
    dims = [number(text) for text in tensor.dims]
    strides = [number(text) for text in tensor.strides]
    assert base % 16 == 0, "a map's address"
    assert all(s > 0 and s % 16 == 0 for s in strides), f"strides of a map: {strides}"
    assert all(d > 0 for d in dims), f"sizes of a map: {dims}"
    assert all(0 < b <= 256 for b in tensor.box), tensor.box
    size = _SIZES[tensor.dtype]
    assert tensor.swizzle == 0 or tensor.box[0] * size <= tensor.swizzle
    rank = len(dims)
    box = sum(b << 12 * i for i, b in enumerate(tensor.box))
    full = [*dims, *[0] * (5 - rank), *strides, *[0] * (5 - rank)]
    return [base, *full, box, tensor.swizzle, size, rank, 0, 0]


def check(
    family: KernelFamily,
    case: Case,
    target: Target,
    sms: int = 132,
    orders: tuple[str, ...] = ("early", "late", "any"),
    compiled: EmulatedKernel | None = None,
) -> tuple[str, ...]:
    """Runs ``case`` in each order and compares; operands end at guard pages. The suffixes of what
    ran."""
    assert family.cuda is not None
    operands = len(case.args) + len(case.results)
    if compiled is None:
        kernel = family.cuda(case.spec, target, "kernel")
        compiled = EmulatedKernel(kernel, "kernel", operands, len(case.dims))
    pages = Guarded()
    args = [pages.place(a) for a in case.args]
    units = evaluate(family.units(case.spec), case.dims)
    seen: list[list[bytes]] = []
    ran: tuple[str, ...] = ()
    for seed, order in enumerate(orders):
        results = [_Banded(np.full(r.nbytes, POISON, np.uint8)) for r in case.results]
        addresses = [a.ctypes.data for a in args] + [r.address for r in results]
        ran = compiled.launch(addresses, case.dims, units, sms, order, seed)
        seen.append([r.read().tobytes() for r in results])
        for data, like, expected in zip(seen[-1], case.results, case.expected, strict=True):
            got = np.frombuffer(data, like.dtype).reshape(like.shape)
            if got.dtype.name == "bfloat16":
                got = got.astype(np.float32)
            note = f"{case.label}, {order}, {ran}"
            np.testing.assert_allclose(got, expected, case.rtol, case.atol, err_msg=note)
        assert seen[-1] == seen[0], f"{case.label}: {order} differs"
    return ran
