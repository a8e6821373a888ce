"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec
from tilewright.backends.llvm.grouped_codes import LINE_BYTES, PIECE
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded

_UPPER = ((0, 2), (1, 4), (2, 6), (4, 3), (5, 5), (6, 7), (3, 0), (7, 1))
"""Quad and bit of the upper bits of 3-bit codes."""


def pack(encoded: Encoded, spec: GroupedMatmulSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales f32 (f16 values) and zeros uint8 [G, N] -> uint8 [panels, bytes
    of a panel], or [bytes] of all panels and planes. K is filled up to whole groups, N to whole
    panels, with zeros."""
    panel, width = spec.panel, spec.panels * PANEL
    codes = np.zeros((panel.depth, width), np.uint8)
    codes[: spec.k, : spec.n] = encoded["codes"]
    shape = (panel.groups, panel.pieces, PIECE // 4, 4, spec.panels, PANEL)
    # [quad, panel, group, piece, column, 4]
    quads = codes.reshape(shape).transpose(2, 4, 0, 1, 5, 3)
    whole = (panel.slices or (spec.bits,))[-1]
    lines = np.moveaxis(_lines(quads >> whole - panel.own_bits, panel.own_bits), 0, 3)
    body = np.zeros((spec.panels, panel.groups, panel.group_bytes), np.uint8)
    body[..., : panel.code_bytes] = lines.reshape(spec.panels, panel.groups, panel.code_bytes)
    body[..., panel.code_bytes :] = _columns(encoded["scales"].astype(np.float16), spec).view("u1")
    packed = np.zeros((spec.panels, panel.bytes), np.uint8)
    packed[:, : panel.zeros_at] = body.reshape(spec.panels, panel.zeros_at)
    if not spec.symmetric:
        zeros = _columns(encoded["zeros"], spec).reshape(spec.panels, -1)
        packed[:, panel.zeros_at : panel.zeros_at + zeros.shape[1]] = zeros
    if not panel.slices:
        return packed
    parts = [packed.reshape(-1)]
    for plane in replace(panel, bits=whole).planes:
        part = quads >> plane.low & 2**plane.bits - 1
        parts.append(np.moveaxis(_lines(part, plane.bits), 0, 3).reshape(-1))
    return np.concatenate(parts)


def unpack(packed: np.ndarray, spec: GroupedMatmulSpec) -> Encoded:
    """What was packed."""
    panel = spec.panel
    panels = packed.reshape(-1)[: spec.panels * panel.bytes].reshape(spec.panels, panel.bytes)
    body = panels[:, : panel.zeros_at].reshape(spec.panels, panel.groups, panel.group_bytes)
    quads = _stored(body[..., : panel.code_bytes], spec, panel.own_bits)
    if panel.slices:
        whole = replace(panel, bits=panel.slices[-1])
        quads = quads << whole.bits - panel.own_bits
        for plane in whole.planes:
            part = packed.reshape(-1)[plane.start :][: spec.panels * plane.panel_bytes]
            quads |= _stored(part, spec, plane.bits) << plane.low
    # [quad, panel, group, piece, column, 4] -> [group, piece, quad, 4, panel, column]
    codes = quads.transpose(2, 3, 0, 5, 1, 4).reshape(panel.depth, spec.panels * PANEL)
    halves = np.ascontiguousarray(body[..., panel.code_bytes :]).view(np.float16)
    zeros = np.full((panel.groups, spec.n), 2 ** (spec.bits - 1), np.uint8)
    if not spec.symmetric:
        tail = panels[:, panel.zeros_at : panel.zeros_at + panel.groups * PANEL]
        zeros = _rows(tail.reshape(spec.panels, panel.groups, PANEL), spec)
    arrays = {
        "codes": np.ascontiguousarray(codes[: spec.k, : spec.n]),
        "scales": _rows(halves, spec).astype(np.float32),
        "zeros": zeros,
    }
    return Encoded((spec.k, spec.n), arrays)


def _stored(lines: np.ndarray, spec: GroupedMatmulSpec, bits: int) -> np.ndarray:
    """The quads [quad, panel, group, piece, column, 4] of the lines of a plane."""
    panel = spec.panel
    shape = (spec.panels, panel.groups, panel.pieces, bits, PANEL, LINE_BYTES // PANEL)
    return _quads(np.moveaxis(np.ascontiguousarray(lines).reshape(shape), 3, 0), bits)


def _columns(values: np.ndarray, spec: GroupedMatmulSpec) -> np.ndarray:
    """[G, N] -> [panels, G, 32]."""
    filled = np.zeros((len(values), spec.panels * PANEL), values.dtype)
    filled[:, : spec.n] = values
    return np.ascontiguousarray(filled.reshape(-1, spec.panels, PANEL).transpose(1, 0, 2))


def _rows(values: np.ndarray, spec: GroupedMatmulSpec) -> np.ndarray:
    """[panels, G, 32] -> [G, N]."""
    return np.ascontiguousarray(values.transpose(1, 0, 2).reshape(values.shape[1], -1)[:, : spec.n])


def _lines(quads: np.ndarray, bits: int) -> np.ndarray:
    """Quads (first axis), the eight of a piece in ``bits`` lines."""
    if bits == 3:
        lower = _lines(quads & 3, 2)
        upper = np.zeros_like(lower[0])
        for quad, bit in _UPPER:
            upper |= (quads[quad] >> 2) << bit
        return np.concatenate((lower, upper[None]))
    if bits in (5, 6):
        even, odd = quads[::2], quads[1::2]
        own = np.stack((even & 15, odd >> bits - 4), axis=1).reshape(quads.shape)
        others = even >> 4 << bits - 4 | odd & 2 ** (bits - 4) - 1
        return np.concatenate((_lines(own, 4), _lines(others, 2 * (bits - 4))))
    share = 8 // bits
    found = np.zeros((len(quads) // share, *quads.shape[1:]), np.uint8)
    for i in range(share):
        found |= quads[i::share] << (bits * i)
    return found


def _quads(lines: np.ndarray, bits: int) -> np.ndarray:
    """The quads of lines, eight of a piece."""
    if bits == 3:
        found = _quads(lines[:2], 2)
        for quad, bit in _UPPER:
            found[quad] |= (lines[2] >> bit & 1) << 2
        return found
    if bits in (5, 6):
        found, others = _quads(lines[:4], 4), _quads(lines[4:], 2 * (bits - 4))
        found[::2] |= others >> bits - 4 << 4
        found[1::2] = found[1::2] << bits - 4 | others & 2 ** (bits - 4) - 1
        return found
    share = 8 // bits
    found = np.zeros((len(lines) * share, *lines.shape[1:]), np.uint8)
    for i in range(share):
        found[i::share] = lines >> (bits * i) & (2**bits - 1)
    return found
