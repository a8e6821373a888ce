"""Convolution with constant filters of f16 numbers, channels last, spatial rank 1 to 3.

Packed filters, f16, [groups][ceil(OCg/32)][taps x Cg][32], taps in row-major order with channels
inside: f32_conv's order in half of the bytes. Digits are the order in memory for Cg = 2, a 1x2
filter and OCg = 32:

    tap 0, c 0    0   1 ...  31
    tap 0, c 1   32  33 ...  63
    tap 1, c 0   64  65 ...  95
    tap 1, c 1   96  97 ... 127

The gathered rows of f32_conv are multiplied as in f16_matmul: filters are widened as they are
loaded, or, with ``chain`` on AVX512-FP16, rows are rounded to f16 and sums of so many products are
f16. Depthwise convolutions have no product to share a filter and stay with f32_conv, which takes
f16 numbers like others.

Measured on one core of a Sapphire Rapids virtual machine, interleaved, in times of f32_conv's:
                       chain 0   16     32    bf16_conv, 3 products
  224x224x3-64 k7 s2      1.13  0.97   0.83   0.71
  56x56x64-64 k3          1.11  0.84   0.73   0.64
  28x28x128-128 k3        1.12  0.81   0.70   0.51
  14x14x256-256 k3        1.16  0.84   0.74   0.63
  7x7x512-512 k3          1.19  0.87   0.75   0.87
  28x28x512-1024 k1 s2    1.20  0.92   0.77   0.58
So f16 filters save memory, f16 sums save time where there are no tiles, and chains of 32, whose
error is 8.7e-4, are not offered.
"""

from tilewright.backends.kernels.f16_conv import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec, HalfConvTask
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f16_conv",
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

__all__ = ["FAMILY", "F16ConvSpec", "HalfConvTask"]
