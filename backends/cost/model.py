"""Analytic time of a launch: a roofline of the kernel's own counts over a machine profile.

    t = (((issued / rate)^p + (streamed / L2)^p + (far / L3 or DRAM + written / store)^p)^(1/p)
         + blocks * block + converted * convert + epilogue * elementwise) * family + launch

with counts from the family's `Cost`, rates and bandwidths from the profile, and the profile's
fitted constants (compiler reference B5; the register block's efficiency is in `issued`). ``far``:
bytes that come from beyond L2: weights of a model that exceed it, operands that exceed it.
``store``: part of the read bandwidth of the level that the launch's operands and results fit in. A
store that misses waits for its line: 3136 x 64 x 256 in bf16 takes 98 us with all rows of its
results in one place and 248 us with 3.2 MB of them, which is 21 GB/s, where reads from L3 run at 28
(f32_matmul: 580 and 629 us, as most of it passes beside FMAs).

Weights of a model that exceed L3 come from DRAM (`of_model`). Kernels that ask for them in time
lose nothing by it as long as the rest takes longer; others wait for all of them: in ResNet-50, 102
MB of weights beside 110 MB of L3, the last 3 x 3 convolutions take 2.2 ms in bf16_direct_conv and
2.5 in f32_winograd, but 1.1 and 1.4 with a few copies of the weights; f32_conv takes 1.4 in both.

Threads: the pool cuts the units into one run of neighbours for each, and t is that of the longest.
It converts each block of rows that it touches, and reads the weights that its units need: all of
them if it has whole blocks of rows, else its part. Each core has the bandwidth of two at work and
a fitted part of its rate alone; a parallel region comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from tilewright.backends.cost import gpu
from tilewright.backends.kernels.family import Cost, KernelFamily, evaluate
from tilewright.backends.profile import Bandwidth, MachineProfile
from tilewright.backends.target import Target


@dataclass(frozen=True)
class Prediction:
    """Seconds of one launch, and of its parts on the thread that has most of it, before the factor
    of the family.

    ``compute``, ``near`` (from L2) and ``far`` (from L3 or DRAM) with ``store`` overlap; the others
    do not.
    """

    seconds: float
    compute: float
    near: float
    far: float
    store: float
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
    if target.gpu:
        return on_gpu(cost, units, profile, cold, family.name)
    return of_cost(cost, units, profile, threads, cold, family.name)


def on_gpu(
    cost: Cost, units: int, profile: MachineProfile, cold: bool = True, family: str = ""
) -> Prediction:
    """The time of ``cost`` in ``units`` blocks on a GPU (`cost.gpu`)."""
    compute, near, far, launch = gpu.parts(cost, units, profile, cold)
    work = max(compute, near, far) * profile.fit.family.get(family, 1.0)
    return Prediction(work + launch, compute, near, far, 0.0, 0.0, 0.0, 0.0, launch)


def of_model(profile: MachineProfile, weights: int) -> MachineProfile:
    """``profile`` as launches of a model see it that reads so many bytes of weights in a run.

    Between two runs half of L3 keeps what it holds, since rows, results and other cores' data pass
    too; what exceeds it comes from DRAM, all of it where L3 is exceeded.
    """
    keeps = profile.l3 // 2
    part = min(max(weights - keeps, 0) / keeps, 1.0) if keeps else 1.0
    if part == 0:
        return profile
    near, far, gain = profile.read.l3, profile.read.dram, profile.fit.far

    def mixed(near: float, far: float) -> float:
        return 1 / ((1 - part) / (near * gain) + part / far)

    return replace(profile, weights=Bandwidth(mixed(near.one, far.one), mixed(near.two, far.two)))


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
    exceeds = cost.bytes > profile.l2
    gain = fit.far * (fit.far_together if shared else 1.0)
    weights = _far_weights(cost, profile, cold, share) / (_each(profile.read.l3, shared) * gain)
    far = weights if cost.asked else 0.0
    level = profile.read.l2
    if exceeds:
        rest = (cost.bytes - cost.weights - cost.written) * share
        far += rest / (_each(profile.read.l3, shared) * gain)
        level = profile.read.l3 if cost.bytes <= profile.l3 or not profile.l3 else profile.write
    store = cost.written * share / (_each(level, shared) * fit.store)
    blocks = cost.blocks * share * fit.block_ns * 1e-9 / pace
    convert = cost.converted * _rows(cost, share) * fit.convert / (profile.vector * pace)
    epilogue = cost.epilogue * share * fit.epilogue / (profile.vector * pace)
    launch = (fit.launch_ns + profile.launch_ns) * 1e-9
    if shared:
        launch += fit.region * profile.region_ns * 1e-9
    p = fit.overlap
    work = (compute**p + near**p + (far + store) ** p) ** (1 / p) + blocks + convert + epilogue
    if not cost.asked:
        work += weights
        far += weights
    if profile.weights is not None and cold:
        once = cost.weights * min(cost.passes * share, 1.0)
        slow = once / _each(profile.weights, shared)
        hidden = work if cost.asked else once / (_each(profile.read.l3, shared) * gain)
        work += max(slow - hidden, 0.0)
    seconds = work * fit.family.get(family, 1.0) + launch
    return Prediction(seconds, compute, near, far, store, blocks, convert, epilogue, launch)


def _rows(cost: Cost, share: float) -> float:
    """The part of all conversions that a thread with ``share`` of the units does: those of the
    blocks of rows that it touches; without weights each unit has its own."""
    if not cost.weights or cost.passes < 1:
        return share
    return ceil(cost.passes * share) / cost.passes


def _far_weights(cost: Cost, profile: MachineProfile, cold: bool, share: float) -> float:
    """Bytes of weights from beyond L2 for ``share`` of the units: all of them once when cold, and
    again for every pass over them when they leave no room in L2."""
    passes = cost.passes * share
    once = min(passes, 1.0)
    weights = cost.weights * once if cold or cost.bytes > profile.l2 else 0.0
    if cost.weights > profile.l2 * 3 // 4:
        weights += cost.weights * (passes - once)
    return weights


def _each(bandwidth: Bandwidth, shared: bool) -> float:
    return bandwidth.two if shared else bandwidth.one
