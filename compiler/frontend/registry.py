"""The table of ONNX operator importers.

A module below `compiler/frontend/ops` adds importers with the `onnx_op` decorator; `importers`
walks the folder, so a new operator needs a new function and nothing else.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import tilewright.compiler.frontend.ops as ops_package
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.ir.core import Value

if TYPE_CHECKING:
    from tilewright.compiler.frontend.context import Import

Handler = Callable[["Import", Node], "Value | tuple[Value | None, ...] | None"]


@dataclass(frozen=True)
class Importer:
    """`handler` imports the operator from its version `since` on, until a newer entry."""

    since: int
    handler: Handler


_TABLE: dict[tuple[str, str], list[Importer]] = {}


def onnx_op(*names: str, since: int = 1, domain: str = "") -> Callable[[Handler], Handler]:
    """Register the decorated function as the importer of the operators `names`.

    `since` is the first operator version (OpSchema.since_version) it understands: with several
    registrations of one operator, the greatest `since` not above the node's version wins.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            entries = _TABLE.setdefault((domain, name), [])
            taken = any(e.since == since for e in entries)
            assert not taken, f"two importers for {domain}:{name} since {since}"
            entries.append(Importer(since, handler))
            entries.sort(key=lambda e: e.since)
        return handler

    return register


@cache
def _walk() -> None:
    for module in pkgutil.walk_packages(ops_package.__path__, ops_package.__name__ + "."):
        importlib.import_module(module.name)


def importer(domain: str, name: str, version: int) -> Handler | None:
    """The importer of an operator whose since_version is `version`, or None."""
    _walk()
    fitting = [e for e in _TABLE.get((domain, name), ()) if e.since <= version]
    return fitting[-1].handler if fitting else None


def known() -> list[tuple[str, str]]:
    """Every (domain, operator) with an importer."""
    _walk()
    return sorted(_TABLE)
