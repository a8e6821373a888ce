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
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

PIPE_WIDTH = 1000
"""Columns that a table in a file or pipe may have: one line a row, for grep and awk."""


class Screen:
    """Output of one command. With `json` only `finish` writes to stdout."""

    def __init__(self, json: bool, verbose: bool) -> None:
        self.json, self.verbose = json, verbose
        self.live: Live | None = None
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
            self._print(text, err=False)

    def warn(self, text: str) -> None:
        """Say on stderr what the user should know in any case."""
        self._print(text, err=True)

    def note(self, text: str) -> None:
        """Say on stderr what `-v` asks for."""
        if self.verbose:
            self._print(text, err=True)

    def _print(self, text: str, err: bool) -> None:
        """Print a text past the progress line, which may be on the same terminal."""
        if self.live is not None:
            self.live.stop()
        click.echo(text, err=err)
        if self.live is not None:
            self.live.start()

    @contextmanager
    def working(self, label: str) -> Iterator[Callable[[str], None]]:
        """Show on a terminal that work goes on; the function given changes what is shown."""
        spinner = Spinner("dots", text=label)

        def update(what: str) -> None:
            self.note(what)
            spinner.update(text=f"{label}: {what}")

        # `Console.status` would send what is printed to stdout to the terminal of stderr.
        live = Live(
            spinner, console=self.err, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        with live:
            self.live = live
            try:
                yield update
            finally:
                self.live = None

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
