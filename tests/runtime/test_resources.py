"""Memory, threads and CPU state that a run needs or must leave alone."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import ir
from support.native_code import load_module, new_module
from support.tiny_artifact import build_code, expected, write_tiny

import tilewright.runtime
from tilewright.runtime import ExecutionError


def feeds(seq=7):
    return {"x": np.ones((seq, 4), np.float32), "b": np.ones(seq, np.float32)}


@pytest.mark.parametrize("row_bytes", [1 << 59, -16, 1 << 44])
def test_an_arena_that_cannot_be_had(tmp_path, row_bytes):
    path = write_tiny(str(tmp_path / "m.tw"), build_code(row_bytes=row_bytes))
    session = tilewright.runtime.load(path, threads=1)
    for _ in range(2):
        with pytest.raises(ExecutionError) as error:
            session.run(None, feeds())
        assert str(error.value) == (
            f"{path}: out of memory, or no more threads can be started\n"
            "  status 2 of tw_run\n  try: use smaller inputs, or free memory"
        )
    assert session.arena_bytes == 0
    assert session.run(None, feeds(0))[0].shape == (0, 4)


def test_threads_that_cannot_be_had(artifact):
    program = (
        "import resource, tilewright.runtime as rt\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        f"try: rt.load({artifact!r}, threads=1000)\n"
        "except rt.ExecutionError as error: print(error)\n"
        f"rt.load({artifact!r}, threads=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == (
        f"{artifact}: out of memory, or no more threads can be started\n"
        "  status 2 of tw_create\n  try: use fewer threads, or free memory\n"
    )


def test_the_callers_rounding_mode_has_no_effect_and_is_kept(session):
    """A program that flushes subnormals (as -ffast-math libraries make it) gets the same bits."""
    module = new_module()
    for name in ("stmxcsr", "ldmxcsr"):
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
        function = ir.Function(module, kind, f"tw_{name}")
        b = ir.IRBuilder(function.append_basic_block())
        b.call(ir.Function(module, kind, f"llvm.x86.sse.{name}"), function.args)
        b.ret_void()
    library = load_module(module, ["tw_stmxcsr", "tw_ldmxcsr"])
    normal, seen = ctypes.c_uint32(), ctypes.c_uint32()
    library.tw_stmxcsr(ctypes.byref(normal))
    flushing = ctypes.c_uint32(normal.value | 0x8040)
    x, b = np.full((64, 4), 1e-38, np.float32), np.zeros(64, np.float32)
    library.tw_ldmxcsr(ctypes.byref(flushing))
    try:
        y, _ = session.run(None, {"x": x, "b": b})
        library.tw_stmxcsr(ctypes.byref(seen))
    finally:
        library.tw_ldmxcsr(ctypes.byref(normal))
    assert seen.value & 0x8040 == 0x8040
    np.testing.assert_array_equal(y, expected(x, b)[0])
    assert y[0, 2] > 0  # 0.25e-38 is subnormal


def test_the_mapping_asks_for_huge_pages(session, artifact):
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as switch:
        if "[never]" in switch.read():
            pytest.skip("huge pages are turned off on this machine")
    flags = None
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if line.rstrip().endswith(artifact):
                flags = ""
            elif flags == "" and line.startswith("VmFlags:"):
                flags = line
                break
    assert flags is not None
    assert "hg" in flags.split()
