"""Launches of kernel families against guard pages, and the targets whose code differs."""

from __future__ import annotations

import random

import numpy as np
from support.guarded import Guarded

from tilewright.backends.kernels.family import Case, KernelFamily, evaluate
from tilewright.backends.llvm.jit import Library, call
from tilewright.backends.target import TARGETS, Target

# A machine with bf16 dot products and no tiles, as AMD's are since Zen 4.
BF16_ROW = Target(
    name="x86-64-v4-bf16",
    inherits="x86-64-v4",
    cpu="x86-64-v4",
    features=("avx512bf16",),
    cpuinfo=("avx512_bf16",),
    vector_bits=512,
    vector_regs=32,
    l1_kib=32,
    l2_kib=1024,
)
# Machines with dot products of 8-bit integers and no tiles: Ice Lake, Alder Lake.
VNNI_ROW = Target(
    name="x86-64-v4-vnni",
    inherits="x86-64-v4",
    cpu="x86-64-v4",
    features=("avx512vnni",),
    cpuinfo=("avx512_vnni",),
    vector_bits=512,
    vector_regs=32,
    l1_kib=32,
    l2_kib=1024,
)
AVX_VNNI_ROW = Target(
    name="x86-64-v3-vnni",
    inherits="x86-64-v3",
    cpu="x86-64-v3",
    features=("avxvnni",),
    cpuinfo=("avx_vnni",),
    vector_bits=256,
    vector_regs=16,
    l1_kib=32,
    l2_kib=1024,
)
SIGNALLING = np.float32(np.nan)


def rows_of(family: KernelFamily) -> list[Target]:
    """Targets whose code differs: f32 families see nothing in rows above x86-64-v4."""
    if family.emit is None:
        return []
    cpus = [t for t in TARGETS.values() if not t.gpu]
    if family.supports is None:
        return [t for t in cpus if t.name != "sapphirerapids"]
    rows = [*cpus, BF16_ROW]
    if family.name.startswith("int8"):
        rows = [*cpus, VNNI_ROW, AVX_VNNI_ROW]
    if family.name.startswith("grouped"):
        rows += [VNNI_ROW, AVX_VNNI_ROW]
    return [t for t in rows if family.supports(t)]


def check(family: KernelFamily, case: Case, library: Library, name: str, at_end: bool) -> None:
    """Run ``case`` against guard pages and compare with its float64 results; operands lie before
    the guarded end, or after the guarded begin of their page."""
    guard = Guarded()
    args = [guard.place(a, at_end=at_end) for a in case.args]
    results = [guard.place(np.full_like(r, 77), at_end=at_end) for r in case.results]
    size = evaluate(family.scratch_bytes(case.spec), case.dims)
    # Scratch is 64-byte aligned by contract, its end is the guarded one.
    scratch = guard.place(np.full(-(-size // 64) * 16, SIGNALLING, np.float32))
    units = evaluate(family.units(case.spec), case.dims)
    cut = random.Random(case.label).randint(0, units)
    # The last range first: units must not depend on each other.
    ranges = [(cut, units), (0, cut)]
    status = call(library.kernel(name), [*args, *results], case.dims, ranges, scratch)
    assert status == 0
    for got, expected in zip(results, case.expected, strict=True):
        np.testing.assert_allclose(
            got, expected, case.rtol, case.atol, err_msg=f"{case.label} {name}"
        )
