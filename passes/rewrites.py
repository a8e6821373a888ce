"""The record of rewrites that passes applied to weights, or found and left: for plan and report."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Rewrite:
    """source: ONNX nodes. weight: name of the constant. found: its structure. text: what was made
    of it, or why nothing was."""

    source: str
    weight: str
    found: str
    applied: bool
    text: str


_current: ContextVar[list[Rewrite] | None] = ContextVar("rewrites", default=None)


@contextmanager
def recording() -> Iterator[list[Rewrite]]:
    """Collect what passes record inside the block."""
    kept: list[Rewrite] = []
    token = _current.set(kept)
    try:
        yield kept
    finally:
        _current.reset(token)


def record(rewrite: Rewrite) -> None:
    """Add to the record, if anybody keeps one."""
    kept = _current.get()
    if kept is not None:
        kept.append(rewrite)
