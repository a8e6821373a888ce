"""Memory of outputs that stay on the device, used again when nothing refers to it any more.

A decoding loop feeds its caches back: every step wants memory for caches that are a little longer,
and lets go of those of the step before. The driver takes far longer than a step to give memory and
to take it back, for which it waits for all work. Runs of one session follow each other, so what
only they have read may be written by the next one.
"""

from __future__ import annotations

import weakref

from tilewright.runtime.cuda.device import Device, Memory
from tilewright.runtime.cuda.driver import OUT_OF_MEMORY, Failure

_LEAST = 512


class Lent:
    """Memory at `address` until the last reference is gone."""

    def __init__(self, memory: Memory, spares: Spares) -> None:
        self.address, self.spares = memory.address, spares
        self._seen = [False]
        weakref.finalize(self, spares.take_back, memory, self._seen).atexit = False

    def show(self) -> None:
        """Others get to know the address: what they still have queued when they let go of it is
        theirs to know, so the driver gets the memory back."""
        self._seen[0] = True


class Spares:
    """Blocks of one session; what waits is never more than what is lent."""

    def __init__(self, device: Device) -> None:
        self._device, self._closed = device, False
        self._blocks: list[Memory] = []
        self._lent: dict[int, int] = {}
        """Bytes by address."""

    def lend(self, size: int) -> Lent:
        """Memory of `size` bytes, up to a quarter more where it is new. Raises Failure."""
        while fits := [block for block in self._blocks if block.bytes >= size]:
            block = min(fits, key=lambda one: one.bytes)
            try:
                self._blocks.remove(block)
            except ValueError:  # `take_back`, in another thread, gave it to the driver
                continue
            return self._lend(block)
        step = max(_LEAST, 1 << max(0, size.bit_length() - 3))
        try:
            return self._lend(Memory(self._device, -(-size // step) * step))
        except Failure as failure:
            if failure.status != OUT_OF_MEMORY:
                raise
        self.clear()
        return self._lend(Memory(self._device, size))

    def _lend(self, memory: Memory) -> Lent:
        self._lent[memory.address] = memory.bytes
        return Lent(memory, self)

    def take_back(self, memory: Memory, seen: list[bool]) -> None:
        """Called when nothing refers to a block any more, in any thread."""
        self._lent.pop(memory.address, None)
        if self._closed or seen[0]:
            memory.free()
        else:
            self._blocks.append(memory)
        while sum(b.bytes for b in list(self._blocks)) > sum(list(self._lent.values())):
            self._free_one()

    def clear(self) -> None:
        """Give back what waits."""
        while self._blocks:
            self._free_one()

    def _free_one(self) -> None:
        try:
            block = self._blocks.pop(0)
        except IndexError:  # another thread took it
            return
        block.free()

    def close(self) -> None:
        """Give back all, what is lent when it comes back."""
        self._closed = True
        self.clear()
