"""Analytic time of a launch on a GPU: waves of blocks, arithmetic beside memory, and the launch.

A profile of a GPU holds the figures of all its multiprocessors together, `cores` is their number.
Blocks of a launch run in waves of one a multiprocessor, and the last wave takes as long as a full
one; few blocks do not draw the whole bandwidth either. Blocks that share a multiprocessor hide each
other's latency, which the fitted rates have in them.
"""

from __future__ import annotations

from tilewright.backends.kernels.family import Cost
from tilewright.backends.profile import MachineProfile

DRAWN = 0.5
"""Part of the multiprocessors that draws the whole bandwidth."""


def parts(
    cost: Cost, units: int, profile: MachineProfile, cold: bool
) -> tuple[float, float, float, float]:
    """Seconds of arithmetic, of memory within the common cache, of memory beyond it, and of the
    launch; the first three run beside each other. ``units``: blocks."""
    fit = profile.fit
    waves = -(-units // profile.cores)
    busy = units / (waves * profile.cores) if units > 0 else 1.0
    rate = profile.rate(cost.unit).sustained * fit.rate.get(cost.unit, 1.0)
    compute = cost.nanoseconds * 1e-9 or (cost.issued or cost.flops) / (rate * busy)
    compute += cost.epilogue * fit.epilogue / (profile.vector * busy)
    drawn = min(1.0, units / (DRAWN * profile.cores)) if units > 0 else 1.0
    far = cost.bytes if cost.bytes > profile.l2 else cost.weights if cold else 0
    near = max(cost.streamed, cost.bytes) / (profile.read.l2.one * fit.stream * drawn)
    beyond = far / (profile.read.dram.one * fit.far * drawn)
    launch = (fit.launch_ns + profile.launch_ns) * 1e-9
    return compute, near, beyond, launch
