"""The kernel's text for a spec, and how it is launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.backends.cuda import epilogue as epilogues
from tilewright.backends.cuda import neighbours, wgmma
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.wgmma_matmul import around, staged, template, within, writing
from tilewright.backends.kernels.wgmma_matmul.reference import PAIRS
from tilewright.backends.kernels.wgmma_matmul.spec import DEPTH, PAD, SHARED, WgmmaMatmulSpec
from tilewright.backends.target import Target

THREADS = around.THREADS


def supports(target: Target) -> bool:
    """wgmma is only there on Hopper itself."""
    return target.name == "sm_90a"


@dataclass(frozen=True)
class Ending:
    """The function that makes results of parts of K: its text with the marks of `around.REDUCE`,
    and what stands before it; ``operands`` that it has before C beside the product's."""

    suffix: str
    text: str
    grid: str
    threads: int = THREADS
    shared: str = "0"
    operands: int = 0
    before: str = ""


def emit(
    spec: WgmmaMatmulSpec,
    target: Target,
    name: str,
    fetch: str | None = None,
    ending: Ending | None = None,
) -> CudaKernel:
    """Entries: conversion of A, the product (over A itself or the converted one), sums of parts.
    ``fetch``: text in place of `around.FETCH`; A is then always made by it. ``ending``: what takes
    the place of sums of parts.

    Raises ValueError for a target without wgmma, and for a tile that does not fit."""
    if not supports(target):
        raise ValueError(f"{target.name} has no wgmma")
    tile = spec.tile
    shared = tile.shared(spec.planes)
    if shared > SHARED:
        raise ValueError(f"{tile} takes {shared} of {SHARED} bytes of shared memory")
    if ending is None:
        count = f"p0 * {-(-spec.n // 4)}"
        ending = Ending("_reduce", around.REDUCE, f"min(ceildiv({count}, {THREADS}), sms * 8)")
    operands = 3 + len(spec.epilogue.extras) + ending.operands
    dims = 3 + spec.epilogue.stride_count
    away = "1" if fetch else converted(spec)
    blocks = "units" if tile.within else f"min(units, sms // {tile.cluster}) * {tile.cluster}"
    product = _Product(spec, str(shared), blocks)
    entries = []
    if away != "0":
        elements = f"p0 * {spec.row // 8}"
        grid = f"{away} * min(ceildiv({elements}, {THREADS}), sms * 8)"
        entries.append(_entry(grid, "_convert"))
        entries += product.entries(away, converted=True)
    if away != "1":
        entries += product.entries(f"(1 - {away})", converted=False)
    workspace = f"{away} * {round_bytes(spec)}"
    if tile.split > 1 and not tile.within:
        entries.append(
            Entry(
                (ending.grid, "1", "1"),
                (ending.threads, 1, 1),
                ending.shared,
                suffix=ending.suffix,
                overlaps=True,
            )
        )
        workspace = f"{round_bytes(spec)} + {4 * tile.split * spec.n} * p0"
    text = _text(spec, name, operands, dims, fetch or around.FETCH, ending)
    return CudaKernel(text, tuple(entries), workspace)


def _by_rows(spec: WgmmaMatmulSpec) -> bool:
    """Whether the epilogue is computed where rows are written."""
    partial = spec.tile.split > 1 and not spec.tile.within
    return not partial and neighbours.reads_matrices(spec.epilogue)


def _in_rows(spec: WgmmaMatmulSpec) -> bool:
    """Whether what is read of matrices has no room in the ring."""
    return _by_rows(spec) and not staged.staged(spec).matrices


def _writing(spec: WgmmaMatmulSpec) -> tuple[str, str]:
    """Text before a tile is multiplied, and behind."""
    if spec.tile.within:
        return (within.AHEAD, within.WRITE_NEAR) if _by_rows(spec) else ("", within.WRITE)
    if _in_rows(spec):
        return writing.ROWS_AHEAD, writing.ROWS
    return staged.ahead(spec), staged.write(spec)


def _piece(spec: WgmmaMatmulSpec, partial: bool) -> str:
    """How a warp writes sums: as they are, or results."""
    piece = writing.PIECE.replace("@ELEMENT@", spec.element if spec.c == "f32" else spec.c)
    if _in_rows(spec):
        return "typedef float Piece;\n" + piece
    head = f"typedef {'float' if partial else 'Out'} Piece;\n"
    return head + piece + staged.functions(spec, partial)


def _entry(grid: str, suffix: str) -> Entry:
    return Entry((grid, "1", "1"), (THREADS, 1, 1), suffix=suffix, overlaps=True)


