"""Tables that lie as the product with the same matrix has them: panels of 32 rows of the table.

A word of 4 bytes holds neighbouring elements of a row, the words of a row lie 128 bytes apart:

    w8a8-sym (int8_scaled_matmul)   4 codes, s8; the scale of a row behind all codes of its panel
    groups (grouped_matmul)         32 / bits codes, the lowest bits of its bytes the first four,
                                    the next bits the next four (5 and 6 bits: llvm.grouped_codes);
                                    f16 scales behind each group, zeros behind all
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.kernels import grouped_matmul, int8_scaled_matmul
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.grouped_matmul import GroupedMatmulSpec
from tilewright.backends.kernels.int8_scaled_matmul import ScaledMatmulSpec
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.activations import Int8, Rounded
from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.integers import Integers

WORD = 4
STEP = WORD * PANEL
"""Bytes from a word of a row to the next."""


@dataclass(frozen=True)
class Product:
    """The kernel of the product that a table [rows, width] is packed for."""

    family: KernelFamily
    spec: ScaledMatmulSpec | GroupedMatmulSpec

    @property
    def bytes(self) -> int:
        """Of the packed table."""
        assert self.family.layout is not None
        return self.family.layout(self.spec).bytes


@dataclass(frozen=True)
class Rows:
    """Where the parts of a row lie in its panel of ``panel_bytes``, counted for row 0.

    ``bits`` of a code; signed ones without zeros; ``group`` elements share a scale; the words of a
    group begin ``group_bytes`` after those of the one before, ``scales`` is where its scale lies
    from there on. ``zeros``: where the zeros of the groups lie, PANEL bytes apart; -1: all are
    ``middle``.
    """

    panel_bytes: int
    bits: int
    group: int
    group_bytes: int
    scales: int
    zeros: int = -1
    middle: int = 0

    @property
    def signed(self) -> bool:
        """Whether codes are s8, scales f32."""
        return self.zeros < 0 and not self.middle


def readable() -> tuple[str, ...]:
    """Names of the formats whose panels lookups can read."""
    return tuple(name for name, made in formats().items() if _grouped(made) or _bytes(made))


def product(name: str, width: int, rows: int) -> Product:
    """The kernel that multiplies with a transposed table in the format ``name``."""
    made = named(name)
    assert isinstance(made, Integers)
    if _bytes(made):
        return Product(int8_scaled_matmul.FAMILY, ScaledMatmulSpec(width, rows))
    int8 = isinstance(made.reads, Int8)
    spec = GroupedMatmulSpec(width, rows, made.bits, made.group, int8, made.symmetric)
    return Product(grouped_matmul.FAMILY, spec)


def layout(name: str, width: int, rows: int) -> Rows:
    """Where rows of a table in the format ``name`` lie."""
    found = product(name, width, rows).spec
    if isinstance(found, ScaledMatmulSpec):
        depth = found.depth
        scales = depth * PANEL + 4 * PANEL  # behind the codes and their column sums
        return Rows(found.panel_bytes, 8, depth, 0, scales)
    panel = found.panel
    return Rows(
        panel.bytes,
        found.bits,
        found.group,
        panel.group_bytes,
        panel.code_bytes,
        -1 if found.symmetric else panel.zeros_at,
        2 ** (found.bits - 1) if found.symmetric else 0,
    )


def _bytes(made: WeightFormat) -> bool:
    return made == Integers(8, symmetric=True, reads=Int8())


def _grouped(made: WeightFormat) -> bool:
    """Groups of codes that lie in order within their words."""
    if not isinstance(made, Integers) or made.bits not in (8, 6, 5, 4, 2):
        return False
    reads = made.reads in (Rounded(), Int8(made.group))
    return made.group > 0 and made.group % PANEL == 0 and reads
