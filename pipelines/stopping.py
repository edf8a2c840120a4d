"""Ctrl-C and SIGTERM: the first asks the run to end in order, the second ends it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

from pipelines.lines import say

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_NOTE: Final = "what is being read is finished first, some seconds"


def _interrupt() -> None:
    raise KeyboardInterrupt


class Stopping:
    """While the block runs, remember that somebody asked to stop::

        with Stopping() as stopping:
            run(job, stopping.asked)

    Raises:
        KeyboardInterrupt: at the second signal, wherever the program is, unless that was given another meaning.
    """

    def __init__(
        self, note: str = _NOTE, then: Callable[[], None] = lambda: None, again: Callable[[], None] = _interrupt
    ) -> None:
        """``note`` is what a person reads at the first signal, ``then`` is called at it, ``again`` at every later one."""
        self._note, self._then, self._again = note, then, again
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
            self._again()
            return
        self._asked = True
        self._then()
        if sys.stderr.isatty():
            sys.stderr.write("\n")
        say(f"stopping: {self._note}; once more ends it at once", "stopping")
