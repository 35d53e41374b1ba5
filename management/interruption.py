"""
SIGTERM made to look like Ctrl-C, so that every `with` and `finally` runs before the process ends.

Without this a `kill` of the demo or of the tests would leave their servers to the kernel and their files to nobody.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Terminated(KeyboardInterrupt):
    """This process got SIGTERM. A KeyboardInterrupt, so that pytest and Django stop on it as they do on Ctrl-C."""


def interrupt_on_sigterm() -> None:
    """Raise `Terminated` on SIGTERM, unless somebody else handles it already or this is not the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise_terminated)


def _raise_terminated(signum: int, frame: FrameType | None) -> None:
    raise Terminated
