"""torch.compile of several models in processes of their own: compiled before anything is timed.

Each process compiles its model, which takes a minute of several cores, says so, and waits; when it
is told to, it measures and ends. So the GPU is quiet while times are taken, and what compiles too
slowly is left out.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO

READY = "ready"
MEASURE_SECONDS = 30.0
"""That measuring one may take."""


@dataclass
class _Peer:
    name: str
    process: subprocess.Popen[str] | None = None
    errors: IO[str] | None = None
    ready: bool = False


class Peers:
    """Processes by name, of which so many compile at a time, until `seconds` have passed.

    command: of a name, what prints READY, waits for a line and prints a document as JSON.
    """

    def __init__(
        self,
        names: Sequence[str],
        command: Callable[[str], Sequence[str]],
        seconds: float,
        together: int = 2,
    ) -> None:
        self._peers = {name: _Peer(name) for name in names}
        self._command = command
        self._end = time.monotonic() + seconds
        self._waiting = list(self._peers.values())
        self._lock = threading.Lock()
        self._starters = [threading.Thread(target=self._start) for _ in range(together)]
        for starter in self._starters:
            starter.start()

    def __enter__(self) -> Peers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end = 0.0
        for peer in self._peers.values():
            self._stop(peer)
        for starter in self._starters:
            starter.join()

    def _start(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or time.monotonic() >= self._end:
                    return
                peer = self._waiting.pop(0)
                # In a file, which nothing has to read while the process runs.
                peer.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
                peer.process = subprocess.Popen(
                    self._command(peer.name),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=peer.errors,
                    text=True,
                )
            timer = threading.Timer(max(self._end - time.monotonic(), 0), self._stop, [peer])
            timer.start()
            assert peer.process.stdout is not None
            line = peer.process.stdout.readline()
            timer.cancel()
            peer.ready = line.strip() == READY

    def wait(self) -> None:
        """Until all are ready or late."""
        for starter in self._starters:
            starter.join()

    def measure(self, name: str) -> dict[str, float] | str:
        """What the process found; why there is nothing."""
        peer = self._peers[name]
        process = peer.process
        if process is None:
            return "not started in time"
        if not peer.ready:
            late = process.wait() == -signal.SIGKILL
            return "not compiled in time" if late else f"failed: {_last(peer.errors)}"
        try:
            out, _ = process.communicate("go\n", timeout=MEASURE_SECONDS)
        except subprocess.TimeoutExpired:
            self._stop(peer)
            return "not measured in time"
        if process.returncode:
            return f"failed: {_last(peer.errors)}"
        found: dict[str, float] = json.loads(out.splitlines()[-1])
        return found

    def _stop(self, peer: _Peer) -> None:
        process = peer.process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


def _last(errors: IO[str] | None) -> str:
    assert errors is not None
    errors.seek(0)
    return " ".join(errors.read().strip().splitlines()[-1:])[:200]


def answer(measure: Callable[[], dict[str, float]]) -> None:
    """In such a process, once it has compiled: say so, wait, measure."""
    print(READY, flush=True)
    if sys.stdin.readline():
        print(json.dumps(measure()), flush=True)
