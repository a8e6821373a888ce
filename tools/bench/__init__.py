"""Interleaved timing, the description of the machine, and their JSON record."""

from tilewright.tools.bench.machine import machine
from tilewright.tools.bench.record import record
from tilewright.tools.bench.timing import Timing, interleave

__all__ = ["Timing", "interleave", "machine", "record"]
