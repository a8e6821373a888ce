"""Rows of key-value caches: f32 rows of a head become codes and a scale, as `formats.caches` says.

    int8   64 elements: 64 bytes, s8                        | f32 scale elsewhere
    int4   64 elements: 32 bytes, 0|32 1|33 ... 31|63       | f32 scale elsewhere
           (low | high nibble), after a Hadamard rotation of the row

On GPUs a warp has a row (`cuda`).

Results lie through strides, so that a new row goes straight to its place in a cache. Codes and
scales are bit for bit those of the reference.
"""

from tilewright.backends.kernels.encoded_rows import cases, cost, cuda, llvm, reference, spec
from tilewright.backends.kernels.encoded_rows.spec import EncodedRowsSpec, EncodedRowsTask
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="encoded_rows",
    op="encode_rows",
    emit=llvm.emit,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "EncodedRowsSpec", "EncodedRowsTask"]
