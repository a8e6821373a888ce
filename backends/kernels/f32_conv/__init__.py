"""f32 convolution with constant weights, channels last, spatial rank 1 to 3.

Packed weights, [groups][ceil(OCg/32)][taps x Cg][32], taps in row-major order (KD, KH, KW) with
channels inside; digits are the order in memory for Cg = 2, 1x2 filter, OCg = 32:

    tap 0, c 0    0   1 ...  31        the rows of the matmul family's panels; a row of the
    tap 0, c 1   32  33 ...  63        gathered input has the same order: KW*C contiguous
    tap 1, c 0   64  65 ...  95        floats of the image for each (kd, kh)
    tap 1, c 1   96  97 ... 127

Depthwise (groups = C = OC): [ceil(C/32)][taps][32].

Measured by tools/bench_kernels.py on one core of a Sapphire Rapids virtual machine: GFLOP/s, and
percent of a register FMA loop timed right after (about 194; AVX2 110):
  3x3       56x56x64 155 (81 %), 28x28x128 165 (86 %), 14x14x256 171 (91 %), 7x7x512 158 (84 %)
  others    7x7 stride 2 of 224x224x3 138 (71 %), 1x1 56x56x64-256 154 (82 %)
  depthwise 3x3 112x112x32 49, 14x14x576 46
"""

from tilewright.backends.kernels.f32_conv import cases, cost, llvm, odd, packing, reference, spec
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f32_conv",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    candidates=spec.candidates,
    variants=spec.variants,
    layout=spec.layout,
    shaped=odd.shaped,
)

__all__ = ["FAMILY", "ConvSpec"]
