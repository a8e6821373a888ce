"""Attention with bf16 products and f32 sums: softmax(scale Q K^T + mask) V.

Nothing is packed at compile time. Scratch of a thread; K and V of a head stay for all its queries:

    Q        [2 tiles][depth step][plane][16 queries][32]        scaled, times log2 e
    K^T      [32 keys][depth step][plane][16 pairs][32 keys][2]   k0: d0 d1 | k1: d0 d1 | ...
    V        [32 sizes][32 keys][plane][16 pairs][32 sizes][2]    e0: k0 k1 | e1: k0 k1 | ...
    scores   [2 tiles][32 keys][16 queries][32 keys]              f32
    weights  [2 tiles][32 keys][plane][16 queries][32 keys]       bf16, of at most 256 keys
    sums     [32 queries][sizes]                                  f32

Scores lie [query][key]: masks are read as they are stored and added for nothing, since tiles of
sums start from them; weights are the left tiles of the second product as they leave the softmax.
One query alone (decoding) is computed in f32, as f32_attention does it: K and V are not worth
converting. With one product operands and result may lie in bf16; then all queries take tiles.

Measured on one core of a Sapphire Rapids virtual machine, operands in L2: microseconds with 1, 3
and 6 products, f32_attention in the same run
  12 heads  128 x 128, size 32, padding mask   67, 152, 219; 233
                      size 64, no mask        107, 249, 379; 382
            512 x 512, size 64               1592, 2921, 4550; 7452
In MiniLM (6 layers, 128 tokens) attention takes 0.59 ms of 4.2 with one product where f32_attention
takes 1.5. One product, of 12 heads at size 32: softmax 25 us, scores 12, keys, values, queries and
results 5 to 8 each. With 512 keys tiles of 128 are 7 % slower, of 512 as fast (six products: 5 %
faster).
"""

from tilewright.backends.kernels.bf16_attention import cases, cost, llvm, reference, spec
from tilewright.backends.kernels.bf16_attention.spec import Bf16AttentionSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_attention",
    op="attention",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    supports=llvm.supports,
    variants=spec.variants,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    shaped=cases.shaped,
    stored=spec.stored,
)

__all__ = ["FAMILY", "Bf16AttentionSpec"]
