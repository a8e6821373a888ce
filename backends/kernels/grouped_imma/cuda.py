"""CUDA C++ of the matmul of integer weights by rows in 8-bit codes."""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.fewrows import ELEMENTS, ROWS, SHARED, launch, problem
from tilewright.backends.cuda.fewshapes import shapes
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.grouped_imma.spec import GroupedImmaSpec
from tilewright.backends.target import Target

THREADS = 256
"""Of a block that makes codes of a row."""


def kernel(spec: GroupedImmaSpec, target: Target, name: str) -> CudaKernel:
    """Codes of rows, then the function for their number."""
    w, overlaps = spec.weights, target.cpu.startswith("sm_90")
    operands, dims = 3 + len(spec.epilogue.extras), 3 + spec.epilogue.stride_count
    begin = (
        gather(spec.epilogue, 2, 3) + "  Problem p;\n"
        f"  p.a = (const {ELEMENTS[spec.a]} *)a0, p.b = (const char *)a1;\n"
        f"  p.c = ({ELEMENTS[spec.c]} *)a{operands - 1}, p.m = p0, p.lda = p1, p.ldc = p2;\n"
        "  p.extras = extras;\n"
    )
    members = f"  static constexpr int block = {spec.block};\n{ROWS}"
    parts = [
        declare(spec.epilogue),
        problem(w, members, spec.a, spec.c).replace("fewrows.cuh", "fewcodes.cuh"),
        signature(f"{name}_rows", operands, dims, threads=THREADS),
        begin,
        f"  few_quantize<{THREADS}>(p, workspace);\n}}\n",
    ]
    entries = [Entry(("p0", "1", "1"), (THREADS, 1, 1), suffix="_rows", overlaps=overlaps)]
    above, made = 0, shapes(w, target, halves=True)
    for shape in made:
        most, suffix = shape.rows(w), f"_{above + 1}"
        sizes = (shape.tiles, shape.across, shape.down, shape.ring, shape.split)
        head = signature(
            name + suffix, operands, dims, threads=shape.threads, blocks=shape.resident
        )
        body = f"  few_codes<{', '.join(map(str, sizes))}>(p, (tw_i64)blockIdx.y * {most}, "
        parts += [head, begin, SHARED, body, "workspace, shared);\n}\n"]
        chosen = when(f"p0 - {above}")
        chosen += "" if shape is made[-1] else f" * {when(f'{most + 1} - p0')}"
        entries.append(launch(shape, w, chosen, "p0", suffix, target))
        above = most
    return CudaKernel("".join(parts), tuple(entries), f"p0 * {w.steps * (w.step + 8)}")
