"""Interleaved timing, the description of the machine, and their JSON record."""

from tilewright.tools.bench.machine import machine
from tilewright.tools.bench.record import record
from tilewright.tools.bench.timing import Elapsed, Timing, interleave

__all__ = ["Elapsed", "Timing", "interleave", "machine", "record"]
