"""Weight formats: every module of this package that defines FORMATS adds them; `parse(name)` of a
module knows those that only some compiles use."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.formats.format import Encoded, WeightFormat
from tilewright.compiler.formats.inputs import Inputs

__all__ = ["Encoded", "Inputs", "WeightFormat", "formats", "named"]


@cache
def _modules() -> tuple[ModuleType, ...]:
    names = (info.name for info in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in names)


@cache
def formats() -> dict[str, WeightFormat]:
    """Every format by name, in alphabetical order of modules."""
    found: dict[str, WeightFormat] = {}
    for module in _modules():
        for made in getattr(module, "FORMATS", ()):
            assert made.name not in found, f"two formats are called {made.name}"
            found[made.name] = made
    return found


def named(name: str) -> WeightFormat:
    """The format called `name`, or what a module's `parse` makes of it; UserError with the nearest
    one otherwise."""
    if name in formats():
        return formats()[name]
    for module in _modules():
        found: WeightFormat | None = getattr(module, "parse", lambda _: None)(name)
        if found is not None:
            return found
    hint = nearest(name, formats())
    raise UserError(f"format {name!r}", "there is no such format", hint=hint)
