"""Errors of loading and running an artifact.

A message has four parts: where it is, what is wrong, what was expected and found, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


class TilewrightError(RuntimeError):
    """Base of all errors below; catches everything that the runtime raises on purpose."""

    def __init__(self, where: str, what: str, found: str = "", hint: str = "") -> None:
        self.where, self.what, self.found, self.hint = where, what, found, hint
        lines = [f"{where}: {what}"]
        if found:
            lines.append(f"  {found}")
        if hint:
            lines.append(f"  try: {hint}")
        super().__init__("\n".join(lines))


class ArtifactError(TilewrightError):
    """The file is not an artifact, is damaged, or is of another format."""


class TargetError(TilewrightError):
    """The artifact is whole, but this machine cannot run it."""


class FeedError(TilewrightError):
    """Inputs or outputs given to a run do not fit the model."""


class ExecutionError(TilewrightError):
    """The model ran and reported a failure."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` when a known name is close, else `known: 'x', 'y'`."""
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(repr(known_name) for known_name in names)
