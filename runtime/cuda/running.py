"""Runs the steps of a program: launches in a stream, with sizes that data decide read back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from tilewright.runtime.cuda.device import Memory, Pinned, grown
from tilewright.runtime.cuda.launching import Straight
from tilewright.runtime.cuda.model import DeviceModel
from tilewright.runtime.cuda.program import Branch, Copy, Launch, Place, Repeat, Step
from tilewright.runtime.cuda.sizes import compiled

_WORD = 4
"""Bytes of a status word."""
_COUNT = 8
"""Bytes of a value that a kernel counts."""


class Timer:
    """Events around every launch of a run, and the sums over runs. `calls` and `nanoseconds` by
    launch number."""

    def __init__(self, model: DeviceModel, launches: int) -> None:
        self._driver = model.device.driver
        self.nanoseconds, self.calls = [0] * launches, [0] * launches
        self._events: list[tuple[int, Any, Any]] = []
        self._spare: list[Any] = []

    def event(self, stream: Any) -> Any:
        """A recorded event."""
        found = self._spare.pop() if self._spare else self._driver("cuEventCreate", 0)
        self._driver("cuEventRecord", found, stream)
        return found

    def add(self, number: int, begin: Any, end: Any) -> None:
        """A launch between two events."""
        self._events.append((number, begin, end))

    def collect(self) -> None:
        """Take the times; everything has run."""
        for number, begin, end in self._events:
            spent = self._driver("cuEventElapsedTime", begin, end)
            self.nanoseconds[number] += round(spent * 1e6)
            self.calls[number] += 1
            self._spare += [begin, end]
        self._events.clear()

    def close(self) -> None:
        """Give the events back."""
        for event in self._spare:
            self._driver("cuEventDestroy", event)
        self._spare.clear()


class Runner:
    """The steps of one session, with what launches keep between runs.

    `values`: of symbols and counters, by slot. `addresses`: of the arena's buffers, weights, inputs
    and outputs. Both are set before a run; a run changes the values of data symbols and counters.
    """

    def __init__(self, model: DeviceModel) -> None:
        self.model = model
        program = self.program = model.program
        self.inputs_at = len(program.buffers) + len(program.weights)
        outputs_at = self.inputs_at + len(program.inputs)
        self._firsts = {
            "arena": 0,
            "weight": len(program.buffers),
            "input": self.inputs_at,
            "output": outputs_at,
        }
        self.values = [0] * len(program.slots)
        self.addresses = [0] * (outputs_at + len(program.outputs))
        self.addresses[len(program.buffers) : self.inputs_at] = model.addresses
        self.workspace = Memory(model.device, 0)
        self.timer: Timer | None = None
        self.moving: Callable[[], None] = lambda: None
        """Called before memory that launches use is freed."""
        self._number = 0
        self._codes: list[int] = []
        self._straight: list[Straight] = []
        self.control = Pinned(model.device, 64 + self._layout(program.steps))
        self._run: Callable[[Any], None] = self._block(program.steps)
        self._synchronize = model.device.driver.checked("cuStreamSynchronize")

    # The control block: words that kernels write to and the host reads ------------------------

    def _layout(self, steps: Sequence[Step]) -> int:
        self._collect(steps)
        self._counts_at = -(-_WORD * (1 + len(self._codes)) // _COUNT) * _COUNT
        self._flag_at = self._counts_at + _COUNT * len(self.program.slots)
        return self._flag_at + 1

    def _collect(self, steps: Sequence[Step]) -> None:
        """Every error code of a launch gets a word, in the order in which they can happen."""
        for step in steps:
            if isinstance(step, Launch) and step.error is not None:
                if step.error not in self._codes:
                    self._codes.append(step.error)
            elif isinstance(step, Branch):
                self._collect(step.then)
                self._collect(step.otherwise)
            elif isinstance(step, Repeat):
                self._collect(step.body)

    def failed(self) -> int:
        """The error code of a launch that failed in the run that has ended, else 0. Clears it."""
        count = 1 + len(self._codes)
        words = (ctypes.c_int32 * count).from_address(self.control.address)
        if not any(words):
            return 0
        found = [code for code, word in zip(self._codes, words[1:], strict=True) if word]
        ctypes.memset(self.control.address, 0, count * _WORD)
        return found[0] if found else -1

    # Blocks of steps --------------------------------------------------------------------------

    def run(self, stream: Any) -> None:
        """Queue all steps; waits for the stream where data decide how to go on."""
        self._run(stream)

    def release(self) -> None:
        """Give memory and weights back now; nothing can be run afterwards."""
        self.workspace.free()
        self.control.free()
        # The steps are closures over this object: without them nothing refers to itself.
        self._run = _nothing
        self._straight.clear()

    def prepare(self) -> None:
        """Make the workspace large enough for all launches of a program whose shapes alone decide.

        Before a capture, since nothing may be allocated inside of it.
        """
        needed = [one.prepare(self.values, self.addresses) for one in self._straight]
        self._grow(max(needed, default=0), None)

    def _grow(self, needed: int, stream: Any) -> None:
        if needed > self.workspace.bytes:
            if stream is not None:
                self._synchronize(stream)
            self.moving()
            before = self.workspace.bytes
            self.workspace.free()
            self.workspace = Memory(self.model.device, 0)
            self.workspace = grown(self.model.device, before, needed)

    def _block(self, steps: Sequence[Step]) -> Callable[[Any], None]:
        parts: list[Callable[[Any], None]] = []
        waiting: list[Launch | Copy] = []

        def flush() -> None:
            if waiting:
                parts.append(self._queue(tuple(waiting)))
                waiting.clear()

        for step in steps:
            if isinstance(step, Launch | Copy):
                waiting.append(step)
                if isinstance(step, Launch) and step.counts:
                    flush()  # what follows depends on what is counted
                continue
            flush()
            parts.append(self._branch(step) if isinstance(step, Branch) else self._repeat(step))
        flush()

        def run(stream: Any) -> None:
            for part in parts:
                part(stream)

        return run

    def _base(self, place: Place) -> int:
        return self._firsts[place.kind] + place.index

    def _queue(self, steps: Sequence[Launch | Copy]) -> Callable[[Any], None]:
        """Launches and copies, of which only the last one may count values."""
        mapped = self.control.mapped
        numbered: list[tuple[Launch | Copy, int | None, Sequence[int]]] = []
        for step in steps:
            if isinstance(step, Copy):
                numbered.append((step, None, ()))
                continue
            word = 0 if step.error is None else 1 + self._codes.index(step.error)
            counts = [mapped + self._counts_at + _COUNT * slot for slot in step.counts]
            numbered.append((step, self._number, (*counts, mapped + _WORD * word)))
            self._number += 1
        state = Straight(self.model, numbered, self._base)
        self._straight.append(state)
        slots = steps[-1].counts if isinstance(steps[-1], Launch) else ()

        def run(stream: Any) -> None:
            needed = state.prepare(self.values, self.addresses)
            if needed > self.workspace.bytes:
                self._grow(needed, stream)
            state.store(self.workspace.address)
            if self.timer is None:
                state.queue(stream)
            else:
                state.queue_timed(stream, self.timer)
            if slots:
                self._read_counts(slots, stream)

        return run

    def _read_counts(self, slots: Sequence[int], stream: Any) -> None:
        self._synchronize(stream)
        for slot in slots:
            at = self.control.address + self._counts_at + _COUNT * slot
            self.values[slot] = ctypes.c_int64.from_address(at).value

    def _flag(self, place: Place) -> Callable[[Any], bool]:
        """Reads the bool at a place."""
        base = self._base(place)
        offset = compiled([place.offset], self.program.slots)
        copy = self.model.device.driver.checked("cuMemcpyDtoHAsync")
        flag = self.control.address + self._flag_at

        def read(stream: Any) -> bool:
            copy(flag, self.addresses[base] + offset(self.values)[0], 1, stream)
            self._synchronize(stream)
            return bool(ctypes.c_uint8.from_address(flag).value)

        return read

    def _branch(self, step: Branch) -> Callable[[Any], None]:
        condition = self._flag(step.condition)
        then, otherwise = self._block(step.then), self._block(step.otherwise)

        def run(stream: Any) -> None:
            if condition(stream):
                then(stream)
            else:
                otherwise(stream)

        return run

    def _repeat(self, step: Repeat) -> Callable[[Any], None]:
        condition = None if step.condition is None else self._flag(step.condition)
        body = self._block(step.body)
        trips = None if step.trips is None else compiled([step.trips], self.program.slots)
        counter, values = step.counter, self.values

        def run(stream: Any) -> None:
            values[counter] = 0
            while (trips is None or values[counter] < trips(values)[0]) and (
                condition is None or condition(stream)
            ):
                body(stream)
                values[counter] += 1
            if step.length is not None:
                values[step.length] = values[counter]

        return run


def _nothing(stream: Any) -> None:
    raise AssertionError("the session is closed")
