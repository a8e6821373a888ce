"""How much work a thread is handed at once: enough to pay for waking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.emitters import label
from tilewright.backends.llvm.program import Branch, Launch, Repeat, Step
from tilewright.backends.profile import MachineProfile
from tilewright.backends.target import Target
from tilewright.compiler.ir.dims import Dim, ceildiv, evaluate, symbols

REGIONS = 2
"""A thread's share takes at least the time of so many parallel regions. With one, two threads would
take as long as one; the rest is for what the other thread's cache has."""

TYPICAL = 64
"""Value of symbols where a family says what its operations run on."""


def coarsen(steps: Sequence[Step], target: Target, profile: MachineProfile) -> list[Step]:
    """Steps whose launches give every thread enough work for what a parallel region costs.

    A launch that is shorter than two such shares runs on the caller's thread and wakes nobody.
    """

    def several(inner: Sequence[Step]) -> tuple[Step, ...]:
        return tuple(coarsen(inner, target, profile))

    def one(step: Step) -> Step:
        if isinstance(step, Launch):
            return replace(step, least=_least(step, target, profile))
        if isinstance(step, Branch):
            return replace(step, then=several(step.then), otherwise=several(step.otherwise))
        return replace(step, body=several(step.body)) if isinstance(step, Repeat) else step

    return [one(step) for step in steps]


def _least(launch: Launch, target: Target, profile: MachineProfile) -> Dim:
    # Femtoseconds, as integers: rates of operations and bytes are both below 1e15 a second.
    flops, streamed = (round(1e15 / rate) for rate in _rates(launch, target, profile))
    work = launch.flops * flops + launch.bytes * streamed
    if work == 0 or launch.units == 1:
        return 1
    return ceildiv(launch.units * round(REGIONS * profile.region_ns * 1e6), work)


def _rates(launch: Launch, target: Target, profile: MachineProfile) -> tuple[float, float]:
    """Operations and bytes a second: of regions in vectors on what lies in L2; of products, whose
    weights are in no core's cache, on the units that they use; loop nests are scalar."""
    kind = label(launch.spec)
    if kind == "region":
        return profile.vector, profile.read.l2.one
    family = families().get(kind)
    if family is None:
        return profile.vector, profile.read.l3.one
    known = {name: TYPICAL for dim in launch.dims for name in symbols(dim)}
    dims = tuple(evaluate(dim, known) for dim in launch.dims)
    unit = family.cost(launch.spec, dims, target).unit
    rate = getattr(profile.rates, unit) or profile.rates.f32
    return rate.sustained, profile.read.l3.one
