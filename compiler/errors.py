"""Errors that a user can reach, and the one that is our fault."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The user's model, data or target is at fault.

    A message has four parts: where it is, what is wrong, what was expected and found, what to do.
    """

    def __init__(self, where: str, what: str, found: str = "", hint: str = "") -> None:
        self.where, self.what, self.found, self.hint = where, what, found, hint
        lines = [f"{where}: {what}"]
        if found:
            lines.append(f"  {found}")
        if hint:
            lines.append(f"  try: {hint}")
        super().__init__("\n".join(lines))


class VerifyError(Exception):
    """The compiler built invalid IR: our fault, never the user's."""

    def __init__(self, where: str, what: str) -> None:
        self.where, self.what = where, what
        super().__init__(f"internal error in {where}: {what}")


class ParseError(UserError):
    """IR text that cannot be read; `where` is file:line:column."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'add'?` when a known name is close, else the known names."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names)
