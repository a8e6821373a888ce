"""8-bit convolution with constant filters, channels last, spatial rank 1 to 3; sums exact in i32.

The gathered rows of f32_conv, four channels moved as one word, copied into the blocks of
int8_matmul and multiplied as there: [groups] in front of its packed B, with K = taps x C/groups in
f32_conv's order. Positions outside X count as 0, or as the zero point that a launch is given.
Groups whose channels are no multiple of 4 (depthwise: one) are taken together, up to 32
outputs, as one matrix that is zero where a filter does not see a channel.

Measured on one core of a Sapphire Rapids virtual machine, u8 x s8 requantized to u8, GOP/s and
times of f32_conv and bf16_conv over its own, interleaved: 56x56x64-64 k3 976 (6.6, 2.5),
28x28x128-128 k3 1216 (7.7, 2.4), 14x14x256-256 k3 1065 (6.7, 2.2), 7x7x512-512 k3 756 (4.8, 2.6),
56x56x64-256 k1 464 (3.7, 2.8), 28x28x512-1024 k1 s2 1383 (8.5, 2.3), 224x224x4-64 k7 s2 556
(4.2, 1.9). A third of the tile loop where rows are gathered: they are written twice, once as rows
and once as tiles.
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
    shaped=cases.odd,
    layout=spec.layout,
)

__all__ = ["FAMILY", "Int8ConvSpec", "IntegerConvTask"]
