"""Lowering rules by operation class; every module of this package registers its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from tilewright.compiler.ir.core import Op

Rule = Callable[[Any, Any], None]
_RULES: dict[type[Op], Rule] = {}


def lowers(*classes: type[Op]) -> Callable[[Rule], Rule]:
    """Declare the function that lowers operations of `classes`."""

    def declare(rule: Rule) -> Rule:
        for cls in classes:
            _RULES[cls] = rule
        return rule

    return declare


@cache
def rules() -> dict[type[Op], Rule]:
    """All rules, after importing every module of the package."""
    import tilewright.backends.llvm.lowering as package

    for info in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{info.name}")
    return _RULES
