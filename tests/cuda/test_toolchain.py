"""CUDA C++ and PTX to cubins: every tool that is installed, the same twice, and what goes wrong."""

import shutil

import pytest

from tilewright.backends.cuda import prelude, toolchain
from tilewright.backends.cuda.toolchain import CudaToolError, to_both, to_cubin, to_ptx
from tilewright.backends.target import Target, lookup
from tilewright.compiler.errors import UserError

TARGETS = [lookup("sm_80"), lookup("sm_90a")]
SOURCE = prelude.expand("""
extern "C" __global__ void reversed(void *a0, long long units, char *workspace, int *status) {
  __shared__ float x[64];
  x[threadIdx.x] = ((float *)a0)[threadIdx.x];
  __syncthreads();
  if (units < 0) tw_fail(status, 17);
  ((tw_u16 *)a0)[threadIdx.x] = tw_to_bf16(x[63 - threadIdx.x]);
}
""")
COMPILERS = dict(toolchain._compilers())
ASSEMBLERS = dict(toolchain._assemblers())


def test_the_tools_of_pip_are_preferred() -> None:
    assert toolchain.tools() == ("nvrtc", "nvjitlink")


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("assembler", ASSEMBLERS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_tool_gives_the_same_twice(compiler: str, assembler: str, target: Target) -> None:
    ptx = COMPILERS[compiler](SOURCE, "reversed", target)
    assert f".target {target.name}" in ptx
    assert COMPILERS[compiler](SOURCE, "reversed", target) == ptx
    code, log = ASSEMBLERS[assembler](ptx, "reversed", target)
    assert code[:4] == b"\x7fELF"
    assert ASSEMBLERS[assembler](ptx, "reversed", target)[0] == code
    (found,) = toolchain._resources(log)
    assert (found.entry, found.shared, found.stack) == ("reversed", 256, 0)
    assert 0 < found.registers < 40
    assert (found.spill_stores, found.spill_loads) == (0, 0)


def test_spills_and_stack_are_counted() -> None:
    many = "\n".join(f"  float x{i} = a[{i} * units];" for i in range(300))
    used = " + ".join(f"x{i} * x{(i * 7) % 300}" for i in range(300))
    source = prelude.expand(
        'extern "C" __global__ void __launch_bounds__(1024) many(void *a0, long long units,'
        " char *workspace, int *status) {\n  volatile float *a = (float *)a0;\n"
        f"{many}\n  a[threadIdx.x] = {used};\n}}"
    )
    target = lookup("sm_90a")
    (found,) = to_cubin(to_ptx(source, "many", target), "many", target).resources
    assert found.spill_stores > 0
    assert found.spill_loads > 0
    assert found.stack > 0


MOVED = """
extern "C" __global__ void __launch_bounds__(384, 1) moved(float *a0, long long units) {
  if (threadIdx.x >= 256) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    a0[0] = 1.0f;
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    a0[threadIdx.x] = 2.0f;
  }
}
"""


@pytest.mark.skipif(toolchain.disassembler() == "", reason="no cuobjdump")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_registers_move_between_the_warps_of_a_block(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not where code is assembled to be linked."""
    monkeypatch.setattr(toolchain, "_compilers", lambda: ((compiler, COMPILERS[compiler]),))
    target = lookup("sm_90a")
    ptx, made = to_both(MOVED, "moved", target)
    assert "setmaxnreg.inc.sync.aligned.u32 232" in ptx
    assert [(r.entry, r.registers) for r in made.resources] == [("moved", 168)]
    assert toolchain.disassemble(made.code).count("USETMAXREG") == 2


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_ptx_is_the_same_whether_code_is_made_with_it_or_not(target: Target) -> None:
    ptx, made = to_both(SOURCE, "reversed", target)
    assert ptx.split() == to_ptx(SOURCE, "reversed", target).split()
    assert made == to_both(SOURCE, "reversed", target)[1]
    (found,) = made.resources
    (linked,) = to_cubin(ptx, "reversed", target).resources
    assert (found.entry, found.shared, found.stack) == (linked.entry, linked.shared, linked.stack)


def test_a_compile_error_has_the_line_and_what_is_wrong() -> None:
    with pytest.raises(CudaToolError, match=r'bad\.cu\(1\): error: identifier "y" is undefined'):
        to_ptx("__device__ int x = y;", "bad", lookup("sm_90a"))
    with pytest.raises(CudaToolError, match=r'bad\.cu\(1\): error: identifier "y" is undefined'):
        to_both("__device__ int x = y;", "bad", lookup("sm_90a"))


def test_an_error_of_ptx_names_the_instruction() -> None:
    target = lookup("sm_90a")
    ptx = to_ptx(SOURCE, "reversed", target).replace("ret;", "rot;")
    with pytest.raises(CudaToolError, match="rot"):
        to_cubin(ptx, "reversed", target)


def test_without_tools_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_compilers", lambda: ())
    with pytest.raises(UserError) as refused:
        to_ptx(SOURCE, "reversed", lookup("sm_90a"))
    assert str(refused.value) == (
        "--target sm_90a: no CUDA compiler is installed\n"
        "  looked for NVRTC (cuda-bindings with nvidia-cuda-nvrtc) and for nvcc on the PATH\n"
        '  try: pip install "tilewright[cuda]"'
    )


def test_ptx_alone_is_shipped_where_nothing_assembles(monkeypatch: pytest.MonkeyPatch) -> None:
    target = lookup("sm_80")
    assert toolchain.architectures(target) == ("sm_80", "compute_80")
    monkeypatch.setattr(toolchain, "_assemblers", lambda: ())
    assert to_cubin("", "any", target) == toolchain.Cubin()
    ptx, made = to_both(SOURCE, "reversed", target)
    assert ".target sm_80" in ptx
    assert made == toolchain.Cubin()
    assert toolchain.architectures(target) == ("compute_80",)


def test_parts_come_once_and_unknown_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"base.cuh": "// base", "a.cuh": '#include "b.cuh"\n// a', "b.cuh": "// b"}
    monkeypatch.setattr(prelude, "parts", lambda: files)
    text = prelude.expand('#include "a.cuh"\n#include "b.cuh"\nkernel')
    assert [line for line in text.splitlines() if line] == ["// base", "// b", "// a", "kernel"]
    with pytest.raises(prelude.UnknownPartError, match=r"no device file 'c\.cuh'; known: base"):
        prelude.expand('#include "c.cuh"')


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the PATH")
def test_nvcc_takes_the_place_of_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_nvrtc", lambda: None)
    assert [name for name, _ in toolchain._compilers.__wrapped__()] == ["nvcc"]
