"""Targets: one row a machine class, each inheriting its features from a smaller one.

A row is all that code generation may know about a machine. Emitters read vector width, register
count and cache sizes from it and never ask which CPU they run on.
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llvmlite import binding as llvm

from tilewright.compiler.errors import UserError


class UnknownTargetError(ValueError):
    """A target name that has no row. The text lists the known names and the nearest one."""

    def __init__(self, name: str) -> None:
        known = ", ".join(TARGETS)
        near = difflib.get_close_matches(name, TARGETS, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        super().__init__(f"unknown target '{name}'{hint}; known targets: {known}")
        self.name = name


@dataclass(frozen=True)
class Target:
    """One machine class.

    ``features`` are LLVM feature names without sign, a leading '-' turns one off; they hold only
    what this row adds to ``inherits``. ``cpuinfo`` are the /proc/cpuinfo flags that a machine must
    show before code of this row may run on it, again without those inherited.
    """

    name: str
    inherits: str | None
    cpu: str
    features: tuple[str, ...]
    cpuinfo: tuple[str, ...]
    vector_bits: int
    vector_regs: int
    l1_kib: int
    l2_kib: int
    triple: str = "x86_64-unknown-linux-gnu"
    fma: bool = True

    @property
    def lanes_f32(self) -> int:
        """f32 elements in one vector register."""
        return self.vector_bits // 32

    @property
    def gpu(self) -> bool:
        """Whether kernels are CUDA's; ``cpu`` is then the compute architecture."""
        return self.triple == GPU

    @property
    def masked(self) -> bool:
        """Whether masked loads and stores are single instructions."""
        return self.triple.startswith("x86_64") and self.vector_bits >= 256

    @property
    def chain(self) -> tuple[Target, ...]:
        """This row and the rows it inherits from, the smallest first."""
        lower = TARGETS[self.inherits].chain if self.inherits else ()
        return (*lower, self)

    @property
    def all_features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f for row in self.chain for f in row.features))

    @property
    def required_flags(self) -> tuple[str, ...]:
        """/proc/cpuinfo flags needed to run code of this target."""
        return tuple(dict.fromkeys(f for row in self.chain for f in row.cpuinfo))


GPU = "nvptx64-nvidia-cuda"

TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target(
            name="x86-64-v2",
            inherits=None,
            cpu="x86-64-v2",
            features=("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cx16"),
            cpuinfo=("pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"),
            vector_bits=128,
            vector_regs=16,
            l1_kib=32,
            l2_kib=256,
            fma=False,
        ),
        Target(
            name="x86-64-v3",
            inherits="x86-64-v2",
            cpu="x86-64-v3",
            features=("avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"),
            cpuinfo=("avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"),
            vector_bits=256,
            vector_regs=16,
            l1_kib=32,
            l2_kib=256,
        ),
        Target(
            name="x86-64-v4",
            inherits="x86-64-v3",
            cpu="x86-64-v4",
            # LLVM tunes this level for 256-bit vectors; our kernels are written for 512.
            features=("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "-prefer-256-bit"),
            cpuinfo=("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"),
            vector_bits=512,
            vector_regs=32,
            l1_kib=32,
            l2_kib=1024,
        ),
        Target(
            name="sapphirerapids",
            inherits="x86-64-v4",
            cpu="sapphirerapids",
            features=(
                *("avx512vnni", "avx512vbmi2", "avx512bf16", "avx512fp16"),
                *("amx-tile", "amx-int8", "amx-bf16"),
            ),
            cpuinfo=(
                *("avx512_vnni", "avx512_vbmi2", "avx512_bf16", "avx512_fp16"),
                *("amx_tile", "amx_int8", "amx_bf16"),
            ),
            vector_bits=512,
            vector_regs=32,
            l1_kib=48,
            l2_kib=2048,
        ),
        Target(
            name="neoverse-n1",
            inherits=None,
            cpu="neoverse-n1",
            features=("neon", "fp-armv8", "fullfp16", "dotprod"),
            cpuinfo=("asimd", "fphp", "asimddp"),
            vector_bits=128,
            vector_regs=32,
            l1_kib=64,
            l2_kib=1024,
            triple="aarch64-unknown-linux-gnu",
        ),
        # GPUs: one thread computes single elements; caches are those of a multiprocessor and its
        # share of the common one.
        Target(
            name="sm_80",
            inherits=None,
            cpu="sm_80",
            features=("ptx80",),
            cpuinfo=(),
            vector_bits=32,
            vector_regs=255,
            l1_kib=164,
            l2_kib=370,
            triple=GPU,
        ),
        Target(
            name="sm_90a",
            inherits="sm_80",
            cpu="sm_90a",
            features=("ptx83",),
            cpuinfo=(),
            vector_bits=32,
            vector_regs=255,
            l1_kib=227,
            l2_kib=380,
            triple=GPU,
        ),
    )
}


def lookup(name: str) -> Target:
    """The row called ``name``. Raises UnknownTargetError."""
    try:
        return TARGETS[name]
    except KeyError:
        raise UnknownTargetError(name) from None


def parse(text: str) -> tuple[Target, ...]:
    """``"x86-64-v3,x86-64-v4"`` to rows, in the order given, each once.

    ``native`` stands for the best row this machine can run. Raises UnknownTargetError.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UnknownTargetError(text.strip())
    rows = [detect() if name == "native" else lookup(name) for name in names]
    return tuple(dict.fromkeys(rows))


@cache
def cpu_flags() -> frozenset[str]:
    """CPU flags of this machine as /proc/cpuinfo names them (empty where there is none)."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return frozenset()
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def runs_here(target: Target) -> bool:
    """Whether this machine can execute code of ``target``."""
    return target.triple.split("-")[0] == platform.machine() and cpu_flags().issuperset(
        target.required_flags
    )


def detect() -> Target:
    """The largest row that this machine can run.

    Raises UnknownTargetError on a machine that cannot run even the smallest one.
    """
    fitting = [row for row in TARGETS.values() if runs_here(row)]
    if not fitting:
        raise UnknownTargetError(f"native ({platform.machine()})")
    return max(fitting, key=lambda row: len(row.chain))


def resolve_targets(names: Sequence[str]) -> list[Target]:
    """The rows of `names`, each once; `native` is the best one that this machine can run.

    Raises UserError for what no row is called.
    """
    found: list[Target] = []
    for name in names:
        try:
            found.extend([detect()] if name == "native" else parse(name))
        except UnknownTargetError as error:
            if name == "native":
                raise
            raise UserError(f"--target {name}", str(error)) from None
    return list(dict.fromkeys(found))


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # The asm parser exists for the native architecture only; inline asm elsewhere stays text.
    llvm.initialize_native_asmparser()


def target_machine(target: Target) -> llvm.TargetMachine:
    """An LLVM target machine for ``target``: position-independent, small code model, -O3.

    llvmlite's default code model is the *large* one (GOTPC64 relocations), so it is always named.
    """
    _initialize()
    features = ",".join(f if f[0] == "-" else f"+{f}" for f in target.all_features)
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )
