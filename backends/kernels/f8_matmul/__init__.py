"""Matmul with weights of 8-bit floats: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]).

B is s f with f of e4m3 or e5m2 and a scale s (f32) for each column: compiler.formats.float8.

Packed B, bytes, for every CPU target alike: panels of 32 columns one after the other, each step of
32 k as bf16_matmul orders its elements; K is filled up to steps, N to panels, with zeros. Then the
scales, 32 for each panel.

    step 0: pair 0 (k = 0, 1):   f[0, n], f[1, n] of columns n = 0..31
            ...
            pair 15 (k = 30, 31)
    step 1: k = 32..63 ...

A panel is brought to bf16 (f32 without AVX512-BF16, and where A is read as it is) in scratch and
multiplied there; the scales come with the epilogue, so that nothing of B is rounded. One shift
makes an f16 of a code, with which the CPU's own conversion goes on: subnormal numbers cost nothing.
"""

from tilewright.backends.kernels.f8_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec, F8MatmulTask
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f8_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "F8MatmulSpec", "F8MatmulTask"]
