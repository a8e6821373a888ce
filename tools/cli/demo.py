"""`tilewright demo`: the shipped model, compiled, run and compared."""

from __future__ import annotations

from typing import Any

import click

from tilewright.tools.cli.interrupt import ends_workers
from tilewright.tools.cli.options import subcommand
from tilewright.tools.cli.screen import Screen

EXAMPLES = """
tilewright demo
tilewright demo --threads 4 --target x86-64-v3
"""


@subcommand("demo", EXAMPLES)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a run."
)
@click.option(
    "--target", default="native", show_default=True, help="A target that this machine runs."
)
def command(screen: Screen, threads: int, target: str) -> dict[str, Any]:
    """Compile a small trained digit classifier, run it, and show size, time and error."""
    import onnx as _onnx  # noqa: F401  (says at once that the compiler is not installed)

    from tilewright.tools.demo.run import run_demo

    with screen.working("compiling and timing the digits model"), ends_workers():
        report = run_demo(screen.out, threads=threads, json=True, target=target)
    if not screen.json:
        from tilewright.tools.demo.run import show

        show(screen.out, report)
    return report
