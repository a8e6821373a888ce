"""The text of a `__global__` function as it grows: lines, blocks, names, and what it declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tilewright.backends.llvm.region.dims import Dim

TYPES = {
    "i1": "bool", "i8": "signed char", "i16": "short", "i32": "int", "i64": "long long",
    "f16": "unsigned short", "f32": "float", "f64": "double",
}  # fmt: skip
"""C++ types of register and storage types; f16 is moved as its bits."""

UNSIGNED = {
    "i1": "bool", "i8": "unsigned char", "i16": "unsigned short", "i32": "unsigned",
    "i64": "unsigned long long",
}  # fmt: skip


class Code:
    """Lines of one function body. Names are numbered in the order in which they are asked for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self._names = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}_{self._names}"

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """``head {`` ... ``}``"""
        self.line(head + " {")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    def let(self, type_: str, expression: str, prefix: str = "i") -> str:
        """The name of a new constant."""
        name = self.name(prefix)
        self.line(f"const {type_} {name} = {expression};")
        return name

    def text(self) -> str:
        return "\n".join(self.lines)


def dim_text(dim: Dim) -> str:
    """``dim`` in C++, as a long long; what is divided is never negative."""
    if isinstance(dim, int):
        return f"{dim}LL" if dim >= 0 else f"({dim}LL)"
    if dim[0] == "p":
        return f"p{dim[1]}"
    a, b = dim_text(dim[1]), dim_text(dim[2])
    if dim[0] in ("min", "max"):
        return f"tw_{dim[0]}({a}, {b})"
    if dim[0] in ("//", "%"):
        return f"tw_{'div' if dim[0] == '//' else 'rem'}({a}, {b})"
    return f"({a} {dim[0]} {b})"


def offset_text(strides: Sequence[tuple[str, Dim]], offset: Dim) -> str:
    """``offset + sum index * stride`` for texts of indices."""
    terms = [] if offset == 0 else [dim_text(offset)]
    for index, stride in strides:
        if stride == 0:
            continue
        terms.append(index if stride == 1 else f"{index} * {dim_text(stride)}")
    return " + ".join(terms) or "0"
