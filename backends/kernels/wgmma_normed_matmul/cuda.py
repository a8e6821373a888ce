"""The kernel's text for a spec, and how it is launched."""

from __future__ import annotations

from tilewright.backends.cuda import epilogue as epilogues
from tilewright.backends.cuda import neighbours, wgmma
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.wgmma_matmul import around, writing
from tilewright.backends.kernels.wgmma_matmul import cuda as plain
from tilewright.backends.kernels.wgmma_matmul import template as dense
from tilewright.backends.kernels.wgmma_matmul.spec import DEPTH, SHARED
from tilewright.backends.kernels.wgmma_normed_matmul import apart, template
from tilewright.backends.kernels.wgmma_normed_matmul.spec import WgmmaNormedMatmulSpec
from tilewright.backends.target import Target


def emit(spec: WgmmaNormedMatmulSpec, target: Target, name: str) -> CudaKernel:
    """Entries: conversion of A, then the product (over A itself or the converted one).

    Raises ValueError for a target without wgmma, and for a tile that does not fit."""
    if not plain.supports(target):
        raise ValueError(f"{target.name} has no wgmma")
    if spec.tile is None:
        return apart.emit(spec, target, name)
    if spec.shared > SHARED:
        raise ValueError(f"{spec.tile} takes {spec.shared} of {SHARED} bytes of shared memory")
    away = plain.converted(spec.product)
    entries = []
    if away != "0":
        elements = f"p0 * {spec.product.row // 8}"
        grid = f"{away} * min(ceildiv({elements}, {plain.THREADS}), sms * 8)"
        block = (plain.THREADS, 1, 1)
        entries.append(Entry((grid, "1", "1"), block, suffix="_convert", overlaps=True))
        entries.append(_product(spec, away, True))
    if away != "1":
        entries.append(_product(spec, f"(1 - {away})", False))
    return CudaKernel(
        _text(spec, name), tuple(entries), f"{away} * {plain.round_bytes(spec.product)}"
    )


def _product(spec: WgmmaNormedMatmulSpec, when: str, converted: bool) -> Entry:
    """The product, launched where ``when`` is 1."""
    product, tile = spec.product, spec.tile
    assert tile is not None
    split = product.planes > 1
    plane, one = ((str(product.planes),), (1,)) if split else ((), ())
    row = 2 * product.row
    rows = TensorMap(
        WORKSPACE if converted else 0,
        product.element,
        (str(product.k), "p0", *plane),
        (str(row) if converted else "2 * p1", *(f"{row} * p0" for _ in plane)),
        (DEPTH, tile.rows, *one),
    )
    weights = TensorMap(
        1,
        product.element,
        (str(product.k), str(product.n), *plane),
        (str(row), *(str(row * product.n) for _ in plane)),
        (DEPTH, tile.columns, *one),
    )
    return Entry(
        (f"{when} * units * {spec.blocks}", "1", "1"),
        (tile.threads, 1, 1),
        str(spec.shared),
        cluster=(spec.blocks, 1, 1),
        maps=(weights, rows) if tile.turned else (rows, weights),
        overlaps=True,
    )


def _constants(spec: WgmmaNormedMatmulSpec) -> str:
    product, tile = spec.product, spec.tile
    assert tile is not None
    each = tile.left // tile.groups
    constants = {
        "N": product.n,
        "K": product.k,
        "KP": product.row,
        "STEPS": product.steps,
        "BM": tile.left,
        "BN": tile.right,
        "BK": DEPTH,
        "WM": each,
        "MT": each // 64,
        "STAGES": tile.stages,
        "GROUPS": tile.groups,
        "CLUSTER": 1,
        "TURNS": 0,
        "SPLIT": tile.split,
        "PLANES": product.planes,
        "PRODUCTS": product.products,
        "SUMS_BYTES": tile.sums(product.planes),
        "STAGE_BYTES": product.planes * (tile.rows + tile.columns) * DEPTH * 2,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "ACROSS": spec.across,
        "PITCH": tile.pitch,
        "MINE": tile.rows // tile.split,
        "ROW_EXTRAS": len(spec.row_extras),
    }
    norm = spec.norm
    flags = {
        "TOGETHER": True,
        "CENTRED": norm.kind == "layer",
        "SCALED": norm.scale,
        "SHIFTED": norm.bias,
    }
    text = "".join(f"constexpr int {key} = {value};\n" for key, value in constants.items())
    text += "".join(f"constexpr bool {k} = {str(v).lower()};\n" for k, v in flags.items())
    text += f"#define EPSILON {epilogues.literal(norm.eps)}\n"
    return text + plain.planes_of_products(product)


def _nearby(spec: WgmmaNormedMatmulSpec, first: int) -> tuple[str, str]:
    """Text that copies vectors to shared memory, and that has the epilogue read them there;
    ``first``: operand of those of the norm."""
    sources = [f"a{2 + i}" for i in spec.row_extras]
    sources += [f"a{first + i}" for i in range(spec.norm.arguments)]
    copied = [
        f"      vectors[{at} * COLUMNS + i] = ((const float *){source})[c];"
        for at, source in enumerate(sources)
    ]
    moved = [
        f"    extras.x{i} = vectors + ({at} - (int)n) * COLUMNS;"
        for at, i in enumerate(spec.row_extras)
    ]
    return "\n".join(copied), "\n".join(moved)


def _text(spec: WgmmaNormedMatmulSpec, name: str) -> str:
    product, tile, epilogue = spec.product, spec.tile, spec.product.epilogue
    assert tile is not None
    vectors = 2 + len(epilogue.extras)
    last = vectors + spec.norm.arguments
    operands = last + 1
    dims = 3 + epilogue.stride_count
    by_rows = len(neighbours.near(epilogue)) == 1
    brought = ("bring_a(at, &m0, full, k, {})", "bring_b(at, &m1, full, k, {}, 0)")
    copied, moved = _nearby(spec, vectors)
    weights, rows = brought if tile.turned else brought[::-1]
    body = (
        template.BODY.replace("@GATHER@", template.GATHER)
        .replace("@EXTRAS@", epilogues.gather(epilogue, 2, 3))
        .replace("@WEIGHTS@", weights.format("n"))
        .replace("@ROWS@", rows.format("m"))
        .replace("@MULTIPLY@", dense.PLAIN if product.products == 1 else dense.SPLIT_PRODUCTS)
        .replace("@LAY@", template.LAY_TURNED if tile.turned else template.LAY)
        .replace("@AHEAD@", template.AHEAD if by_rows else "")
        .replace("@NEXT@", template.NEXT if by_rows else "")
        .replace("@FINISH@", template.FINISH_NEAR if by_rows else template.FINISH)
        .replace("@COPY@", copied)
        .replace("@MOVED@", moved)
        .replace("@NEAR@", "near && " if by_rows else "")
        .replace("@NARROW@", "sizeof(Near) <= 8" if by_rows else "false")
        .replace("@C@", f"a{last}")
    )
    fast = product.c != "f32"
    return "".join(
        (
            '#include "hopper.cuh"\n\n',
            _constants(spec),
            wgmma.multiply(tile.right, product.element),
            epilogues.declare(epilogue, fast=fast),
            neighbours.declare(epilogue, fast) if by_rows else "",
            writing.STORES[product.c],
            template.FINISHED,
            template.TEAM,
            dense.RELEASE,
            dense.BRING,
            signature(name, operands, dims, maps=2, threads=tile.threads),
            body,
            plain.conversion(product, name, operands, dims, around.FETCH),
        )
    )
