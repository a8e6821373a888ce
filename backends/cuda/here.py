"""Whether this machine has a GPU that runs a target."""

from __future__ import annotations

from tilewright.backends.cuda.toolchain import architecture
from tilewright.backends.target import Target
from tilewright.runtime.cuda.device import fits, open_device
from tilewright.runtime.errors import TargetError


def device_here() -> str:
    """Name and compute capability of this machine's GPU, "" if there is none to use."""
    try:
        device = open_device("")
    except TargetError:
        return ""
    major, minor = device.capability
    return f"{device.name} (compute capability {major}.{minor})"


def why_not_here(target: Target) -> str:
    """Why this machine cannot run code of a GPU row; "" if it can."""
    try:
        device = open_device(target.name)
    except TargetError as refusal:
        return f"{refusal.what}: {refusal.found}"
    if fits(device.capability, (target.cpu, architecture(target))):
        return ""
    return f"it needs {target.cpu}, here is {device_here()}"
