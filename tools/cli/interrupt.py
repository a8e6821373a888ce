"""Ctrl-C while worker processes run: it reaches this process alone, which then ends them.

A terminal sends SIGINT to all processes of a command. Workers would print tracebacks, and the pool
would wait for everything that is queued. So SIGINT is blocked here, which started processes
inherit, and a thread waits for it.
"""

from __future__ import annotations

import _thread
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_TICK_S = 0.1


@contextmanager
def ends_workers() -> Iterator[None]:
    """In the block Ctrl-C ends the worker processes and raises KeyboardInterrupt here."""
    stop = threading.Event()
    resource_tracker.ensure_running()  # the first worker would start it, which unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    thread = threading.Thread(target=_wait, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(stop: threading.Event) -> None:
    # sigtimedwait would do, but it reports a signal when the process was stopped and continued.
    while not stop.wait(_TICK_S):
        if signal.SIGINT in signal.sigpending():
            signal.sigwait({signal.SIGINT})
            for process in multiprocessing.active_children():
                process.terminate()
            _thread.interrupt_main()
            return
