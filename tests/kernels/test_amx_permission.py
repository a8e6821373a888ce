"""AMX needs the system's permission: tw_create asks, and a refusal means another variant.

In processes of their own, since a permission is for good.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_artifact import MANIFEST, build_code, write_tiny

from tilewright.runtime.cpu import host_features
from tilewright.runtime.manifest import Variant

pytestmark = pytest.mark.skipif("amx-tile" not in host_features(), reason="this CPU has no AMX")

SMALL_SIGNAL_STACK = """
import ctypes

class Stack(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

# Linux refuses (ENOSPC) when a thread's signal stack could not hold the tile registers.
memory = ctypes.create_string_buffer(8192)
stack = Stack(ctypes.addressof(memory), 0, len(memory))
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
"""
LOAD = """
import sys
import tilewright.runtime
try:
    print(tilewright.runtime.load(sys.argv[1], threads=2).variant)
except tilewright.runtime.TargetError as error:
    print(error)
"""
PERMISSION = """
import ctypes
granted = ctypes.c_uint64()
assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(granted)) == 0
print(granted.value >> 18 & 1)
"""
TILES = Variant("sapphirerapids", "model.sapphirerapids.so", ("sse2", "amx-tile"), 4)
PLAIN = Variant("x86-64-v2", "model.x86-64-v2.so", ("sse2",), 2)


def artifact(folder: Path, *variants: Variant) -> str:
    manifest = dataclasses.replace(MANIFEST, variants=variants)
    files = {variant.file: build_code(variant.features) for variant in variants}
    return str(write_tiny(str(folder / "m.tw"), b"", manifest, files))


def run(program: str, path: str) -> list[str]:
    command = [sys.executable, "-X", "faulthandler=0", "-c", program, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_creating_a_session_gets_the_permission(tmp_path: Path) -> None:
    path = artifact(tmp_path, TILES, PLAIN)
    program = PERMISSION + LOAD + PERMISSION
    assert run(program, path) == ["0", "sapphirerapids", "1"]


def test_code_without_tiles_does_not_ask(tmp_path: Path) -> None:
    assert run(LOAD + PERMISSION, artifact(tmp_path, PLAIN)) == ["x86-64-v2", "0"]


def test_a_refusal_leads_to_the_next_variant(tmp_path: Path) -> None:
    path = artifact(tmp_path, TILES, PLAIN)
    assert run(SMALL_SIGNAL_STACK + LOAD, path) == ["x86-64-v2"]


def test_a_refusal_without_another_variant_says_so(tmp_path: Path) -> None:
    path = artifact(tmp_path, TILES)
    assert run(SMALL_SIGNAL_STACK + LOAD, path) == [
        f"{path}: the operating system does not let this process use amx-tile",
        "  try: compile the model again with a target of this machine",
    ]
