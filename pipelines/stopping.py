"""Ctrl-C and SIGTERM: the first asks the run to end in order, the second ends it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_NOTE: Final = "what is being read is finished first, some seconds"


class Stopping:
    """While the block runs, remember that somebody asked to stop::

        with Stopping() as stopping:
            run(job, stopping.asked)

    Raises:
        KeyboardInterrupt: at the second signal, wherever the program is.
    """

    def __init__(self, note: str = _NOTE, then: Callable[[], None] = lambda: None) -> None:
        """``note`` is what a person reads at the first signal, ``then`` is called at it."""
        self._note, self._then = note, then
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Stopping:
        for each in _SIGNALS:
            self._before[each] = signal.signal(each, self._signalled)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._then()
        sys.stderr.write(f"\nstopping: {self._note}; once more ends it at once\n")
        sys.stderr.flush()
