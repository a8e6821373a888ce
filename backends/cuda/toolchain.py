"""CUDA C++ to PTX and cubins, and PTX to cubins, by whatever tools are installed.

    to PTX       NVRTC (pip: nvidia-cuda-nvrtc), else nvcc on the PATH
    to a cubin   nvJitLink (pip: nvidia-nvjitlink), else ptxas on the PATH

The first that is there is taken, so that a machine with `tilewright[cuda]` always uses the same.
CUDA C++ becomes a cubin by NVRTC itself: nvJitLink assembles what may be linked with other code,
and for that ignores `setmaxnreg`, which moves registers from warps that copy to warps that multiply
(C7504; 168 registers instead of 232 for sums and epilogues). No GPU and no driver are needed.
Where nothing makes cubins, PTX alone is shipped, for the driver to compile when the model is
loaded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tilewright.backends.target import Target
from tilewright.compiler.errors import UserError

WHEEL_TOOL = "cu*/bin/cuobjdump"
"""Where the wheel has it, in the namespace package of NVIDIA's wheels."""


class CudaToolError(RuntimeError):
    """A tool refused a kernel; the text is what it said."""


@dataclass(frozen=True)
class Resources:
    """What one entry takes, as the assembler says: registers of a thread; bytes of static shared
    memory, of stack, and of spilled registers written and read."""

    entry: str
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


@dataclass(frozen=True)
class Cubin:
    """Machine code and what its entries take; empty where no tool makes it."""

    code: bytes = b""
    resources: tuple[Resources, ...] = ()


def to_ptx(source: str, name: str, target: Target) -> str:
    """CUDA C++, which includes nothing, to PTX.

    Raises UserError where no compiler is installed, CudaToolError for text that it does not take.
    """
    compilers = _compilers()
    if not compilers:
        raise UserError(
            f"--target {target.name}",
            "no CUDA compiler is installed",
            "looked for NVRTC (cuda-bindings with nvidia-cuda-nvrtc) and for nvcc on the PATH",
            'pip install "tilewright[cuda]"',
        )
    _, compiler = compilers[0]
    return compiler(source, name, target)


def to_both(source: str, name: str, target: Target) -> tuple[str, Cubin]:
    """CUDA C++, which includes nothing, to PTX and machine code; what is raised: as `to_ptx`."""
    compilers, assemblers = _compilers(), _assemblers()
    if not compilers or not assemblers:
        return to_ptx(source, name, target), Cubin()
    if compilers[0][0] == "nvrtc":
        made = _run_nvrtc(source, name, target.cpu, b"--ptxas-options=-v")
        return made.ptx, Cubin(made.code, _resources(made.log))
    ptx = to_ptx(source, name, target)
    # nvcc's own assembler for the same reason.
    assemble = dict(assemblers).get("ptxas", assemblers[0][1])
    code, log = assemble(ptx, name, target)
    return ptx, Cubin(code, _resources(log))


def to_cubin(ptx: str, name: str, target: Target) -> Cubin:
    """PTX to machine code. Raises CudaToolError for text that the tool does not take."""
    found = _assemblers()
    if not found:
        return Cubin()
    _, assemble = found[0]
    code, log = assemble(ptx, name, target)
    return Cubin(code, _resources(log))


def tools() -> tuple[str, str]:
    """Names of the compiler and of the assembler that are taken; empty where there is none."""
    compilers, assemblers = _compilers(), _assemblers()
    return (
        compilers[0][0] if compilers else "",
        assemblers[0][0] if assemblers else "",
    )


def disassembler() -> str:
    """Path of cuobjdump, on the PATH or of the wheel nvidia-cuda-cuobjdump; "" without one."""
    found = shutil.which("cuobjdump")
    if found is not None:
        return found
    spec = find_spec("nvidia")
    if spec is None or spec.submodule_search_locations is None:
        return ""
    tools = (t for folder in spec.submodule_search_locations for t in Path(folder).glob(WHEEL_TOOL))
    return str(next(tools, ""))


def disassemble(cubin: bytes) -> str:
    """SASS of a cubin; empty without code or where cuobjdump is missing or refuses."""
    tool = disassembler()
    if not tool or not cubin:
        return ""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as code:
        code.write(cubin)
        code.flush()
        made = subprocess.run(
            [tool, "-sass", code.name], capture_output=True, text=True, check=False
        )
    return made.stdout if made.returncode == 0 else ""


def architecture(target: Target) -> str:
    """The virtual architecture of a row: compute_90a of sm_90a."""
    return target.cpu.replace("sm_", "compute_")


def architectures(target: Target) -> tuple[str, ...]:
    """What devices run what these tools make for a row: its cubins, and the PTX beside them."""
    cubins = (target.cpu,) if _assemblers() else ()
    return (*cubins, architecture(target))


