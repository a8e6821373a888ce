"""How many neighbours a lane holds, and what the fragments of a block take."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec
from tilewright.backends.llvm import formats

REGISTERS = 180
"""Of a lane for sums, and for keys and values that it has asked for."""

ROOMY = 144
"""The same where sums are many: their addresses take registers too."""

LIGHT = 64
"""Of these, with which two blocks of 256 threads fit into a multiprocessor."""

SHARED = 96 * 1024
"""Bytes of shared memory that a block may take."""


@dataclass(frozen=True)
class Fragments:
    """See `direct`. ``key_lane``, ``value_lane``: neighbours that a lane loads at once; ``keys``
    and ``values``: such loads for all dims, ``keys_ahead`` and ``values_ahead`` of them at once.
    ``tiles`` of 8 keys at once. ``steps``: products along the dims; ``per``: of one load.
    ``warps``: of a block. ``held``: registers for sums, keys and values. ``parts``: elements at a
    place of a row."""

    tiles: int
    key_lane: int
    keys: int
    keys_ahead: int
    value_lane: int
    values: int
    values_ahead: int
    steps: int
    per: int
    warps: int
    queries_bytes: int
    row: int
    held: int
    parts: int

    @classmethod
    def of(cls, spec: GpuAttentionSpec) -> Fragments:
        stored = formats.BYTES[spec.k], formats.BYTES[spec.v]
        return cls.sized((spec.head_dim, spec.value_dim), stored, spec.math)

    @classmethod
    def sized(
        cls, sizes: tuple[int, int], stored: tuple[int, int], math: str, parts: int = 1
    ) -> Fragments:
        """Of rows of keys and of values of so many elements, and of so many bytes for ``parts``."""
        bf16 = math == "bf16"
        key_bytes, value_bytes = stored
        # Two products of tf32 take four dims of a lane, one of bf16 does.
        least = 4 if bf16 else 2
        key_lane, keys = _widest(sizes[0] // parts, 4, 16 // key_bytes, least)
        # Beside sums of large heads there are no registers for wide loads of f32.
        wide = 8 if sizes[1] > 128 and value_bytes == 4 else 16
        value_lane, values = _widest(sizes[1] // parts, 8, wide // value_bytes, 1)
        per = key_lane // least
        tiles = 2 if bf16 or max(sizes) <= (128 if key_bytes == 1 else 64) else 1
        sums = 4 * values * value_lane * parts
        ahead = ((REGISTERS if sums <= 64 else ROOMY) - sums) // 2
        queries = keys * per * parts * 512 * (2 if math == "tf32x3" else 1)
        row = values * value_lane * 8 * parts + 4
        warps = 8
        while queries + warps * 16 * 4 * (row + 2) > SHARED:
            warps //= 2
        key_words, value_words = (
            max(1, lane * size // 4)
            for lane, size in ((key_lane, key_bytes), (value_lane, value_bytes))
        )
        keys_ahead = _ahead(keys, tiles * key_words, ahead)
        values_ahead = _ahead(values, 2 * tiles * value_words, ahead)
        held = keys_ahead * tiles * key_words + values_ahead * 2 * tiles * value_words
        return cls(
            tiles=tiles,
            key_lane=key_lane,
            keys=keys,
            keys_ahead=keys_ahead,
            value_lane=value_lane,
            values=values,
            values_ahead=values_ahead,
            steps=keys * per * parts,
            per=per,
            warps=warps,
            queries_bytes=queries,
            row=row,
            held=sums + held,
            parts=parts,
        )

    @property
    def resident(self) -> int:
        """Blocks that a multiprocessor has at once."""
        return 2 if self.held <= LIGHT and 2 * self.shared <= SHARED else 1

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return self.queries_bytes + self.warps * 16 * 4 * (self.row + 2)

    @property
    def constants(self) -> dict[str, int]:
        """What the text calls these."""
        return {
            "NT": self.tiles,
            "STEP": 8 * self.tiles,
            "KE": self.key_lane,
            "KB": self.keys,
            "KP": self.keys_ahead,
            "VE": self.value_lane,
            "VB": self.values,
            "VP": self.values_ahead,
            "QSTEPS": self.steps,
            "QPER": self.per,
            "QBYTES": self.queries_bytes,
            "WARPS": self.warps,
            "ROW": self.row,
            "PARTS": self.parts,
            "VN": self.value_lane * self.parts,
        }


def _widest(size: int, lanes: int, most: int, least: int) -> tuple[int, int]:
    """Neighbours of a lane and loads for all of ``size``: the fewest in excess, then the widest."""
    best = most, -(-size // (lanes * most))
    each = most // 2
    while each >= least:
        count = -(-size // (lanes * each))
        if count * each < best[0] * best[1]:
            best = each, count
        each //= 2
    return best


def _ahead(loads: int, registers: int, most: int) -> int:
    """The largest divisor of ``loads`` that fits into ``most`` registers; at least one."""
    fitting = (n for n in range(1, loads + 1) if loads % n == 0 and n * registers <= most)
    return max(fitting, default=1)
