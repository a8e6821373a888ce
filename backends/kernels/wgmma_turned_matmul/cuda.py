"""The kernel's text for a spec, and how it is launched."""

from __future__ import annotations

from tilewright.backends.cuda import epilogue as epilogues
from tilewright.backends.cuda import neighbours, wgmma
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.wgmma_matmul import around, within, writing
from tilewright.backends.kernels.wgmma_matmul import cuda as plain
from tilewright.backends.kernels.wgmma_matmul import template as dense
from tilewright.backends.kernels.wgmma_matmul.spec import DEPTH, SHARED
from tilewright.backends.kernels.wgmma_turned_matmul import template
from tilewright.backends.kernels.wgmma_turned_matmul.spec import WgmmaTurnedMatmulSpec
from tilewright.backends.target import Target


def emit(spec: WgmmaTurnedMatmulSpec, target: Target, name: str) -> CudaKernel:
    """Entries: conversion of A, then the product (over A itself or the converted one).

    Raises ValueError for a target without wgmma, and for a tile that does not fit."""
    if not plain.supports(target):
        raise ValueError(f"{target.name} has no wgmma")
    if spec.tile.shared > SHARED:
        raise ValueError(f"{spec.tile} takes {spec.tile.shared} of {SHARED} bytes")
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
    workspace = f"{away} * {plain.round_bytes(spec.product)}"
    return CudaKernel(_text(spec, name), tuple(entries), workspace)


def _product(spec: WgmmaTurnedMatmulSpec, when: str, converted: bool) -> Entry:
    """The product, launched where ``when`` is 1."""
    product, tile = spec.product, spec.tile
    row = str(2 * product.row)
    weights = TensorMap(
        1, product.element, (str(product.k), str(product.n)), (row,), (DEPTH, tile.columns)
    )
    rows = TensorMap(
        WORKSPACE if converted else 0,
        product.element,
        (str(product.k), "p0"),
        (row if converted else "2 * p1",),
        (DEPTH, tile.rows),
    )
    return Entry(
        (f"{when} * units * {tile.split}", "1", "1"),
        (tile.threads, 1, 1),
        str(tile.shared),
        cluster=(tile.split, 1, 1),
        maps=(weights, rows),
        overlaps=True,
    )


def _constants(spec: WgmmaTurnedMatmulSpec) -> str:
    product, tile = spec.product, spec.tile
    each = tile.columns // tile.groups
    constants = {
        "N": product.n,
        "K": product.k,
        "KP": product.row,
        "STEPS": product.steps,
        "BM": tile.columns,
        "BN": tile.rows,
        "BK": DEPTH,
        "WM": each,
        "MT": each // 64,
        "STAGES": tile.stages,
        "GROUPS": tile.groups,
        "CLUSTER": 1,
        "TURNS": 0,
        "SPLIT": tile.split,
        "PLANES": 1,
        "SUMS_BYTES": tile.sums,
        "STAGE_BYTES": (tile.rows + tile.columns) * DEPTH * 2,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "ACROSS": spec.across,
        "PITCH": tile.pitch,
    }
    text = "".join(f"constexpr int {key} = {value};\n" for key, value in constants.items())
    return text + "constexpr bool TOGETHER = true;\n"


def _text(spec: WgmmaTurnedMatmulSpec, name: str) -> str:
    product, tile, epilogue = spec.product, spec.tile, spec.product.epilogue
    operands = 3 + len(epilogue.extras)
    dims = 3 + epilogue.stride_count
    by_rows = neighbours.reads_matrices(epilogue)
    fast = product.c != "f32"
    body = (
        template.BODY.replace("@EXTRAS@", epilogues.gather(epilogue, 2, 3))
        .replace("@MULTIPLY@", dense.PLAIN)
        .replace("@AHEAD@", template.AHEAD if by_rows else "")
        .replace("@WRITE@", within.WRITE_NEAR if by_rows else within.WRITE)
        .replace("@C@", f"a{operands - 1}")
    )
    return "".join(
        (
            '#include "hopper.cuh"\n\n',
            _constants(spec),
            wgmma.multiply(tile.rows, product.element),
            epilogues.declare(epilogue, fast=fast),
            neighbours.declare(epilogue, fast) if by_rows else "",
            writing.STORES[product.c],
            dense.PUT,
            dense.RELEASE,
            dense.BRING,
            signature(name, operands, dims, maps=2, threads=tile.threads),
            body,
            plain.conversion(product, name, operands, dims, around.FETCH),
        )
    )
