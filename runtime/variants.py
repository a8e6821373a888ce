"""The choice among the variants of an artifact: one for a GPU before those for the CPU."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.runtime.cpu import runnable_variants
from tilewright.runtime.errors import TargetError
from tilewright.runtime.manifest import Variant

CUDA = "cuda"
"""`Variant.machine` of code for NVIDIA GPUs."""


def runnable(where: str, variants: Sequence[Variant]) -> list[Variant]:
    """The variants that this machine can run, best first.

    Raises TargetError if there are none: with what keeps the CPU's from running where there are
    such, else with what keeps the GPU's.
    """
    gpu = [variant for variant in variants if variant.machine == CUDA]
    cpu = [variant for variant in variants if variant.machine != CUDA]
    found: list[Variant] = []
    if gpu:
        from tilewright.runtime.cuda.device import runnable_on_device

        try:
            found = runnable_on_device(where, gpu)
        except TargetError:
            if not cpu:
                raise
    if cpu:
        try:
            found += runnable_variants(where, cpu)
        except TargetError:
            if not found:
                raise
    return found
