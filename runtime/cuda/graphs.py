"""Runs that were captured as CUDA graphs, the latest used ones kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from tilewright.runtime.cuda.device import Device

_KEPT = 256
"""Graphs of a session: as many as a decoding loop has steps."""
_REMEMBERED = 1024
"""Shapes that ran once. A shape that comes a second time is captured: a decoding loop, whose every
step has a new one, never pays for a capture."""


class Graphs:
    """Executable graphs by what they depend on: sizes and addresses."""

    def __init__(self, device: Device) -> None:
        self._driver = device.driver
        self._graphs: OrderedDict[Hashable, Any] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        # Capturing in the stream of runs would forbid other threads the default stream meanwhile.
        self._stream = self._driver("cuStreamCreate", 1)

    def find(self, key: Hashable) -> Any | None:
        """The graph of a run, if it was captured."""
        found = self._graphs.get(key)
        if found is not None:
            self._graphs.move_to_end(key)
        return found

    def again(self, key: Hashable) -> bool:
        """Whether a run like this one happened before."""
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def capture(self, key: Hashable, record: Callable[[Any], None]) -> Any:
        """The graph of what `record` queues in the stream that it is given."""
        driver = self._driver
        mode = driver.module.CUstreamCaptureMode(2)  # relaxed: other threads do as they like
        driver("cuStreamBeginCapture", self._stream, mode)
        try:
            record(self._stream)
        except BaseException:
            driver.module.cuStreamEndCapture(self._stream)
            raise
        graph = driver("cuStreamEndCapture", self._stream)
        try:
            found = driver("cuGraphInstantiate", graph, 0)
        finally:
            driver.module.cuGraphDestroy(graph)
        self._graphs[key] = found
        if len(self._graphs) > _KEPT:
            _, oldest = self._graphs.popitem(last=False)
            driver.module.cuGraphExecDestroy(oldest)
        return found

    def clear(self) -> None:
        """Forget all graphs, after their last runs: memory that they use will move."""
        if self._graphs:
            self._driver("cuCtxSynchronize")
        for graph in self._graphs.values():
            self._driver.module.cuGraphExecDestroy(graph)
        self._graphs.clear()

    def close(self) -> None:
        """Free everything."""
        self.clear()
        self._driver.module.cuStreamDestroy(self._stream)
