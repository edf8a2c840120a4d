"""Settings that cannot be are refused with their value."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from sources.generate import GenerateSettings, Incident, SettingsError, generate, write

DAY = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"seed": -1}, "seed -1"),
        ({"calls": 0}, "calls 0"),
        ({"late": float("nan")}, "late nan"),
        ({"calls": -5}, "calls -5"),
        ({"rate": -1.5}, "rate -1.5"),
        ({"rate": float("nan")}, "rate nan"),
        ({"rate": 2.0, "calls": 5}, "calls 5 and rate 2.0"),
        ({"hours": 1, "days": 2}, "hours 1 and days 2"),
        ({"hours": 0.01}, "span of 36 seconds"),
        ({"days": 5000}, "span of 5000 days"),
        ({"late": 0.5}, "late 0.5"),
        ({"duplicates": -0.1}, "duplicates -0.1"),
        ({"languages": 1.2}, "languages 1.2"),
        ({"file_format": "csv"}, "'csv'"),
        ({"start": datetime(2026, 3, 3)}, "2026-03-03 00:00:00"),  # noqa: DTZ001
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        GenerateSettings(**given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kind": "flood"}, "'flood'"),
        ({"end": DAY}, "2026-03-03 00:00:00"),
        ({"size": -1}, "size -1"),
        ({"kind": "retry_storm", "size": 1.0}, "size 1.0"),
        ({"start": datetime(2026, 3, 3)}, "time zone"),  # noqa: DTZ001
    ],
)
def test_impossible_incidents_are_refused(given: dict[str, Any], named: str) -> None:
    fine = {"kind": "volume_step", "app": "helpdesk-chat", "start": DAY, "end": DAY + timedelta(hours=1)}
    with pytest.raises(SettingsError, match=named):
        Incident(**{**fine, **given})


@pytest.mark.parametrize(("kind", "app"), [("volume_step", "nobody"), ("runaway_agent", "docs-rag"), ("cache_break", "indexer")])
def test_incidents_that_do_not_fit_their_app_are_refused(kind: str, app: str) -> None:
    settings = GenerateSettings(incidents=(Incident(kind, app, DAY, DAY + timedelta(hours=1)),))
    with pytest.raises(SettingsError, match=repr(app)):
        next(generate(settings))


def test_a_folder_with_traffic_is_not_written_again(tmp_path: Path) -> None:
    settings = GenerateSettings(hours=0.5, calls=30)
    write(settings, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SettingsError, match=str(tmp_path)):
        write(settings, tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_spans_starts_and_targets() -> None:
    assert GenerateSettings(start=date(1970, 1, 2)).begin == 86_400_000_000
    east = datetime(1970, 1, 2, 2, tzinfo=timezone(timedelta(hours=2)))
    assert GenerateSettings(start=east).begin == 86_400_000_000
    assert GenerateSettings(hours=1.5).span == 5_400_000_000
    assert GenerateSettings(days=2).span == GenerateSettings(hours=48).span
    assert GenerateSettings(rate=3, hours=2).target == 21_600
    assert GenerateSettings().target == 10_000
