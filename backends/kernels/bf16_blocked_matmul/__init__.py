"""bf16 matmul with a constant matrix whose blocks have factors: formats ``m4r<rank>-bf16``
(Monarch) and ``blast4r<rank>-bf16`` (BLAST).

Packed as blocked_matmul says, each factor as bf16_matmul packs its matrix. A and the middle are
rounded to bf16; sums are f32, and so is s of BLAST. z lies in scratch as f32, the middle as bf16.
"""

from tilewright.backends.kernels.bf16_blocked_matmul import cases, llvm, spec
from tilewright.backends.kernels.bf16_blocked_matmul.spec import Bf16BlockedMatmulSpec
from tilewright.backends.kernels.blocked_matmul import chain, cost, packing, reference
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_blocked_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=chain.units,
    scratch_bytes=chain.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    candidates=spec.candidates,
    layout=chain.layout,
    format=chain.name,
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "Bf16BlockedMatmulSpec"]
