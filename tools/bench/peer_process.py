"""A peer in a process of its own, for settings that a library reads only when it is loaded."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Open = Callable[[], Callable[[Mapping[str, Array]], list[Array]]]

ENDS_S = 5.0
"""How long the process may take to end by itself."""


class PeerProcess:
    """Runs a peer under environment variables. ``opens`` (picklable) makes the runner there.

    Raises RuntimeError with the peer's own words when it cannot be opened. A context manager.
    """

    def __init__(self, opens: Open, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, opens), daemon=True)
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        other.close()
        self._answer()

    def set(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Keep ``feeds`` for later runs, run once and give the outputs."""
        self._pipe.send(dict(feeds))
        outputs: Sequence[Array] = self._answer()
        return list(outputs)

    def run(self) -> int:
        """Nanoseconds of one run, measured over there."""
        self._pipe.send(None)
        nanoseconds: int = self._answer()
        return nanoseconds

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("its process ended unexpectedly") from None
        if kind == "error":
            raise RuntimeError(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(ENDS_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _serve(pipe: Connection, opens: Open) -> None:
    """Answer until the other end closes: feeds with outputs, None with the time of a run."""
    feeds: Mapping[str, Array] = {}
    try:
        runner = opens()
        pipe.send(("ready", None))
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            if asked is None:
                begin = time.perf_counter_ns()
                runner(feeds)
                pipe.send(("time", time.perf_counter_ns() - begin))
            else:
                feeds = asked
                pipe.send(("outputs", [np.array(a) for a in runner(feeds)]))
    except Exception as error:  # noqa: BLE001 - it is told to the process that asked
        pipe.send(("error", str(error).strip().partition("\n")[0] or type(error).__name__))
