"""8-bit convolution with constant filters, channels last, spatial rank 1 to 3; sums exact in i32.

The gathered rows of f32_conv, four channels moved as one word, copied into the blocks of
int8_matmul and multiplied as there: [groups] in front of its packed B, with K = taps x C/groups in
f32_conv's order. Positions outside X count as 0; where a zero point shall stand for them the caller
pads. The channels of a group are a multiple of 4, so depthwise convolutions are not this family's.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.int8_conv import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.int8_conv.spec import Int8ConvSpec, IntegerConvTask

FAMILY = KernelFamily(
    name="int8_conv",
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
)

__all__ = ["FAMILY", "Int8ConvSpec", "IntegerConvTask"]
