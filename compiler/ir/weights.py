"""The weight store: constants by name, loaded lazily, never part of IR text or code."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.formats.float8 import Float8
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.ir.types import DType, TensorType, from_numpy

CHUNK = 1 << 14
"""Elements that are looked at together: most weights show what they are in the first ones."""


@dataclass(frozen=True)
class Coded:
    """That an f32 constant of two axes is exactly what codes stand for.

    axis: of the constant, along which blocks lie: the K of `load()`, the other one is its N.
    level: how what is multiplied by it may be read, ONNX Runtime's accuracy level: 0 and 1 as it
    is, 2 as f16, 3 as bf16, 4 as 8-bit codes by block.
    """

    format: Blocks | Float8
    axis: int
    load: Callable[[], Encoded]
    level: int = 0


@dataclass(frozen=True)
class Weight:
    """A constant tensor: its type and a loader that returns the array (a memory map if possible).

    Sub-byte elements are unpacked in the array (one per ml_dtypes element). coded: where the model
    has codes for it, which kernels can read instead; whatever makes another constant of it may
    drop that.
    """

    type: TensorType
    load: Callable[[], np.ndarray]
    coded: Coded | None = None

    def hash(self) -> str:
        """sha256 of type and bytes, for sharing equal constants and for the text form."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(str(self.type).encode())
        digest.update(np.ascontiguousarray(self.load()).view(np.uint8).data)
        return digest.hexdigest()

    @cached_property
    def halves(self) -> bool:
        """Whether it is f32 and every element is an f16 number (or NaN)."""
        if self.type.dtype != DType.F32:
            return False
        flat = np.asarray(self.load()).reshape(-1)
        return all(_halves(flat[i : i + CHUNK]) for i in range(0, flat.size, CHUNK))


def _halves(part: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        back = part.astype(np.float16).astype(np.float32)
    return bool(np.array_equal(back, part, equal_nan=True))


def from_array(array: np.ndarray) -> Weight:
    """A weight that holds `array` itself."""
    kept = np.ascontiguousarray(array).reshape(array.shape)
    kept.flags.writeable = False
    return Weight(TensorType(from_numpy(kept.dtype), kept.shape), lambda: kept)


class WeightStore(Mapping[str, Weight]):
    """Immutable name -> Weight; `with_weight` returns a store that shares all others."""

    def __init__(self, entries: Mapping[str, Weight] | None = None) -> None:
        self._entries = dict(entries or {})

    def __getitem__(self, name: str) -> Weight:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def array(self, name: str) -> np.ndarray:
        """The elements of a constant."""
        return self._entries[name].load()

    def merged(self, added: Mapping[str, Weight]) -> "WeightStore":
        """A store with `added` too."""
        return WeightStore({**self._entries, **added}) if added else self

    def kept(self, names: set[str]) -> "WeightStore":
        """A store with only `names`."""
        return WeightStore({k: v for k, v in self._entries.items() if k in names})

    def fresh(self, stem: str, taken: Mapping[str, Weight] | None = None) -> str:
        """A name that starts with `stem` and is not in use."""
        used = self._entries.keys() | (taken or {}).keys()
        name, count = stem, 1
        while name in used:
            name, count = f"{stem}.{count}", count + 1
        return name
