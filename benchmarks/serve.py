"""Dashboards on ``llm-finops serve`` while calls are written: 50 readers ask without pause, a writer keeps its rate."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure
from schemas.tables import CALLS
from sinks.clickhouse import PASSWORD_VARIABLE, Store, StoreAddress, connect
from sinks.recompute import recompute
from sources.generate import GenerateSettings, write

READERS: Final = 50
RATE: Final = 1000
"""Calls written per second."""

STEP_S: Final = 2
SECONDS: Final = 60
HISTORY: Final = 20_000

OURS: Final = (sys.executable, "-c", "from pipelines.cli import main; main()")

_SUMS: Final = "sum(calls) AS n, sum(input_fresh) AS tokens, sum(cost) AS usd"
PANELS: Final = (
    f"SELECT {_SUMS} FROM days FINAL",
    f"SELECT minute, {_SUMS} FROM minutes FINAL WHERE minute >= now() - 3600 GROUP BY minute ORDER BY minute",
    f"SELECT minute, team, {_SUMS} FROM minutes FINAL WHERE minute >= now() - 900 GROUP BY minute, team ORDER BY minute, team",
    f"SELECT hour, provider, {_SUMS} FROM hours FINAL GROUP BY hour, provider ORDER BY hour, provider",
    f"SELECT team, {_SUMS} FROM hours FINAL GROUP BY team ORDER BY usd DESC LIMIT 10",
    f"SELECT model, {_SUMS} FROM days FINAL GROUP BY model ORDER BY usd DESC LIMIT 10",
    "SELECT app, sum(cost) / sum(calls) AS mean FROM hours FINAL GROUP BY app ORDER BY mean DESC LIMIT 10",
    "SELECT price_status, sum(calls) AS n FROM days FINAL GROUP BY price_status",
)
"""What the panels of a dashboard ask; the first one's count of calls must never fall."""

_CONFIG: Final = """
[[serve.users]]
name = "grafana"
role = "reader"
password_env = "BENCH_READER"
[[serve.users]]
name = "worker"
role = "writer"
password_env = "BENCH_WRITER"
"""


@dataclass
class _Seen:
    """What the readers saw; each adds to it."""

    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    fell: int = 0


