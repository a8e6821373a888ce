"""8-bit convolution of f32 pixels, channels last, spatial rank 1 to 3: filters s8 with a scale an
output channel, pixels by one step and zero point for the whole of X.

Packed filters are the panels of int8_scaled_matmul with K = taps x C in f32_conv's order, and 64
bytes behind them: f32 1 / step, zero, step, -zero * step. A block of output pixels:

    X f32 --once--> codes of the lines    --taps side by side--> block of A --> int8_scaled_gemm
    or bf16         that the taps meet      (64 channels: one                    sums, then
                    s8, in scratch           line of a tile)                     epilogue

Since the step is that of the tensor, a pixel has one code for all taps; by rows of A, as the
formats of products read them, it would have one for each. Pads have the code of zero. Where C is
no multiple of 64, words of four codes are gathered by f32_conv first. Groups are left out: their
products are too thin for panels, and depthwise ones are bound by reading X in f32.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.int8_scaled_conv import (
    cases,
    cost,
    llvm,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.int8_scaled_conv.spec import Int8ScaledConvSpec

FAMILY = KernelFamily(
    name="int8_scaled_conv",
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
    variants=spec.variants,
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.weight_format,
    shaped=cases.odd,
    stored=spec.stored,
)

__all__ = ["FAMILY", "Int8ScaledConvSpec"]
