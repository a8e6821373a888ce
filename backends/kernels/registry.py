"""Finds kernel families: every sub-folder of this package that defines FAMILY."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import tilewright.backends.kernels as package
from tilewright.backends.kernels.family import KernelFamily


@cache
def families() -> dict[str, KernelFamily]:
    """Every family by name, in alphabetical order."""
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            found[info.name] = module.FAMILY
    return found


def family(name: str) -> KernelFamily:
    """The family called ``name``; ValueError lists the known ones."""
    try:
        return families()[name]
    except KeyError:
        known = ", ".join(families())
        raise ValueError(f"unknown kernel family '{name}'; known families: {known}") from None
