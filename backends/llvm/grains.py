"""How much work a thread is handed at once: enough to pay for waking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.backends.llvm.program import Branch, Launch, Repeat, Step
from tilewright.compiler.ir.dims import Dim, ceildiv

CHUNK = 4000
"""Nanoseconds of work below which another thread is not worth its wake-up and its cold cache."""

FLOPS, BYTES = 64, 32
"""What one thread does in a nanosecond, on caches that hold what a launch of that size touches."""


def coarsen(steps: Sequence[Step]) -> list[Step]:
    """Steps whose launches hand out chunks of at least `CHUNK` nanoseconds.

    A launch that is shorter as a whole then runs on the caller's thread and wakes nobody, as
    `tw_parallel` calls directly what is one chunk. Grains stay multiples of what kernels ask for.
    """
    return [_coarsen(step) for step in steps]


def _coarsen(step: Step) -> Step:
    if isinstance(step, Launch):
        return replace(step, grain=_grain(step))
    if isinstance(step, Branch):
        return replace(
            step, then=tuple(coarsen(step.then)), otherwise=tuple(coarsen(step.otherwise))
        )
    return replace(step, body=tuple(coarsen(step.body))) if isinstance(step, Repeat) else step


def _grain(launch: Launch) -> Dim:
    # in shares of a nanosecond, so that nothing is rounded before the division
    work = launch.flops * BYTES + launch.bytes * FLOPS
    if work == 0 or launch.units == 1:
        return launch.grain
    least = ceildiv(launch.units * (CHUNK * FLOPS * BYTES), work)
    return launch.grain * ceildiv(least, launch.grain)
