"""Weight formats: every module of this package that defines FORMATS adds them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.formats import integers
from tilewright.compiler.formats.format import Encoded, WeightFormat
from tilewright.compiler.formats.inputs import Inputs

__all__ = ["Encoded", "Inputs", "WeightFormat", "formats", "named"]


@cache
def formats() -> dict[str, WeightFormat]:
    """Every format by name, in alphabetical order of modules."""
    found: dict[str, WeightFormat] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for made in getattr(module, "FORMATS", ()):
            assert made.name not in found, f"two formats are called {made.name}"
            found[made.name] = made
    return found


def named(name: str) -> WeightFormat:
    """The format called `name`, or that of codes which models bring; UserError with the nearest one
    otherwise."""
    try:
        return formats()[name]
    except KeyError:
        if (brought := integers.parse(name)) is not None:
            return brought
        hint = nearest(name, formats())
        raise UserError(f"format {name!r}", "there is no such format", hint=hint) from None
