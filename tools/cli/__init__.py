"""The command line: `tilewright compile, opt, inspect, run, verify, bench, targets, demo`.

One module a command, imported when it is called. Nothing here or in `group` imports the compiler or
even numpy, so that `--help` and completion answer at once.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status; see `exits` for what each one means."""
    from tilewright.tools.cli.exits import run

    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))
