"""How a run is, over HTTP: ``/metrics`` for Prometheus, ``/health`` for whoever restarts what stands still.

Nothing is counted for it: what is asked for is read from the tally that the stages keep anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipelines.errors import OutputError
from pipelines.live import WATCH, Watch
from schemas.telemetry import TALLY, Tally


@dataclass(frozen=True)
class Limits:
    """When a run that follows is not well: nothing done, or written of what waits, for ``stalled_s`` seconds; or a watermark
    older than ``behind_s``."""

    stalled_s: float = 120
    behind_s: float = 900


def ailments(watch: Watch, limits: Limits, now: float) -> list[str]:
    """Why a run is not well at this moment (UTC seconds); nothing if it is.

    What counts is that it comes forward, not that its process lives: a run that waits for a source or a store, that hangs, or
    that cannot keep up stands still all the same.
    """
    found = []
    if watch.failing:
        found.append(f"failing: {watch.failing}")
    if watch.turned is not None and now - watch.turned > limits.stalled_s:
        found.append(f"stalled: nothing was read or written for {now - watch.turned:.0f} s")
    elif watch.idle_since is not None and now - watch.idle_since > limits.stalled_s:
        found.append(f"stalled: records wait, and nothing was written for {now - watch.idle_since:.0f} s")
    if watch.watermark is not None and watch.lag != 0 and now - watch.watermark > limits.behind_s:
        found.append(f"behind: the watermark is {now - watch.watermark:.0f} s old, and more waits")
    return found


class RunCollector:
    """The tally of this process as Prometheus' metrics; docs/metrics.md lists them."""

    def __init__(self, tally: Tally, watch: Watch) -> None:
        self._tally = tally
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        tally, watch = self._tally, self._watch
        yield InfoMetricFamily("llm_finops_build", "Version of llm-finops.", {"version": version("llm-finops")})
        for name, doc, value in (
            ("records_read", "Records that were read.", tally.records),
            ("read_bytes", "Bytes of the records that were read.", tally.bytes),
            ("calls", "Calls that were written.", tally.calls),
            ("cost_dollars", "What these calls cost, in dollars, as a float.", tally.cost_pico / 1e12),
            ("ignored", "Items that are rightly no calls.", tally.ignored),
            ("minutes_recomputed", "Minutes that were replaced.", tally.minutes),
            ("late_minutes", "Minutes that were touched after the watermark had passed them.", watch.late_minutes),
            ("terms_changed", "How often other prices and rules were taken up.", watch.terms_changed),
        ):
            yield CounterMetricFamily(f"llm_finops_{name}", doc, value=value)
        dead = CounterMetricFamily("llm_finops_dead_letters", "Items that could not become a call.", labels=["reason"])
        for reason, count in sorted(tally.reasons.items()):
            dead.add_metric([reason], count)
        yield dead
        written = CounterMetricFamily("llm_finops_rows_written", "Rows that were inserted.", labels=["table"])
        for table, rows in sorted(tally.rows.items()):
            written.add_metric([table], rows)
        yield written
        took = tally.stage_ns.get("write", 0) / 1e9
        yield SummaryMetricFamily("llm_finops_insert_seconds", "How long the store took for a block of rows.", tally.blocks, took)
        stages = CounterMetricFamily("llm_finops_stage_seconds", "Seconds that a stage worked.", labels=["stage"])
        for stage, nanoseconds in sorted(tally.stage_ns.items()):
            stages.add_metric([stage], nanoseconds / 1e9)
        yield stages
        for name, doc, gauge in (
            ("lag_records", "Records that wait in the source; absent where nobody knows.", watch.lag),
            ("watermark_timestamp_seconds", "Up to where no call is expected any more.", watch.watermark),
            ("last_progress_timestamp_seconds", "When the run last finished a turn.", watch.turned),
            ("open_minutes", "Minutes that may still grow.", watch.open_minutes),
            ("epoch_seconds", "How long the last epoch took.", watch.epoch_seconds),
            ("failing", "1 while a source, the store or the topic of dead letters is waited for.", int(bool(watch.failing))),
            ("terms_timestamp_seconds", "Event time from which the newest prices and rules hold; 0: always.", watch.terms_since),
            ("terms_refused", "1 while changed prices and rules are wrong, and not taken up.", int(bool(watch.terms_wrong))),
        ):
            if gauge is not None:
                yield GaugeMetricFamily(f"llm_finops_{name}", doc, value=gauge)


@contextmanager
def watched(host: str, port: int, limits: Limits, tally: Tally = TALLY, watch: Watch = WATCH) -> Iterator[int]:
    """Answer while the block runs; the port, which for 0 is any free one.

    Raises:
        OutputError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(RunCollector(tally, watch))

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/health":
                ailing = ailments(watch, limits, time.time())
                said = {"healthy": not ailing, "why": ailing, "source": watch.source, "lag": watch.lag}
                # No reason to start it anew, which it would refuse with such files.
                body = orjson.dumps(said | {"warnings": [watch.terms_wrong] if watch.terms_wrong else []})
                self._send(503 if ailing else 200, "application/json", body + b"\n")
            else:
                self._send(404, "text/plain", b"/metrics or /health\n")

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody wants to read of it."""

    try:
        server = ThreadingHTTPServer((host, port), Answer)
    except OSError as error:
        raise OutputError(f"metrics on {host}:{port}: {error.strerror}; see metrics.port") from error
    with server:
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
