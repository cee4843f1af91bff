"""SIGTERM and Ctrl-C end a run between two steps, after its state was saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """`asked` once a signal came."""

    asked = False


@contextmanager
def stop_when_asked() -> Iterator[Stop]:
    """Note SIGTERM and SIGINT instead of dying of them; a second Ctrl-C interrupts at once.

    Outside the main thread Python takes no signals, and nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
