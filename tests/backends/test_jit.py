"""Code that is loaded into this process: found by name, kept by what uses it, gone after it."""

import ctypes
import gc
from pathlib import Path

import pytest
from llvmlite import ir

from tilewright.backends.llvm.jit import compile_module
from tilewright.backends.target import detect


def loaded():
    """A library with ``answer``, which returns a constant from read-only data."""
    module = ir.Module()
    table = ir.GlobalVariable(module, ir.ArrayType(ir.IntType(32), 2), "table")
    table.global_constant = True
    table.linkage = "internal"
    table.initializer = ir.Constant(table.value_type, [41, 42])
    words = [ir.PointerType(), ir.PointerType(), ir.IntType(64), ir.IntType(64), ir.PointerType()]
    function = ir.Function(module, ir.FunctionType(ir.IntType(32), words), "answer")
    b = ir.IRBuilder(function.append_basic_block())
    at = b.gep(table, [ir.IntType(64)(0), function.args[2]], source_etype=table.value_type)
    b.ret(b.load(at, typ=ir.IntType(32)))
    return compile_module(module, detect())


def mapped() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:kernels")


def test_functions_are_found_by_name() -> None:
    library = loaded()
    assert [library.kernel("answer")(None, None, i, 0, None) for i in (0, 1)] == [41, 42]
    assert ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 5)(library.address("answer"))
    for name in ("table", "memcpy"):
        with pytest.raises(KeyError, match=name):
            library.kernel(name)


def test_code_stays_as_long_as_a_function_is_used() -> None:
    gc.collect()
    before = mapped()
    kernel = loaded().kernel("answer")
    gc.collect()
    assert mapped() > before
    assert kernel(None, None, 1, 0, None) == 42
    del kernel
    gc.collect()
    assert mapped() == before
