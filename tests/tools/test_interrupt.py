"""Ctrl-C and Ctrl-Z while workers run."""

import signal
import threading

import pytest

from tilewright.tools.cli import interrupt


@pytest.mark.parametrize(("pending", "ends"), [({signal.SIGINT}, True), ({signal.SIGCONT}, False)])
def test_only_an_interrupt_ends_the_block(monkeypatch, pending: set[int], ends: bool) -> None:
    """A process that is stopped and continued goes on."""
    stop, ended = threading.Event(), []

    def answer() -> set[int]:
        stop.set()
        return pending

    monkeypatch.setattr(signal, "sigpending", answer)
    monkeypatch.setattr(signal, "sigwait", lambda signals: signal.SIGINT)
    monkeypatch.setattr(interrupt._thread, "interrupt_main", lambda: ended.append(True))
    interrupt._wait(stop)
    assert bool(ended) == ends
