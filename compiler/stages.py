"""The stages of a compile as it runs: their times, and where to stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stages:
    """Times the stages and remembers whether the last one asked for was done.

    seconds: wall time by stage, summed over its runs.
    """

    def __init__(self, stop_after: str | None) -> None:
        self.stop_after = stop_after
        self.seconds: dict[str, float] = {}
        self.stopped = False

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside belongs to stage `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.stopped = name == self.stop_after
