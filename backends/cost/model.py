"""Analytic time of a launch: a roofline of the kernel's own counts over a machine profile.

    t = ((issued / rate)^p + (streamed / L2)^p + (far / L3 or DRAM)^p)^(1/p)
        + blocks * block + converted * convert + epilogue * elementwise + launch

with counts from the family's `Cost`, rates and bandwidths from the profile, and the profile's
fitted constants (compiler reference B5; the register block's efficiency is in `issued`). ``far``:
bytes that come from beyond L2: weights of a model that exceed it, operands that exceed it. Threads
take whole units: t scales with the units of the busiest one, and each core has the bandwidth of
two at work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Cost, KernelFamily, evaluate
from tilewright.backends.profile import Bandwidth, MachineProfile
from tilewright.backends.target import Target


@dataclass(frozen=True)
class Prediction:
    """Seconds of one launch, and of its parts on one thread alone.

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
    return of_cost(cost, units, profile, threads, cold)


def of_cost(
    cost: Cost, units: int, profile: MachineProfile, threads: int = 1, cold: bool = True
) -> Prediction:
    """The time of ``cost`` cut into ``units`` equal units."""
    fit = profile.fit
    compute = (cost.issued or cost.flops) / (
        profile.rate(cost.unit).sustained * fit.rate.get(cost.unit, 1.0)
    )
    shared = threads > 1
    near = (cost.streamed or cost.bytes) / (_each(profile.read.l2, shared) * fit.stream)
    far = _far_bytes(cost, profile, cold) / (_each(profile.read.l3, shared) * fit.far)
    blocks = cost.blocks * fit.block_ns * 1e-9
    convert = cost.converted * fit.convert / profile.vector
    epilogue = cost.epilogue * fit.epilogue / profile.vector
    launch = (fit.launch_ns + profile.launch_ns) * 1e-9
    p = fit.overlap
    together = (compute**p + near**p + far**p) ** (1 / p) + blocks + convert + epilogue
    if shared and units > 1:
        together *= -(-units // threads) / units
        launch += profile.region_ns * 1e-9
    seconds = together + launch
    return Prediction(seconds, compute, near, far, blocks, convert, epilogue, launch)


def _far_bytes(cost: Cost, profile: MachineProfile, cold: bool) -> int:
    """Bytes from beyond L2: all weights once when cold, and again for every pass over them when
    they leave no room in L2; operands and results when they exceed it."""
    exceeds = cost.bytes > profile.l2
    weights = cost.weights if cold or exceeds else 0
    if cost.weights > profile.l2 * 3 // 4:
        weights += cost.weights * (cost.passes - 1)
    return weights + (cost.bytes - cost.weights if exceeds else 0)


def _each(bandwidth: Bandwidth, shared: bool) -> float:
    return bandwidth.two if shared else bandwidth.one
