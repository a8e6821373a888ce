"""CUDA C++ of the f32 matmul with constant B."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.backends.cuda import simt, stream
from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.simt_matmul.spec import SimtMatmulSpec
from tilewright.backends.target import Target

FEW, SOME = 4, 16
"""Most rows of the two functions that stream B."""

PROBLEM = """
struct Problem {{
  typedef {element} Element;
  const float *a;
  const Element *b;
  float *c;
  i64 m, lda, ldc;
  Extras extras;
  static constexpr i64 k = {k}, columns = {n}, first = 0;
{methods}}};
"""


def kernel(spec: SimtMatmulSpec, _target: Target, name: str) -> CudaKernel:
    """A function for each range of rows."""
    problem = PROBLEM.format(
        element="unsigned short" if spec.half else "float",
        k=spec.k,
        n=spec.n,
        methods=simt.ROWS_A + simt.PANELS_B + simt.STORE,
    )
    parts = [declare(spec.epilogue), simt.PRODUCT, problem, stream.STREAM]
    entries = []
    for text, entry in (*_streams(spec, name), *_tiles(spec, name)):
        parts.append(text)
        entries.append(entry)
    return CudaKernel("".join(parts), tuple(entries))


def _begin(spec: SimtMatmulSpec, name: str, threads: int) -> str:
    """Signature and the problem ``p``."""
    return (
        signature(name, spec.operands, spec.dims, threads=threads)
        + gather(spec.epilogue, 2, 3)
        + "  Problem p;\n"
        "  p.a = (const float *)a0, p.b = (const Problem::Element *)a1;\n"
        f"  p.c = (float *)a{spec.operands - 1}, p.m = p0, p.lda = p1, p.ldc = p2;\n"
        "  p.extras = extras;\n"
    )


def _streams(spec: SimtMatmulSpec, name: str) -> Iterator[tuple[str, Entry]]:
    """Functions for few rows, which stream B."""
    columns = stream.columns_per_block(spec.n)
    # Rows by the columns of a load are accumulators: 16 by 8 for f16, of which 8 warps have room.
    ranges = (
        ("_few", 0, (1, 2, FEW), 8, 16),
        ("_some", FEW, (8, SOME), 4, 8 if spec.half else 16),
    )
    for suffix, above, rows, loads, warps in ranges:
        sizes = f"{columns}, {warps}, {loads}"
        calls = "".join(
            f"  if (p0 <= {most}) return stream<{most}, {sizes}>(p, n0, sums);\n" for most in rows
        )
        text = (
            _begin(spec, name + suffix, 32 * warps)
            + f"  __shared__ float sums[{warps * rows[-1] * columns}];\n"
            + f"  const i64 n0 = (i64)blockIdx.x * {columns};\n"
            + calls
            + "}\n"
        )
        chosen = f"{when(f'p0 - {above}')} * {when(f'{rows[-1] + 1} - p0')}"
        grid = (f"{chosen} * {stream.blocks(spec.n)}", "1", "1")
        yield text, Entry(grid, (32 * warps, 1, 1), suffix=suffix)


def _tiles(spec: SimtMatmulSpec, name: str) -> Iterator[tuple[str, Entry]]:
    """Functions for more rows, one for each tile."""
    grids = simt.grids("p0", str(spec.n), "1", at_least=str(SOME))
    for tile_name, tile in simt.TILES.items():
        suffix, across = f"_{tile_name}", -(-spec.n // tile.columns)
        text = (
            _begin(spec, name + suffix, tile.threads)
            + "  extern __shared__ __align__(16) char shared[];\n"
            + f"  const i64 m0 = (i64)(blockIdx.x / {across}) * {tile.rows};\n"
            + f"  const i64 n0 = (i64)(blockIdx.x % {across}) * {tile.columns};\n"
            + f"  product<{tile.arguments}>(p, m0, n0, shared);\n"
            + "}\n"
        )
        shared = str(tile.shared(2 if spec.half else 4))
        grid = (grids[tile_name], "1", "1")
        yield text, Entry(grid, (tile.threads, 1, 1), shared=shared, suffix=suffix)
