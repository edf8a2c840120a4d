"""Traffic as a stream of records: requests arrive, become sessions of calls, and are logged when calls end."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from itertools import count
from typing import Final

import orjson

from sources.generate import clock
from sources.generate.fleet import APPS, App
from sources.generate.incidents import Active, place, volume_factor
from sources.generate.records import BROKEN, Frame, Record, break_record, event, facts, http_pair, litellm
from sources.generate.sessions import Attempt, Session, advance
from sources.generate.settings import HOUR, GenerateSettings

_BUSY: Final = 20_000
"""Records held back to be put in order. A rate that needs more is written in a rougher order, in the same memory."""


def generate(settings: GenerateSettings) -> Iterator[Record]:
    """Records in the order of the log: by the end of their call, except late ones.

    Lazy; memory depends on the rate (sessions that are open, records that wait for their place), not on the length.
    Sessions that are open at the end of the span are finished.
    """
    return _Traffic(settings).records()


_LOGGERS: Final = {"http": http_pair, "litellm": litellm, "event": event}


class _Traffic:
    def __init__(self, settings: GenerateSettings) -> None:
        self._settings = settings
        self._rng = random.Random(settings.seed)
        self._incidents = place(settings)
        self._by_app: dict[str, list[Active]] = {}
        for incident in self._incidents:
            self._by_app.setdefault(incident.app, []).append(incident)
        self._open: list[tuple[int, int, Session]] = []
        self._waiting: list[tuple[int, int, Record]] = []
        self._number = count()
        self._warm: dict[tuple[str, ...], int] = {}

    def records(self) -> Iterator[Record]:
        settings = self._settings
        begin, end = settings.begin, settings.begin + settings.span
        rates = self._rates(begin, end)
        # Shorter ticks at higher rates, so that few requests are held before their time.
        per_minute = settings.target / (settings.span / 60e6)
        tick = 60_000_000 if per_minute < 3000 else 6_000_000 if per_minute < 30_000 else 1_000_000
        factors: dict[str, float] = {}
        for start in range(begin, end, tick):
            length = min(tick, end - start)
            new_minute = (start - begin) % clock.MINUTE == 0
            for app, rate in rates:
                if new_minute:
                    factors[app.name] = self._rng.gammavariate(clock.GAMMA_SHAPE, 1 / clock.GAMMA_SHAPE)
                mean = rate * clock.weight(app.profile, start) * factors[app.name] * length / clock.MINUTE
                if app.name in self._by_app:
                    mean *= volume_factor(self._incidents, app.name, start)
                for time in clock.arrivals(self._rng, mean, start, length):
                    heapq.heappush(self._open, (time, next(self._number), Session(app, self._rng, settings.languages)))
            yield from self._run(start + length)
        yield from self._run(None)

    def _rates(self, begin: int, end: int) -> list[tuple[App, float]]:
        """Requests of each app in a minute of weight one, so that the calls of all add up to the target."""
        weights = {app.name: clock.total_weight(app.profile, begin, end) for app in APPS}
        shares = sum(app.share for app in APPS if weights[app.name] > 0)
        return [
            (app, self._settings.target * app.share / shares / app.calls_per_request / weights[app.name])
            for app in APPS
            if weights[app.name] > 0
        ]

    def _run(self, until: int | None) -> Iterator[Record]:
        """Run sessions up to a time (``None``: to their end), and yield the records whose place is certain by then."""
        sessions, waiting = self._open, self._waiting
        while sessions and (until is None or sessions[0][0] < until):
            now, _, session = heapq.heappop(sessions)
            incidents = self._by_app.get(session.app.name, ())
            active = {i.kind: i.size for i in incidents if i.start <= now < i.end} if incidents else {}
            attempts, following = advance(session, now, active, self._rng, self._warm)
            for attempt in attempts:
                self._log(attempt)
            if following is not None:
                heapq.heappush(sessions, (following, next(self._number), session))
            while waiting and (waiting[0][0] <= now or len(waiting) > _BUSY):
                yield heapq.heappop(waiting)[2]
        while waiting and until is None:
            yield heapq.heappop(waiting)[2]

    def _log(self, attempt: Attempt) -> None:
        """Write what an attempt leaves in the log, with the faults that logs have."""
        settings, draw = self._settings, self._rng.random
        call = attempt.call
        app = call.app
        marks: list[str] = []
        frame = Frame(attempt.start, attempt.labels, attempt.number, attempt.tags, attempt.ttft_ms, via=app.via)
        if call.stream and not call.usage_in_stream and not call.error:
            marks.append("stream_without_usage")
        # Where the vendor's body has a time of its own, leaving out the logger's would not make a record undated.
        timeless = app.api in ("anthropic.messages", "openai.embeddings") or call.error != ""
        if app.via == "http":
            if timeless and draw() < settings.undated * 4:
                frame.dated = False
                marks.append("undated")
            if not call.stream and draw() < settings.without_id:
                frame.id = "none"
                marks.append("no_id")
            elif not call.stream and not call.error and draw() < settings.redacted_ids:
                frame.id = "redacted"
                marks.append("redacted_id")
            if draw() < settings.secrets:
                frame.secret = f"{self._rng.getrandbits(96):024x}"
                marks.append("secret")
        record = _LOGGERS[app.via](call, frame)
        value = orjson.dumps(record)
        truth = facts(call, frame)
        written = attempt.start + int(call.seconds * 1e6)
        if draw() < settings.broken:
            kinds = list(BROKEN) if app.via == "http" else [k for k in BROKEN if k != "missing_fields"]
            kind = kinds[int(draw() * len(kinds))]
            value = break_record(kind, value, record, attempt.start, draw())
            self._put(Record(written, "broken", value, truth, (kind,)))
            return
        if draw() < settings.late:
            # Hours late, as from an agent that was cut off: between ten minutes and six hours.
            written += 600_000_000 + int(draw() ** 2 * 6 * HOUR)
            marks.append("late")
        self._put(Record(written, "call", value, truth, tuple(marks)))
        # Without an id and a time there is no telling a second copy from a second call.
        if draw() < settings.duplicates and not ("undated" in marks and ("no_id" in marks or "redacted_id" in marks)):
            again = written + int(draw() ** 3 * HOUR)
            self._put(Record(again, "duplicate", value, truth, tuple(marks)))

    def _put(self, record: Record) -> None:
        heapq.heappush(self._waiting, (record.written, next(self._number), record))
