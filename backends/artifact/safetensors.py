"""The safetensors layout of packed weights, known before any weight is packed.

Format: 8 bytes of header length (little endian), a JSON header, then the data. Its readers refuse
gaps between tensors, so the bytes that align a tensor belong to a named padding tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 64
PADDING_PREFIX = "__padding__"

_TYPES = {
    "f64": ("F64", 8),
    "f32": ("F32", 4),
    "f16": ("F16", 2),
    "bf16": ("BF16", 2),
    "f8e4m3fn": ("F8_E4M3", 1),
    "f8e5m2": ("F8_E5M2", 1),
    "i64": ("I64", 8),
    "i32": ("I32", 4),
    "i16": ("I16", 2),
    "i8": ("I8", 1),
    "u64": ("U64", 8),
    "u32": ("U32", 4),
    "u16": ("U16", 2),
    "u8": ("U8", 1),
    "bool": ("BOOL", 1),
}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to store. Packed sub-byte data is stored as `u8` of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size of the data."""
        return math.prod(self.shape) * _TYPES[self.dtype][1]


@dataclass(frozen=True)
class WeightLayout:
    """Where each tensor lies.

    offsets: bytes from the start of the data, multiples of ALIGNMENT. header: the file's bytes
    before the data, whose length is a multiple of ALIGNMENT. The code is given the address of the
    data, so offsets can be compiled in.
    """

    specs: tuple[TensorSpec, ...]
    offsets: Mapping[str, int]
    header: bytes
    data_bytes: int

    @property
    def base(self) -> int:
        """Offset of the data in the file: the manifest's `weights.base`."""
        return len(self.header)

    @property
    def file_bytes(self) -> int:
        """Size of the whole safetensors file."""
        return len(self.header) + self.data_bytes


def plan_weights(
    specs: Sequence[TensorSpec], metadata: Mapping[str, str] | None = None
) -> WeightLayout:
    """Lay tensors out in the given order.

    Raises ValueError for a name that occurs twice or is reserved, and for an unknown dtype.
    """
    entries: dict[str, object] = {}
    if metadata:
        entries["__metadata__"] = dict(sorted(metadata.items()))
    offsets: dict[str, int] = {}
    position = 0
    for spec in specs:
        if spec.name in entries or spec.name.startswith("__"):
            raise ValueError(f"weight name {spec.name!r} is reserved or occurs twice")
        if spec.dtype not in _TYPES:
            raise ValueError(f"weight {spec.name!r}: no safetensors type for {spec.dtype!r}")
        start = -(-position // ALIGNMENT) * ALIGNMENT
        if start != position:
            entries[f"{PADDING_PREFIX}{position}"] = _entry(
                "U8", (start - position,), position, start
            )
        position = start + spec.bytes
        offsets[spec.name] = start
        entries[spec.name] = _entry(_TYPES[spec.dtype][0], spec.shape, start, position)
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    # The format allows spaces after the JSON; they bring the data to a multiple of ALIGNMENT.
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    return WeightLayout(tuple(specs), offsets, header, position)


def _entry(kind: str, shape: Sequence[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
