"""bf16 convolution with constant weights, channels last, spatial rank 1 to 3.

The gathered rows of f32_conv, converted to bf16 a block at a time and multiplied as in
bf16_matmul: [groups] in front of its packed B, with K = taps x C/groups in f32_conv's order.
Depthwise convolutions have no matrix product to speed up and stay with f32_conv.
"""

from tilewright.backends.kernels.bf16_conv import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_conv",
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
)

__all__ = ["FAMILY", "Bf16ConvSpec"]