@cache
def _compilers() -> tuple[tuple[str, Callable[[str, str, Target], str]], ...]:
    found: list[tuple[str, Callable[[str, str, Target], str]]] = []
    if _nvrtc() is not None:
        found.append(("nvrtc", _by_nvrtc))
    if shutil.which("nvcc"):
        found.append(("nvcc", _by_nvcc))
    return tuple(found)


@cache
def _assemblers() -> tuple[tuple[str, Callable[[str, str, Target], tuple[bytes, str]]], ...]:
    found: list[tuple[str, Callable[[str, str, Target], tuple[bytes, str]]]] = []
    if _nvjitlink() is not None:
        found.append(("nvjitlink", _by_nvjitlink))
    if shutil.which("ptxas"):
        found.append(("ptxas", _by_ptxas))
    return tuple(found)


@cache
def _nvrtc() -> Any:
    """The bindings, None where they or the library are missing."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, OSError, RuntimeError):
        return None
    return nvrtc


@cache
def _nvjitlink() -> Any:
    """The bindings, None where they or the library are missing."""
    try:
        from cuda.bindings import nvjitlink

        nvjitlink.version()
    except (ImportError, OSError, RuntimeError):
        return None
    return nvjitlink


@dataclass(frozen=True)
class _Compiled:
    """What NVRTC makes; ``code`` of a real architecture only."""

    ptx: str
    code: bytes
    log: str


def _by_nvrtc(source: str, name: str, target: Target) -> str:
    return _run_nvrtc(source, name, architecture(target)).ptx


def _run_nvrtc(source: str, name: str, machine: str, *more: bytes) -> _Compiled:
    nvrtc = _nvrtc()
    options = [f"--gpu-architecture={machine}".encode(), b"--std=c++17", b"-w", *more]
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), f"{name}.cu".encode(), 0, [], [])
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(_fetched(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program))
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CudaToolError(log or str(status))
        ptx = _text(_fetched(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program))
        code = bytearray()
        if machine.startswith("sm_"):
            code = _fetched(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        return _Compiled(ptx, bytes(code), log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _fetched(size_of: Callable[..., Any], fetch: Callable[..., Any], program: Any) -> bytearray:
    _, size = size_of(program)
    data = bytearray(size)
    fetch(program, data)
    return data


def _by_nvcc(source: str, name: str, target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.cu")
        path.write_text(source)
        made = Path(folder, f"{name}.ptx")
        virtual = architecture(target)
        command = [
            "nvcc",
            "-ptx",
            f"-arch={virtual}",
            "-std=c++17",
            "-w",
            "-o",
            made.name,
            path.name,
        ]
        _call(command, folder)
        return made.read_text()


def _by_nvjitlink(ptx: str, name: str, target: Target) -> tuple[bytes, str]:
    linker = _nvjitlink()
    data = ptx.encode()
    handle = linker.create(2, [f"-arch={target.cpu}", "-verbose"])
    try:
        try:
            linker.add_data(handle, linker.InputType.PTX, data, len(data), f"{name}.ptx")
            linker.complete(handle)
        except linker.nvJitLinkError as error:
            log = bytearray(linker.get_error_log_size(handle))
            linker.get_error_log(handle, log)
            raise CudaToolError(_text(log) or str(error)) from None
        code = bytearray(linker.get_linked_cubin_size(handle))
        linker.get_linked_cubin(handle, code)
        log = bytearray(linker.get_info_log_size(handle))
        linker.get_info_log(handle, log)
        return bytes(code), _text(log)
    finally:
        linker.destroy(handle)


def _by_ptxas(ptx: str, name: str, target: Target) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.ptx")
        path.write_text(ptx)
        made = Path(folder, f"{name}.cubin")
        log = _call(["ptxas", f"-arch={target.cpu}", "-v", path.name, "-o", made.name], folder)
        return made.read_bytes(), log


def _call(command: list[str], folder: str) -> str:
    """What the command says; run in ``folder``, so that no path of this machine is recorded."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CudaToolError((done.stderr or done.stdout).strip())
    return done.stdout + done.stderr


def _text(data: bytearray) -> str:
    return bytes(data).rstrip(b"\0").decode(errors="replace").strip()


_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


def _resources(log: str) -> tuple[Resources, ...]:
    """From the assembler's report: for every entry a line with its name, one with its stack and
    spills, one with its registers."""
    found: list[Resources] = []
    entry, stack = "", (0, 0, 0)
    for line in log.splitlines():
        if (match := _ENTRY.search(line)) is not None:
            entry, stack = match[1], (0, 0, 0)
        elif (match := _STACK.search(line)) is not None:
            stack = (int(match[1]), int(match[2]), int(match[3]))
        elif (match := _USED.search(line)) is not None and entry:
            shared = _SHARED.search(match[2])
            size = int(shared[1]) if shared else 0
            found.append(Resources(entry, int(match[1]), size, *stack))
            entry = ""
    return tuple(found)
