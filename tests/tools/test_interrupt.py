"""Ctrl-C and Ctrl-Z while workers run."""

import signal
import threading
from types import SimpleNamespace

import pytest

from tilewright.tools.cli import interrupt


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, True), (-1798980640, False)])
def test_only_an_interrupt_ends_the_block(monkeypatch, number: int, ends: bool) -> None:
    """After a stop the system call gives an answer that means nothing."""
    stop, ended = threading.Event(), []

    def answer(*_: object) -> SimpleNamespace:
        stop.set()
        return SimpleNamespace(si_signo=number)

    monkeypatch.setattr(signal, "sigtimedwait", answer)
    monkeypatch.setattr(interrupt._thread, "interrupt_main", lambda: ended.append(True))
    interrupt._wait(stop)
    assert bool(ended) == ends
