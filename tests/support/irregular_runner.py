"""Runs an irregular kernel on guarded memory and compares it with the reference interpreter."""

import ctypes
import itertools
import mmap
import pickle
from dataclasses import replace

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.irregular import LoweredKernel, emit, lower
from tilewright.backends.llvm.jit import compile_module
from tilewright.backends.reference import DataError, evaluate_op
from tilewright.backends.target import TARGETS
from tilewright.compiler.ir.core import Op
from tilewright.compiler.ir.dims import evaluate

PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Memory that ends at a page without access: an overrun of one byte is a fault."""

    def __init__(self, size: int) -> None:
        pages = (size + PAGE - 1) // PAGE + 1
        self.map = mmap.mmap(-1, pages * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        guard = ctypes.c_void_p(self.base + (pages - 1) * PAGE)
        assert _LIBC.mprotect(guard, ctypes.c_size_t(PAGE), 0) == 0
        self.size = size
        self.address = self.base + (pages - 1) * PAGE - size

    def write(self, array: np.ndarray) -> None:
        raw = np.ascontiguousarray(array).tobytes()
        ctypes.memmove(self.address, raw, len(raw))

    def read(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        raw = ctypes.string_at(self.address, self.size)
        count = int(np.prod(shape))
        return np.frombuffer(raw[: count * dtype.itemsize], dtype).reshape(shape).copy()


def execute(
    op: Op,
    arrays: list[np.ndarray],
    env: dict[str, int],
    target: str,
    pieces: int,
    in_place: bool = False,
    fine: bool = False,
) -> tuple[int, LoweredKernel, list[np.ndarray]]:
    """Status and results of the kernel of `op`; units are run in `pieces` separate calls.

    `fine`: of its smaller units, where it has them.

    `in_place`: results share memory with operands where the kernel allows it.
    """
    lowered = lower(op)
    if fine and lowered.fine is not None:
        lowered = replace(lowered, spec=lowered.fine[0], units=lowered.fine[1])
    spec = pickle.loads(pickle.dumps(lowered.spec))
    assert spec == lowered.spec
    assert hash(spec) == hash(lowered.spec)
    module = ir.Module("test")
    emit(module, spec, "kernel", TARGETS[target])
    kernel = compile_module(module, TARGETS[target]).kernel("kernel")
    by_value = dict(zip(op.operands, arrays, strict=True))
    blocks = []
    for value in lowered.operands:
        blocks.append(Guarded(by_value[value].nbytes))
        blocks[-1].write(by_value[value])
    shapes = [tuple(evaluate(d, env) for d in r.shape) for r in op.results]
    results = []
    for value, shape in zip(op.results, shapes, strict=True):
        size = int(np.prod(shape)) * value.dtype.numpy.itemsize
        results.append(Guarded(size))
        results[-1].write(np.full(size, 0xA5, np.uint8))
    for result, operand in lowered.inplace if in_place else ():
        results[result] = blocks[operand]
    counts = [Guarded(8) for _ in lowered.counts]
    addresses = [b.address for b in (*blocks, *results, *counts)]
    pointers = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
    dims = [evaluate(d, env) for d in lowered.dims]
    numbers = (ctypes.c_int64 * max(1, len(dims)))(*dims)
    scratch = Guarded(-(-evaluate(lowered.scratch_bytes, env) // 64) * 64)
    units = evaluate(lowered.units, env)
    cuts = sorted({units * i // pieces for i in range(pieces + 1)})
    status = 0
    for begin, end in itertools.pairwise(cuts):
        status = max(status, kernel(pointers, numbers, begin, end, scratch.address))
    for block, dim in zip(counts, lowered.counts, strict=True):
        if units and not status:
            assert int(block.read(np.dtype(np.int64), ())) == evaluate(dim, env)
    found = [b.read(v.dtype.numpy, s) for b, v, s in zip(results, op.results, shapes, strict=True)]
    return status, lowered, found


def check(
    op: Op,
    arrays: list[np.ndarray],
    env: dict[str, int] | None = None,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    target: str = "x86-64-v3",
) -> None:
    """The kernel of `op` agrees with the reference, however its units are split, in place, and
    with smaller units.

    Floats within rtol and atol (NaN equal), everything else exactly. Where the reference finds a
    data error the kernel must return a status, and have a text for it.
    """
    known = dict(env or {})
    try:
        want = evaluate_op(op, arrays, known)
    except DataError:
        status, lowered, _ = execute(op, arrays, known, target, 1)
        assert status != 0
        assert lowered.error
        return
    made = lower(op)
    runs = [(1, False, False), (3, False, False)]
    runs += [(1, True, False)] if made.inplace else []
    runs += [(3, False, True)] if made.fine else []
    for pieces, in_place, fine in runs:
        status, _, found = execute(op, arrays, known, target, pieces, in_place, fine)
        assert status == 0
        for value, expected, got in zip(op.results, want, found, strict=True):
            if value.dtype.is_float:
                with np.errstate(invalid="ignore"):  # narrow NaNs are signalling to numpy
                    left = got.astype(np.float64)
                    right = expected.astype(np.float64)
                np.testing.assert_allclose(left, right, rtol, atol, equal_nan=True)
            else:
                np.testing.assert_array_equal(got.astype(np.int64), expected.astype(np.int64))
