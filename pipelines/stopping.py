"""Ctrl-C and SIGTERM: the first asks the run to end in order, the second ends it at once."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """While the block runs, remember that somebody asked to stop::

        with Stopping() as stopping:
            run(job, stopping.asked)

    Raises:
        KeyboardInterrupt: at the second signal, wherever the program is.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Stopping:
        for each in _SIGNALS:
            self._before[each] = signal.signal(each, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        sys.stderr.write("\nstopping: what is being read is finished first, some seconds; once more ends it at once\n")
        sys.stderr.flush()