@dataclass(frozen=True)
class Served:
    """A ``llm-finops serve`` over a store of its own: its process, port and password of the reader; that of the writer is set."""

    pid: int
    port: int
    to: str
    reader: str

    @property
    def writer(self) -> str:
        return f"http://worker@127.0.0.1:{self.port}"


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve an embedded store in ``folder`` while the block runs."""
    passwords = {"BENCH_READER": secrets.token_hex(8), "BENCH_WRITER": secrets.token_hex(8)}
    (folder / "serve.toml").write_text(_CONFIG, encoding="utf-8")
    to = f"chdb://{folder / 'serve-store'}"
    command = [*OURS, "serve", "--to", to, "--port", "0", "--config", str(folder / "serve.toml")]
    with subprocess.Popen(command, env={**os.environ, **passwords}, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            found = re.search(r"127\.0\.0\.1:(\d+) ", line := server.stderr.readline())
            if found is None:
                raise SystemExit(f"serve did not start: {line}")
            threading.Thread(target=server.stderr.read, daemon=True).start()
            os.environ[PASSWORD_VARIABLE] = passwords["BENCH_WRITER"]
            yield Served(server.pid, int(found[1]), to, passwords["BENCH_READER"])
        finally:
            server.terminate()


def serve_load(folder: Path) -> Iterator[Figure]:
    """Latency of dashboards and the rate of a writer, at once; every row is counted at the end."""
    logs = folder / "serve-logs"
    write(GenerateSettings(seed=9, calls=HISTORY, hours=24), logs)
    with served(folder) as server:
        run = [*OURS, "run", "--quiet", "--from", str(logs / "calls-*"), "--to", server.to]
        subprocess.run(run, check=True, capture_output=True)
        yield from _measure(connect(StoreAddress.parse(server.writer)), server.port, server.reader)


def _measure(store: Store, port: int, password: str) -> Iterator[Figure]:
    template = _template(store)
    _land(store, template, SECONDS)  # panels of the last hour have rows from the start
    before = _counted(store)
    seen, ended = _Seen(), threading.Event()
    readers = [threading.Thread(target=_read, args=(port, password, n, seen, ended)) for n in range(READERS)]
    for reader in readers:
        reader.start()
    began, took, behind, late, blocks = time.monotonic(), [], 0.0, 0.0, SECONDS // STEP_S
    for number in range(blocks):
        due = began + (number + 1) * STEP_S  # a block holds the calls of the seconds before it
        time.sleep(max(0.0, due - time.monotonic()))
        at = time.monotonic()
        behind = at - due
        _land(store, template, number)
        took.append((time.monotonic() - at) * 1000)
        late = time.monotonic() - due
    seconds = SECONDS + behind
    ended.set()
    for reader in readers:
        reader.join()
    after, written = _counted(store), blocks * STEP_S * RATE
    cuts = quantiles(seen.milliseconds, n=100)
    what = f"{READERS} readers without pause on {len(PANELS)} panels, {SECONDS} s, {RATE:,} calls/s written, one machine"
    yield Figure("serve_p50", cuts[49], "ms", what)
    yield Figure("serve_p95", cuts[94], "ms", what)
    yield Figure("serve_queries_per_s", len(seen.milliseconds) / seconds, "1/s", f"{len(seen.milliseconds):,} queries")
    yield Figure("serve_errors", len(seen.errors), "", seen.errors[0][:80] if seen.errors else "of all queries", 0, at_most=True)
    yield Figure("serve_totals_fell", seen.fell, "", "times a reader saw fewer calls than before", 0, at_most=True)
    yield Figure("serve_written", written / seconds, "calls/s", f"{written:,} calls in blocks of {STEP_S} s", 0.99 * RATE)
    yield Figure("serve_write_p50", sorted(took)[len(took) // 2], "ms", "a block: insert, and recompute of its minutes")
    yield Figure("serve_write_worst", max(took), "ms", "the slowest block")
    yield Figure("serve_write_late", late, "s", "after its time, the last block", STEP_S, at_most=True)
    lost = {name: before[name] + written - after[name] for name in after}
    yield Figure("serve_lost", sum(map(abs, lost.values())), "calls", f"missing or double at the end: {lost}", 0, at_most=True)


def _template(store: Store) -> pa.Table:
    """Rows of one block, as the job wrote them."""
    names = ", ".join(f"`{name}`" for name in CALLS.arrow.names)
    found = store.arrow(f"SELECT {names} FROM {store.table(CALLS.name)} FINAL LIMIT {STEP_S * RATE}")
    assert found.num_rows == STEP_S * RATE, "the history is too short"
    return found


def _land(store: Store, template: pa.Table, number: int) -> None:
    """Write calls of the last seconds, with keys of their own, and make their minutes true."""
    count = template.num_rows
    now = int(time.time() * 1_000_000)
    times = np.sort(now - np.random.default_rng(number).integers(0, STEP_S * 1_000_000, count))
    minutes = times // 60_000_000 * 60
    columns = dict(zip(template.column_names, template.columns, strict=True))
    columns["call_key"] = pa.array([f"{number:08d}{n:08d}".encode() for n in range(count)], pa.binary(16))
    columns["event_time"] = pa.array(times, pa.timestamp("us", "UTC"))
    columns["minute"] = pa.array(minutes, pa.int64()).cast(pa.timestamp("s", "UTC"))
    store.insert(CALLS.name, pa.table(columns))
    recompute(store, sorted({int(minute) for minute in minutes}))


def _counted(store: Store) -> dict[str, int]:
    """Calls by each table that holds them."""
    counts = {"calls": int(store.rows(f"SELECT count() FROM {store.table('calls')} FINAL")[0][0])}
    for table in ("minutes", "hours", "days"):
        counts[table] = int(store.rows(f"SELECT sum(calls) FROM {store.table(table)} FINAL")[0][0])
    return counts


def _read(port: int, password: str, first: int, seen: _Seen, ended: threading.Event) -> None:
    known = base64.b64encode(f"grafana:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {known}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    most, turn = 0, first
    while not ended.is_set():
        panel = turn % len(PANELS)
        began = time.monotonic()
        try:
            rows = _ask(connection, PANELS[panel], headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            seen.errors.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        seen.milliseconds.append((time.monotonic() - began) * 1000)
        if panel == 0:
            calls = int(rows[0][0])
            seen.fell += calls < most
            most = max(most, calls)
        turn += 1
    connection.close()


def _ask(connection: http.client.HTTPConnection, sql: str, headers: Mapping[str, str]) -> list[list[Any]]:
    connection.request("POST", "/?database=llm_finops&default_format=JSONCompact", sql.encode(), dict(headers))
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != 200:
        raise ValueError(body.decode(errors="replace")[:300])
    rows: list[list[Any]] = json.loads(body)["data"]
    if not rows:
        raise ValueError(f"no rows: {sql}")
    return rows
