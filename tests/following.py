"""``llm-finops run --follow`` in a process of its own, and what must come out of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.exceptions import DatabaseError

from sinks.clickhouse import PASSWORD_VARIABLE
from sources.generate import Record
from tests.sinks.front.conftest import PASSWORDS, Served


class Follower:
    """A run in a process group of its own."""

    def __init__(self, from_: str, to: str, *more: str) -> None:
        tool = Path(sys.executable).with_name("llm-finops")
        self._command = [str(tool), "run", "--follow", "--from", from_, "--to", to, "--quiet", "--format", "json", *more]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environ = {**os.environ, PASSWORD_VARIABLE: PASSWORDS["writer"]}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True, env=environ
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def end(self) -> tuple[dict[str, Any], str]:
        """End it in order; its counts, and what it said."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        counts, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, self.words()
        return json.loads(counts), self.words()

    def words(self) -> str:
        """What it has said on standard error since it was started."""
        self._errors.seek(0)
        return self._errors.read()

    def said(self, words: str, times: int = 1) -> bool:
        """Whether it has said this so often."""
        return self.words().count(words) >= times


def written(server: Served) -> int:
    """Records that the ledger has; 0 while there is none."""
    return int(server.client().query("SELECT sum(records) FROM llm_finops.segments FINAL").result_rows[0][0]) if begun(server) else 0


def begun(server: Served) -> bool:
    """Whether a run has begun."""
    try:
        return bool(server.client().query("SELECT count() FROM llm_finops.runs").result_rows[0][0])
    except DatabaseError:  # nobody has made the tables yet
        return False


def minutes_hold(server: Served) -> int:
    """Calls that the minutes have."""
    return int(server.client().query("SELECT sum(calls) FROM llm_finops.minutes FINAL").result_rows[0][0])


def wait(until: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def truth(records: Iterable[Record]) -> dict[str, Any]:
    """A plain loop over what was written: calls by minute and team, and the tokens of those whose vendor reports them."""
    calls: Counter[tuple[int, str]] = Counter()
    tokens: Counter[tuple[int, str]] = Counter()
    for record in records:
        if record.kind == "call":
            at = record.facts.time // 60_000_000 * 60
            calls[at, record.facts.team] += 1
            if record.facts.reported:
                tokens[at, record.facts.team] += sum(record.facts.leaves)
    return {"calls": dict(calls), "tokens": {key: count for key, count in tokens.items() if count}}
