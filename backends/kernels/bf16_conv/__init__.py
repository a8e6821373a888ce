"""bf16 convolution with constant weights, channels last, spatial rank 1 to 3.

The gathered rows of f32_conv, converted to bf16 a block at a time and multiplied as in
bf16_matmul: [groups] in front of its packed B, with K = taps x C/groups in f32_conv's order.
Depthwise convolutions have no matrix product to speed up and stay with f32_conv.

Measured by tools/bench_kernels.py as in bf16_matmul, one product, bias and ReLU, in times of
f32_conv in the same run: 224x224x3-64 k7 s2 2.3, 56x56x64-64 k3 2.8, 28x28x128-128 k3 3.8,
14x14x256-256 k3 3.8, 7x7x512-512 k3 3.0, 28x28x512-1024 k1 s2 5.3, 56x56x256-64 k1 3.0.
31 to 61 % of the bare tile loop where rows are gathered: gathering as f32 and converting are two
passes over the taps.
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
    candidates=spec.candidates,
    variants=spec.variants,
    layout=spec.layout,
    accuracy=spec.accuracy,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "Bf16ConvSpec"]
