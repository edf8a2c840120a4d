"""What traffic to generate, and which incidents to put into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
"""Microseconds. All times of this package are UTC microseconds since 1970."""

FORMATS: Final = ("jsonl.gz", "jsonl", "jsonl.zst", "parquet")
INCIDENT_KINDS: Final = (
    "volume_step",
    "volume_ramp",
    "retry_storm",
    "prompt_growth",
    "cache_break",
    "model_switch",
    "runaway_agent",
)


class SettingsError(ValueError):
    """A setting that cannot be; the message names the value."""


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong in one app between ``start`` and ``end`` (aware datetimes, half-open).

    ``kind`` and what ``size`` means, 0 for the kind's default: ``volume_step`` and ``volume_ramp`` factor on the
    number of requests (a ramp reaches it at the end); ``retry_storm`` share of attempts that fail and are tried again;
    ``prompt_growth`` tokens added to the system prompt by a new version; ``cache_break`` nothing (a time stamp at the
    head of the prompt keeps every cache cold); ``model_switch`` nothing (all calls go to a larger model);
    ``runaway_agent`` factor on the steps of a run.
    """

    kind: str
    app: str
    start: datetime
    end: datetime
    size: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in INCIDENT_KINDS:
            raise SettingsError(f"incident kind {self.kind!r}: must be one of {', '.join(INCIDENT_KINDS)}")
        for name in ("start", "end"):
            if getattr(self, name).tzinfo is None:
                raise SettingsError(f"incident {name} {getattr(self, name)}: needs a time zone")
        if self.end <= self.start:
            raise SettingsError(f"incident end {self.end}: must be after its start {self.start}")
        if self.size < 0:
            raise SettingsError(f"incident size {self.size}: must not be negative")
        if self.kind == "retry_storm" and self.size > 0.95:
            raise SettingsError(f"incident size {self.size}: a share of failing attempts is at most 0.95")


@dataclass(frozen=True)
class GenerateSettings:
    """What to generate. The same settings give the same bytes.

    ``start`` is a UTC date or an aware datetime; the span is ``hours`` or ``days`` (default one day). ``calls`` is the
    number of calls to aim at over the span, or ``rate`` calls per second on average; incidents come on top, and what is
    hit is in the truth file. Shares are of records: ``duplicates`` are written twice, ``late`` come hours after their
    neighbours, ``broken`` cannot be read; ``undated``, ``without_id``, ``redacted_ids`` (one id on many calls) and
    ``secrets`` (fake keys in headers) likewise. ``languages`` is the share of chats that are not in English.
    ``incidents``: true puts one of each kind that the span has room for, or give them.
    ``file_format``: see ``FORMATS``.
    """

    seed: int = 1
    start: date | datetime = date(2026, 3, 2)
    hours: float | None = None
    days: float | None = None
    calls: int | None = None
    rate: float | None = None
    late: float = 0.005
    duplicates: float = 0.005
    broken: float = 0.001
    undated: float = 0.003
    without_id: float = 0.003
    redacted_ids: float = 0.002
    secrets: float = 0.005
    languages: float = 0.15
    incidents: bool | tuple[Incident, ...] = True
    file_format: str = "jsonl.gz"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(f"seed {self.seed}: must not be negative")
        if self.hours is not None and self.days is not None:
            raise SettingsError(f"hours {self.hours} and days {self.days}: give one of the two")
        for name in ("hours", "days", "calls", "rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingsError(f"{name} {value}: must be greater than 0")
        if self.calls is not None and self.rate is not None:
            raise SettingsError(f"calls {self.calls} and rate {self.rate}: give one of the two")
        if self.span < 600_000_000:
            raise SettingsError(f"span of {self.span / 1e6:g} seconds: must be at least 10 minutes")
        if self.span > 3660 * DAY:
            raise SettingsError(f"span of {self.span / DAY:g} days: must be at most 3660 days")
        for name in ("late", "duplicates", "broken", "undated", "without_id", "redacted_ids", "secrets"):
            share = getattr(self, name)
            if not 0 <= share <= 0.2:
                raise SettingsError(f"{name} {share}: must be a share between 0 and 0.2")
        if not 0 <= self.languages <= 1:
            raise SettingsError(f"languages {self.languages}: must be a share between 0 and 1")
        if self.file_format not in FORMATS:
            raise SettingsError(f"file_format {self.file_format!r}: must be one of {', '.join(FORMATS)}")
        if isinstance(self.start, datetime) and self.start.tzinfo is None:
            raise SettingsError(f"start {self.start}: needs a time zone")

    @property
    def begin(self) -> int:
        """The first microsecond of the span."""
        start = self.start
        moment = start if isinstance(start, datetime) else datetime(start.year, start.month, start.day, tzinfo=UTC)
        return micros(moment)

    @property
    def span(self) -> int:
        """Length in microseconds."""
        if self.hours is not None:
            return round(self.hours * HOUR)
        return round((self.days if self.days is not None else 1.0) * DAY)

    @property
    def target(self) -> float:
        """Calls to aim at over the span: as given, by rate, or 10,000."""
        if self.rate is not None:
            return self.rate * self.span / 1e6
        return float(self.calls if self.calls is not None else 10_000)


def micros(moment: datetime) -> int:
    """UTC microseconds of an aware datetime, exactly."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(time: int) -> datetime:
    """The reverse of ``micros``."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
