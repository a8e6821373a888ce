"""Device text that kernels share: the files of `device/`, put before a kernel's own text.

`base.cuh` comes before every kernel. Others come where a kernel (or another file) has a line
`#include "NAME.cuh"`, each once, so that the text that is compiled needs no files.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "device"
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[ \t]*$', re.MULTILINE)


class UnknownPartError(ValueError):
    """A kernel includes a file that `device/` does not have."""


@cache
def parts() -> dict[str, str]:
    """The text of every file, by its name."""
    return {path.name: path.read_text() for path in sorted(FOLDER.glob("*.cuh"))}


def expand(source: str) -> str:
    """``source`` behind the base, its includes replaced. Raises UnknownPartError."""
    seen: set[str] = set()

    def insert(text: str) -> str:
        return _INCLUDE.sub(lambda found: part(found[1]), text)

    def part(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        if name not in parts():
            known = ", ".join(parts())
            raise UnknownPartError(f"no device file {name!r}; known: {known}")
        return insert(parts()[name]).rstrip("\n")

    base = part("base.cuh")
    return f"{base}\n\n{insert(source)}"