class _Product:
    """The entries of the product itself, which differ in where A is."""

    def __init__(self, spec: WgmmaMatmulSpec, shared: str, blocks: str) -> None:
        self.spec, self.shared, self.blocks = spec, shared, blocks

    def entries(self, when: str, converted: bool) -> list[Entry]:
        """Launched where ``when`` is 1, one of them: matrices that cannot be brought need no maps
        of their own."""
        more = staged.maps(self.spec)
        if not more:
            return [self._entry(when, converted)]
        apart = staged.unaligned(self.spec)
        return [
            self._entry(f"{when} * (1 - {apart})", converted, more),
            self._entry(f"{when} * {apart}", converted, (None,) * len(more)),
        ]

    def _entry(self, when: str, converted: bool, more: Sequence[TensorMap | None] = ()) -> Entry:
        spec, tile = self.spec, self.spec.tile
        plane = (str(spec.planes),) if spec.planes > 1 else ()
        one = (1,) if spec.planes > 1 else ()
        row = 2 * spec.row
        lda = str(row) if converted else "2 * p1"
        a = TensorMap(
            WORKSPACE if converted else 0,
            spec.element,
            (str(spec.k), "p0", *plane),
            (lda, *(f"{row} * p0" for _ in plane)),
            (DEPTH, tile.rows, *one),
        )
        b = TensorMap(
            1,
            spec.element,
            (str(spec.k), str(spec.n), *plane),
            (str(row), *(str(row * spec.n) for _ in plane)),
            (DEPTH, tile.columns // tile.cluster, *one),
        )
        grid = self.blocks if when == "1" else f"{when} * {self.blocks}"
        return Entry(
            (grid, "1", "1"),
            (tile.threads, 1, 1),
            self.shared,
            cluster=(tile.blocks, 1, 1),
            maps=(a, b, *(x or a for x in more)),
            overlaps=True,
        )


def converted(spec: WgmmaMatmulSpec) -> str:
    """As `around.converted`; operands that are split always are."""
    return "1" if spec.products > 1 else around.converted(spec.a, spec.element)


def round_bytes(spec: WgmmaMatmulSpec) -> str:
    """As `around.round_bytes`."""
    return around.round_bytes(spec.row, spec.planes)


def _text(
    spec: WgmmaMatmulSpec, name: str, operands: int, dims: int, fetch: str, ending: Ending
) -> str:
    tile = spec.tile
    c = f"a{operands - 1}"
    each = tile.rows // tile.groups if tile.together else tile.rows
    constants = {
        "N": spec.n,
        "K": spec.k,
        "KP": spec.row,
        "STEPS": spec.steps,
        "BM": tile.rows,
        "BN": tile.columns,
        "BK": DEPTH,
        "WM": each,
        "MT": each // 64,
        "STAGES": tile.stages,
        "GROUPS": tile.groups,
        "CLUSTER": tile.cluster,
        "SPLIT": tile.split,
        "PLANES": spec.planes,
        "PRODUCTS": spec.products,
        "TURNS": 192,
        "PAD": PAD,
        "SUMS_BYTES": max(
            tile.stages * spec.planes * (tile.rows + tile.columns) * DEPTH * 2,
            tile.rows * (tile.columns + PAD) * 4,
        ),
        "STAGE_BYTES": spec.planes * (tile.rows + tile.columns) * DEPTH * 2,
    }
    head = "".join(f"constexpr int {key} = {value};\n" for key, value in constants.items())
    head += f"constexpr u32 RASTER = {tile.raster}, ACROSS = {spec.across};\n"
    head += f"constexpr bool TOGETHER = {str(tile.together).lower()};\n"
    head += planes_of_products(spec)
    parts_at = f"((p0 * {2 * spec.planes * spec.row} + 255) / 256 * 256)"
    gather = epilogues.gather(spec.epilogue, 2, 3)
    partial = tile.split > 1 and not tile.within
    ahead, write = _writing(spec)
    maps = 2 + len(staged.maps(spec))
    vector = next((f"a{2 + i}" for i in staged.vectors(spec)), "")
    body = (
        (within.WITHIN if tile.within else template.FRAME)
        .replace("@BROUGHT@", staged.brought(spec))
        .replace("@BRING@", staged.bring(spec))
        .replace("@SKIPPED@", staged.skipped(spec))
        .replace("@EXTRAS@", "" if partial else gather)
        .replace("@AHEAD@", ahead)
        .replace("@EARLY@", within.EARLY.replace("@VECTOR@", vector) if vector else "")
        .replace("@LATE@", within.LATE if vector else "")
        .replace("@WRITE@", write)
        .replace(
            "@MULTIPLY@", template.PLAIN_FRAME if spec.products == 1 else template.SPLIT_PRODUCTS
        )
        .replace("@TURN@", "" if tile.together else staged.arrived(spec))
        .replace("@OUT@", template.OUT_PART if partial else template.OUT)
        .replace("@C@", c)
        .replace("PARTS_AT", parts_at)
    )
    text = [
        '#include "hopper.cuh"\n\n',
        head,
        wgmma.multiply(tile.columns, spec.element),
        epilogues.declare(spec.epilogue, fast=spec.c != "f32"),
        neighbours.declare(spec.epilogue, spec.c != "f32") if _by_rows(spec) else "",
        writing.STORES[spec.c],
        template.TILE_OF,
        template.PUT,
        template.RELEASE,
        template.BRING,
        "" if tile.within else _piece(spec, partial),
        signature(name, operands, dims, maps=maps, threads=tile.threads),
        body,
    ]
    text.append(conversion(spec, name, operands, dims, fetch))
    if partial:
        reduce = ending.text.replace("@EXTRAS@", gather).replace("@C@", c)
        text += [
            ending.before,
            signature(f"{name}{ending.suffix}", operands, dims, threads=ending.threads),
            reduce.replace("PARTS_AT", parts_at),
        ]
    return "".join(text)


def planes_of_products(spec: WgmmaMatmulSpec) -> str:
    """Constants that say which planes each of several products multiplies, two bits for each."""
    text = ""
    for side, key in enumerate(("LEFTS", "RIGHTS") if spec.products > 1 else ()):
        bits = sum(pair[side] << 2 * q for q, pair in enumerate(PAIRS[spec.products]))
        text += f"constexpr u32 {key} = {bits};\n"
    return text


def conversion(spec: WgmmaMatmulSpec, name: str, operands: int, dims: int, fetch: str) -> str:
    """As `around.conversion`."""
    return around.conversion(spec.a, spec.element, name, operands, dims, fetch)
