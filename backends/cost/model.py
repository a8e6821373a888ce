"""Analytic time of a launch: a roofline of the kernel's own counts over a machine profile.

    t = (((issued / rate)^p + (streamed / L2)^p + (far / L3 or DRAM)^p)^(1/p)
         + blocks * block + converted * convert + epilogue * elementwise) * family + launch

with counts from the family's `Cost`, rates and bandwidths from the profile, and the profile's
fitted constants (compiler reference B5; the register block's efficiency is in `issued`). ``far``:
bytes that come from beyond L2: weights of a model that exceed it, operands that exceed it.

Threads: the pool cuts the units into one run of neighbours for each, and t is that of the longest.
It converts each block of rows that it touches, and reads the weights that its units need: all of
them if it has whole blocks of rows, else its part. Each core has the bandwidth of two at work and
a fitted part of its rate alone; a parallel region comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from tilewright.backends.kernels.family import Cost, KernelFamily, evaluate
from tilewright.backends.profile import Bandwidth, MachineProfile
from tilewright.backends.target import Target


@dataclass(frozen=True)
class Prediction:
    """Seconds of one launch, and of its parts on the thread that has most of it, before the factor
    of the family.

    ``compute``, ``near`` (from L2) and ``far`` (from L3 or DRAM) overlap; the others do not.
    """

    seconds: float
    compute: float
    near: float
    far: float
    blocks: float
    convert: float
    epilogue: float
    launch: float


def predict(
    family: KernelFamily,
    spec: Any,
    dims: tuple[int, ...],
    target: Target,
    profile: MachineProfile,
    threads: int = 1,
    cold: bool = True,
) -> float:
    """Seconds of one launch of ``spec`` at ``dims`` (as `KernelFamily.cost` takes them).

    ``cold``: the model's weights exceed the caches of one core, so that they come from L3 or DRAM
    at every run; else those of this launch are where its last run left them. Raises ValueError
    for a unit that the profile's machine does not have.
    """
    return explain(family, spec, dims, target, profile, threads, cold).seconds


def explain(
    family: KernelFamily,
    spec: Any,
    dims: tuple[int, ...],
    target: Target,
    profile: MachineProfile,
    threads: int = 1,
    cold: bool = True,
) -> Prediction:
    """As `predict`, with the parts."""
    cost = family.cost(spec, dims, target)
    units = evaluate(family.units(spec), dims)
    return of_cost(cost, units, profile, threads, cold, family.name)


def of_cost(
    cost: Cost,
    units: int,
    profile: MachineProfile,
    threads: int = 1,
    cold: bool = True,
    family: str = "",
) -> Prediction:
    """The time of ``cost`` cut into ``units`` equal units, for a kernel family of that name."""
    fit = profile.fit
    share = -(-units // threads) / units if units > 1 else 1.0
    shared = share < 1
    # What a core does in a second, by that of one which works alone.
    pace = fit.together if shared else 1.0
    rate = profile.rate(cost.unit).sustained * fit.rate.get(cost.unit, 1.0) * pace
    compute = (cost.issued or cost.flops) * share / rate
    near = (cost.streamed or cost.bytes) * share / (_each(profile.read.l2, shared) * fit.stream)
    beyond = _each(profile.read.l3, shared) * fit.far * (fit.far_together if shared else 1.0)
    far = _far_bytes(cost, profile, cold, share) / beyond
    blocks = cost.blocks * share * fit.block_ns * 1e-9 / pace
    convert = cost.converted * _rows(cost, share) * fit.convert / (profile.vector * pace)
    epilogue = cost.epilogue * share * fit.epilogue / (profile.vector * pace)
    launch = (fit.launch_ns + profile.launch_ns) * 1e-9
    if shared:
        launch += fit.region * profile.region_ns * 1e-9
    p = fit.overlap
    work = (compute**p + near**p + far**p) ** (1 / p) + blocks + convert + epilogue
    seconds = work * fit.family.get(family, 1.0) + launch
    return Prediction(seconds, compute, near, far, blocks, convert, epilogue, launch)


def _rows(cost: Cost, share: float) -> float:
    """The part of all conversions that a thread with ``share`` of the units does: those of the
    blocks of rows that it touches; without weights each unit has its own."""
    if not cost.weights or cost.passes < 1:
        return share
    return ceil(cost.passes * share) / cost.passes


def _far_bytes(cost: Cost, profile: MachineProfile, cold: bool, share: float) -> float:
    """Bytes from beyond L2 for ``share`` of the units: all weights once when cold, and again for
    every pass over them when they leave no room in L2; operands and results when they exceed it.
    """
    exceeds = cost.bytes > profile.l2
    passes = cost.passes * share
    once = min(passes, 1.0)
    weights = cost.weights * once if cold or exceeds else 0.0
    if cost.weights > profile.l2 * 3 // 4:
        weights += cost.weights * (passes - once)
    return weights + ((cost.bytes - cost.weights) * share if exceeds else 0.0)


def _each(bandwidth: Bandwidth, shared: bool) -> float:
    return bandwidth.two if shared else bandwidth.one
