"""How `tilewright inspect` shows a kernel of a GPU variant."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.tools.inspect_cuda import GpuKernel


def show_gpu_kernel(
    screen: Screen, report: dict[str, Any], kernel: GpuKernel, source: bool, assembly: bool
) -> None:
    """What every entry takes, then the source, PTX and SASS: all, or those that were asked for."""
    from tilewright.tools.inspect_cuda import ROWS

    report["kernel"] = asdict(kernel)
    screen.table(
        f"{kernel.name} ({kernel.tier}, {kernel.target})",
        (
            *("entry", ">registers", ">shared bytes", ">stack bytes"),
            *(">spilled bytes written", ">spilled bytes read"),
        ),
        [tuple(str(entry[key]) for key in ROWS) for entry in kernel.resources],
    )
    every = not (source or assembly)
    parts: tuple[str, ...] = ("source",) if source or every else ()
    parts += ("ptx", "sass") if assembly or every else ()
    screen.text(kernel.text(parts))
