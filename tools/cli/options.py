"""What commands share: the `subcommand` decorator, and options with the reading of their values."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tilewright.compiler.errors import UserError, nearest
from tilewright.tools.cli.screen import Screen

STAGES = ("import", "passes", "lower", "codegen", "package")
"""The stages of `compiler.driver`, repeated here so that --help need not load the compiler."""

Function = Callable[..., Any]


def subcommand(name: str, examples: str) -> Callable[[Function], click.Command]:
    """Declare a command: its function gets a `Screen` first and returns the document of --json."""

    def declare(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(*, json: bool, verbose: bool, **values: Any) -> None:
            screen = Screen(json, verbose)
            screen.finish(function(screen, **values))

        flagged = click.option(
            "-v", "--verbose", is_flag=True, help="Say on stderr what is being done."
        )(run)
        flagged = click.option(
            "--json", is_flag=True, help="Print one JSON document on stdout and nothing else."
        )(flagged)
        text = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples.strip().split("\n"))
        return click.command(name, epilog=text)(flagged)

    return declare


def assignments(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """`name=value` options as a dict; wrong usage otherwise."""
    found: dict[str, str] = {}
    for text in values:
        # The last sign: names of ONNX inputs may hold one, sizes and bounds never do.
        name, sign, value = text.rpartition("=")
        if not sign or not name.strip() or not value.strip():
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", context, parameter)
        found[name.strip()] = value.strip()
    return found


def widths(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, ...]:
    """The numbers of --slices; a usage error for what are none."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"expected numbers as in 8,4, found {text!r}") from None


def sizes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    """`name=size` options as a dict; several may be joined by commas."""
    parts = tuple(part for text in values for part in text.split(",") if part.strip())
    found: dict[str, int] = {}
    for name, text in assignments(context, parameter, parts).items():
        if not (text.isascii() and text.isdigit()):
            raise click.BadParameter(f"{name}={text}: expected a size", context, parameter)
        found[name] = int(text)
    return found


class ByteCount(click.ParamType[int]):
    """A number of bytes, as 65536, 64K, 64KiB, 2M or 1G: powers of 1024."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper()
        found = re.fullmatch(r"([0-9]+)\s*(?:([KMG])(?:I?B)?|B)?", text)
        if found is None:
            self.fail(f"{value!r} is no number of bytes like 65536, 64K, 2M or 1G", param, ctx)
        return int(found[1]) << 10 * " KMG".index(found[2] or " ")


path_type = click.Path(path_type=Path)

model_argument = click.argument("model", type=path_type)

target_option = click.option(
    "--target",
    default="native",
    show_default=True,
    metavar="NAMES",
    help="Targets, one variant each: native, or rows of `tilewright targets`, comma-separated.",
)

dim_option = click.option(
    "--dim",
    "dims",
    multiple=True,
    callback=assignments,
    metavar="NAME=BOUNDS",
    help="Bounds of a symbolic dimension: 4, 1..8 or 1.. (repeatable).",
)

jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), help="Worker processes for code generation."
)

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of a run; all CPUs by default."
)


slice_option = click.option(
    "--slice",
    "slice_",
    type=click.IntRange(min=1),
    metavar="BITS",
    help="Bits of the weights' codes that are read, of an artifact compiled with slices."
    "  [default: the most]",
)


typical_option = click.option(
    "--typical",
    multiple=True,
    callback=sizes,
    metavar="NAME=SIZE",
    help="Choose kernels for this size of a dimension (repeatable, or joined by commas)."
    "  [default: for several sizes, so that none is slow]",
)


for_threads_option = click.option(
    "--for-threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Choose kernels for runs on so many threads; every number works.",
)


def selection_options(function: Function) -> Function:
    """--typical, --for-threads and --tuned: what kernels are chosen for and by."""
    tuned = click.option(
        "--tuned",
        is_flag=True,
        help="Choose kernels by the times that `tilewright tune` measured, where there are any.",
    )
    return typical_option(for_threads_option(tuned(function)))


def feed_options(function: Function) -> Function:
    """--input, --inputs, --random, --shape, --range and --seed: where a run's data come from."""
    for option in reversed(
        (
            click.option(
                "--input",
                "files",
                multiple=True,
                callback=assignments,
                metavar="NAME=FILE.npy",
                help="The array of an input (repeatable).",
            ),
            click.option(
                "--inputs", "bundle", type=path_type, help="An .npz file with an array an input."
            ),
            click.option(
                "--shape",
                "shape",
                multiple=True,
                callback=sizes,
                metavar="NAME=SIZE",
                help="Size of a symbolic dimension of random inputs (repeatable).",
            ),
            click.option(
                "--range",
                "ranges",
                multiple=True,
                callback=assignments,
                metavar="NAME=LO..HI",
                help="Least and greatest value of a random integer input (repeatable).",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Of random data."),
        )
    ):
        function = option(function)
    return function


def kept_formats(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The pairs of --keep. Raises UserError for what is no pair and for an unknown format."""
    from tilewright.backends.kernels.candidates import NUMERICS
    from tilewright.compiler.formats import formats

    pairs = []
    for text in texts:
        pattern, sign, wanted = text.rpartition("=")
        if not sign or not pattern:
            found = f"expected PATTERN=FORMAT, found {text!r}"
            raise UserError("--keep", "is no pattern and format", found)
        known = list(dict.fromkeys([*NUMERICS.values(), *formats()]))
        if wanted not in known:
            hint = nearest(wanted, known)
            raise UserError(f"--keep {text}", f"there is no format {wanted!r}", hint=hint)
        pairs.append((pattern, wanted))
    return tuple(pairs)
