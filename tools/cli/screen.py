"""What a command prints: tables on stdout, progress and notes on stderr, or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 160
"""Columns of a table that goes to a file or pipe, which has no width of its own."""


class Screen:
    """Output of one command. With `json` only `finish` writes to stdout."""

    def __init__(self, json: bool, verbose: bool) -> None:
        self.json, self.verbose = json, verbose
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        # No markup: `f32[batch, 8]` is text, not a style.
        self.out = Console(width=width, markup=False, highlight=False, emoji=False)
        self.err = Console(stderr=True, markup=False, highlight=False, emoji=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table; a column name that starts with `>` is aligned to the right."""
        if self.json:
            return
        self.out.print(title, soft_wrap=True)  # a title inside the table wraps at its width
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            right = name.startswith(">")
            table.add_column(
                name.removeprefix(">"), justify="right" if right else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*map(str, row))
        self.out.print(table)

    def text(self, text: str) -> None:
        """Print text as it is, without wrapping."""
        if not self.json:
            click.echo(text)

    def warn(self, text: str) -> None:
        """Say on stderr what the user should know in any case."""
        click.echo(text, err=True)

    def note(self, text: str) -> None:
        """Say on stderr what `-v` asks for."""
        if self.verbose:
            click.echo(text, err=True)

    @contextmanager
    def working(self, label: str) -> Iterator[Callable[[str], None]]:
        """Show on a terminal that work goes on; the function given changes what is shown."""
        with self.err.status(label) as status:

            def update(what: str) -> None:
                self.note(what)
                status.update(f"{label}: {what}")

            yield update

    def finish(self, document: Any) -> None:
        """Print the command's document under --json."""
        if self.json:
            click.echo(json.dumps(_plain(document), indent=1, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """JSON has no infinities and NaN: they become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def percent(part: float, whole: float) -> str:
    """`12.3%`, or nothing where there is no whole."""
    return f"{100 * part / whole:.1f}%" if whole else ""


def rate(value: float | None) -> str:
    """A rate with one decimal, `-` where it is not known."""
    return "-" if value is None else f"{value:.1f}"
