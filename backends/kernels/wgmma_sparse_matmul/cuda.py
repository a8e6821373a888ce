"""The kernel's text for a spec, and how it is launched."""

from __future__ import annotations

from tilewright.backends.cuda import epilogue as epilogues
from tilewright.backends.cuda import wgmma
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry, TensorMap
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.wgmma_matmul import around, writing
from tilewright.backends.kernels.wgmma_matmul import template as dense
from tilewright.backends.kernels.wgmma_sparse_matmul import template
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import (
    DEPTH,
    PITCH,
    PLACES,
    SHARED,
    WgmmaSparseMatmulSpec,
)
from tilewright.backends.target import Target

THREADS = around.THREADS


def supports(target: Target) -> bool:
    """wgmma is only there on Hopper itself."""
    return target.name == "sm_90a"


def emit(spec: WgmmaSparseMatmulSpec, target: Target, name: str) -> CudaKernel:
    """Entries: conversion of A, the product (over A itself or the converted one), sums of parts.

    Raises ValueError for a target without wgmma, and for a tile that does not fit."""
    if not supports(target):
        raise ValueError(f"{target.name} has no wgmma")
    tile = spec.tile
    if tile.shared > SHARED:
        raise ValueError(f"{tile} takes {tile.shared} of {SHARED} bytes of shared memory")
    away = around.converted(spec.a, spec.element)
    entries = []
    if away != "0":
        elements = f"p0 * {spec.row // 8}"
        grid = f"{away} * min(ceildiv({elements}, {THREADS}), sms * 8)"
        entries.append(_around(grid, "_convert"))
        entries.append(_product(spec, away, converted=True))
    if away != "1":
        entries.append(_product(spec, f"(1 - {away})", converted=False))
    workspace = f"{away} * {around.round_bytes(spec.row)}"
    if tile.split > 1:
        count = f"p0 * {-(-spec.n // 4)}"
        entries.append(_around(f"min(ceildiv({count}, {THREADS}), sms * 8)", "_reduce"))
        workspace = f"{around.round_bytes(spec.row)} + {4 * tile.split * spec.n} * p0"
    return CudaKernel(_text(spec, name), tuple(entries), workspace)


def _around(grid: str, suffix: str) -> Entry:
    return Entry((grid, "1", "1"), (THREADS, 1, 1), suffix=suffix, overlaps=True)


def _product(spec: WgmmaSparseMatmulSpec, when: str, converted: bool) -> Entry:
    """The product where ``when`` is 1, over A itself or the converted one."""
    tile = spec.tile
    a = TensorMap(
        WORKSPACE if converted else 0,
        spec.element,
        (str(spec.k), "p0"),
        (str(2 * spec.row) if converted else "2 * p1",),
        (DEPTH, tile.rows // tile.cluster),
    )
    values = TensorMap(
        1,
        spec.element,
        (str(spec.values), str(spec.n)),
        (str(2 * spec.column),),
        (DEPTH // 2, tile.columns),
        swizzle=64,
    )
    places = TensorMap(
        1,
        "f32",
        (str(PLACES // 4), str(spec.places)),
        (str(PLACES),),
        (PLACES // 4, tile.groups),
        swizzle=0,
        offset=str(spec.places_at),
    )
    blocks = f"min(units, sms // {tile.cluster}) * {tile.cluster}"
    return Entry(
        (blocks if when == "1" else f"{when} * {blocks}", "1", "1"),
        (tile.threads, 1, 1),
        str(tile.shared),
        cluster=(tile.cluster, 1, 1),
        maps=(a, values, places),
        overlaps=True,
    )


def _text(spec: WgmmaSparseMatmulSpec, name: str) -> str:
    tile = spec.tile
    operands, dims = 3 + len(spec.epilogue.extras), 3 + spec.epilogue.stride_count
    c = f"a{operands - 1}"
    constants = {
        "N": spec.n,
        "K": spec.k,
        "KP": spec.row,
        "STEPS": spec.steps,
        "ATOMS": spec.atoms,
        "BN": tile.columns,
        "BM": tile.rows,
        "BK": DEPTH,
        "STAGES": tile.stages,
        "GROUPS": tile.groups,
        "CLUSTER": tile.cluster,
        "SPLIT": tile.split,
        "PLANES": 1,
        "PITCH": PITCH,
        "STAGE_BYTES": tile.stage_bytes,
        "STAGE_PITCH": tile.stage_pitch,
    }
    head = "".join(f"constexpr int {key} = {value};\n" for key, value in constants.items())
    head += f"constexpr u32 RASTER = {tile.raster}, DOWN = {spec.down};\n"
    partial = tile.split > 1
    gather = epilogues.gather(spec.epilogue, 2, 3)
    body = (
        template.BODY.replace("@EXTRAS@", template.OUT_PART if partial else gather + template.OUT)
        .replace("@PUT@", template.PUT_SUMS if partial else template.PUT_RESULT)
        .replace("@C@", c)
    )
    parts_at = f"((p0 * {2 * spec.row} + 255) / 256 * 256)"
    text = [
        '#include "hopper.cuh"\n\n',
        head,
        wgmma.multiply_sparse(tile.rows, spec.element),
        epilogues.declare(spec.epilogue, fast=spec.c != "f32"),
        writing.STORES[spec.c],
        dense.PUT,
        template.PUT_PART if partial else "",
        template.TILE_OF,
        dense.RELEASE,
        template.BRING,
        signature(name, operands, dims, maps=3, threads=tile.threads),
        body.replace("PARTS_AT", parts_at),
        around.conversion(spec.a, spec.element, name, operands, dims, around.FETCH),
    ]
    if partial:
        reduce = around.REDUCE.replace("@EXTRAS@", gather).replace("@C@", c)
        text += [
            signature(f"{name}_reduce", operands, dims, threads=THREADS),
            reduce.replace("PARTS_AT", parts_at),
        ]
    return "".join(text)
