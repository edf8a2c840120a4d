"""The stream as a whole: the same again, lazy, in order, with the rhythm, lengths and faults of real traffic."""

from __future__ import annotations

import functools
import gzip
import itertools
import random
import re
import statistics
import tracemalloc
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from sources.generate import INCIDENT_KINDS, GenerateSettings, Incident, Record, generate, write
from sources.generate.clock import arrivals, total_weight, week, weight
from sources.generate.settings import DAY, HOUR
from tests.generate.conftest import SETTINGS, Run

TUESDAY = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def quiet_week() -> list[Record]:
    """A week from Monday without incidents; values are dropped to save memory."""
    return [record._replace(value=b"") for record in generate(GenerateSettings(seed=3, days=7, calls=20_000, incidents=False))]


def small(seed: int = 1, **more: object) -> GenerateSettings:
    return GenerateSettings(seed=seed, hours=3, start=TUESDAY + timedelta(hours=10), calls=300, **more)  # type: ignore[arg-type]


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        write(small(), tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert [record.value for record in generate(small(2))] != [record.value for record in generate(small(1))]


def test_runs_do_not_disturb_each_other() -> None:
    alone = [record.value for record in generate(small())]
    mixed = [one.value for one, _ in zip(generate(small()), generate(small(9)), strict=False)]
    assert mixed == alone[: len(mixed)]


def test_the_first_records_of_an_endless_stream_come_at_once() -> None:
    endless = GenerateSettings(days=3650, rate=2000, incidents=False)
    first = list(itertools.islice(generate(endless), 500))
    assert len(first) == 500
    assert all(endless.begin <= record.facts.time < endless.begin + 60_000_000 for record in first)


def test_memory_depends_on_the_rate_and_not_on_the_length() -> None:
    def peak(hours: int) -> int:
        stream = generate(GenerateSettings(start=TUESDAY, hours=hours, rate=0.2, incidents=False))
        next(stream)
        tracemalloc.start()
        for _ in stream:
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)  # tables and prompts are loaded once
    assert peak(4) < 1.5 * peak(2) + 1_000_000


@pytest.mark.parametrize("file_format", ["jsonl", "jsonl.zst", "parquet"])
def test_other_file_formats_hold_the_same_records(tmp_path: Path, file_format: str) -> None:
    write(small(), tmp_path / "gz")
    write(small(file_format=file_format), tmp_path / "other")
    for path in sorted((tmp_path / "gz").glob("calls-*")):
        expected = gzip.decompress(path.read_bytes()).splitlines()
        other = tmp_path / "other" / path.name.replace("jsonl.gz", file_format)
        if file_format == "parquet":
            found = pq.read_table(other)["value"].to_pylist()
        elif file_format == "jsonl.zst":
            found = zstd.decompress(other.read_bytes()).splitlines()
        else:
            found = other.read_bytes().splitlines()
        assert found == expected


def test_records_come_in_the_order_of_the_log_by_the_end_of_their_call(quiet_week: list[Record]) -> None:
    written = [record.written for record in quiet_week]
    assert written == sorted(written)
    for record in quiet_week:
        delay = record.written - record.facts.time
        assert delay > 0
        if record.kind == "call":
            assert (delay >= 600_000_000) == ("late" in record.marks)
            assert delay < 7 * HOUR


def test_the_number_of_calls_is_about_what_was_asked(quiet_week: list[Record]) -> None:
    calls = sum(record.kind == "call" for record in quiet_week)
    assert 0.93 * 20_000 < calls < 1.07 * 20_000


def test_faults_are_as_frequent_as_asked(run: Run) -> None:
    truth = run.truth
    calls = truth["calls"]
    assert 0.6 * SETTINGS.duplicates < truth["records"]["duplicate"] / calls < 1.4 * SETTINGS.duplicates
    assert 0.6 * SETTINGS.late < truth["marks"]["late"] / calls < 1.4 * SETTINGS.late
    assert 0.6 * SETTINGS.broken < truth["records"]["broken"] / calls < 1.5 * SETTINGS.broken
    for mark in ("undated", "no_id", "redacted_id", "secret"):
        assert truth["marks"][mark] > 3, mark


def test_without_faults_there_are_none() -> None:
    clean = small(late=0, duplicates=0, broken=0, undated=0, without_id=0, redacted_ids=0, secrets=0)
    assert {record.kind for record in generate(clean)} == {"call"}
    assert {mark for record in generate(clean) for mark in record.marks} <= {"stream_without_usage"}


# ---- rhythm


def test_offices_are_busier_by_day_and_on_weekdays(quiet_week: list[Record]) -> None:
    begin = GenerateSettings().begin
    by_hour: dict[tuple[int, int], int] = defaultdict(int)
    for record in quiet_week:
        if record.facts.app in ("helpdesk-chat", "ticket-triage", "docs-rag"):
            by_hour[divmod((record.facts.time - begin) // HOUR, 24)] += 1
    day = statistics.mean(by_hour[d, h] for d in range(5) for h in range(9, 16))
    night = statistics.mean(by_hour[d, h] for d in range(5) for h in range(1, 5))
    weekend = statistics.mean(by_hour[d, h] for d in (5, 6) for h in range(9, 16))
    assert day > 5 * night
    assert day > 2.5 * weekend


def test_nightly_jobs_run_at_night_and_embeddings_always(quiet_week: list[Record]) -> None:
    hours = {app: [0] * 24 for app in ("lead-scoring", "indexer")}
    for record in quiet_week:
        if record.facts.app in hours:
            hours[record.facts.app][record.facts.time % DAY // HOUR] += 1
    assert sum(hours["lead-scoring"][1:4]) > 0.99 * sum(hours["lead-scoring"])
    assert min(hours["indexer"]) > 0


def test_languages_are_a_seventh_of_the_chats(run: Run) -> None:
    chats = [r for r in run.parsed() if r.get("app") in ("helpdesk-chat", "assistant", "crm-copilot") and "tags" in r]
    foreign = [r["tags"]["language"] for r in chats if r["tags"]["language"] != "en"]
    assert 0.1 < len(foreign) / len(chats) < 0.2
    assert set(foreign) >= {"he", "ar", "zh", "ja", "hi", "de"}


@given(st.sampled_from(["business", "flat", "night"]), st.integers(0, 40 * 1440), st.integers(1, 20 * 1440))
@settings(deadline=None, max_examples=40)
def test_the_total_weight_is_the_sum_over_the_minutes(profile: str, first: int, minutes: int) -> None:
    begin = first * 60_000_000
    plain = sum(weight(profile, begin + i * 60_000_000) for i in range(minutes))
    assert total_weight(profile, begin, begin + minutes * 60_000_000) == pytest.approx(plain)


def test_a_week_begins_on_monday() -> None:
    assert len(week("business")) == 7 * 24 * 60
    monday_noon = int(datetime(2026, 3, 2, 10, tzinfo=UTC).timestamp()) * 1_000_000
    assert weight("business", monday_noon) == week("business")[600]
    assert weight("business", monday_noon) > 3 * weight("business", monday_noon + 5 * DAY)


def test_arrivals_stay_in_their_tick_and_are_burstier_than_chance() -> None:
    rng = random.Random(4)
    times: list[int] = []
    for minute in range(600):
        start = minute * 60_000_000
        # As the generator does: a gamma factor on each minute.
        found = arrivals(rng, 30 * rng.gammavariate(6, 1 / 6), start, 60_000_000)
        assert all(start <= time < start + 60_000_000 for time in found)
        times += found
    assert len(times) == pytest.approx(600 * 30, rel=0.1)
    times.sort()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # ServeGen's tenants: 1.2 at the median, 2.1 at the upper quartile; 1 would be chance.
    assert 1.1 < statistics.pstdev(gaps) / statistics.mean(gaps) < 2.1


# ---- lengths


def quantile(values: list[int], share: float) -> float:
    return float(sorted(values)[int(share * (len(values) - 1))])


def test_lengths_have_the_tails_of_the_traces(quiet_week: list[Record]) -> None:
    answers = [
        record.facts.leaves[4]
        for record in quiet_week
        if record.facts.app in ("assistant", "docs-rag") and record.facts.status == 200 and record.facts.leaves[4] > 0
    ]
    # Mooncake conversation outputs: p90/p50 is 1.7 and p99/p50 is 3.1; half of short answers stretch it downwards.
    assert 1.3 < quantile(answers, 0.9) / quantile(answers, 0.5) < 2.5
    assert 2 < quantile(answers, 0.99) / quantile(answers, 0.5) < 8
    assert quantile(answers, 0.1) < 0.5 * quantile(answers, 0.5)
    reviews = [r.facts for r in quiet_week if r.facts.app == "contract-review"]
    contexts = [sum(facts.leaves[:4]) for facts in reviews if facts.status == 200]
    # Mooncake inputs have a p99 of 12 medians; here a fixed system prompt is part of the median.
    assert 4 < quantile(contexts, 0.99) / quantile(contexts, 0.5) < 20


# ---- incidents


def at(hour: float) -> datetime:
    return TUESDAY + timedelta(hours=hour)


def calls_between(records: list[Record], app: str, start: float, end: float) -> list[Record]:
    first, last = (int(at(hour).timestamp()) * 1_000_000 for hour in (start, end))
    return [
        record for record in records if record.kind == "call" and record.facts.app == app and first <= record.facts.time < last
    ]


def with_incident(kind: str, app: str, size: float = 0.0) -> tuple[list[Record], list[Record]]:
    """Calls of an app from 12:00 to 13:00 with an incident there, and without it."""
    incident = Incident(kind, app, at(12), at(13), size)
    return calls_between(hours_of((incident,)), app, 12, 13), calls_between(hours_of(False), app, 12, 13)


@functools.cache
def hours_of(incidents: bool | tuple[Incident, ...]) -> list[Record]:
    settings = GenerateSettings(seed=2, start=at(10), hours=4, calls=6000, incidents=incidents)
    return [record._replace(value=b"") for record in generate(settings)]


def mean_input(records: list[Record]) -> float:
    return statistics.mean(sum(record.facts.leaves[:4]) for record in records if record.facts.status == 200)


def test_volume_steps_and_ramps() -> None:
    step, plain = with_incident("volume_step", "ticket-triage", 4)
    assert 3 < len(step) / len(plain) < 5
    ramp, plain = with_incident("volume_ramp", "ticket-triage", 7)
    assert 3 < len(ramp) / len(plain) < 5.2  # 4 on average
    middle = at(12.5).timestamp() * 1e6
    assert sum(r.facts.time >= middle for r in ramp) > 1.5 * sum(r.facts.time < middle for r in ramp)


def test_a_retry_storm_multiplies_attempts() -> None:
    storm, plain = with_incident("retry_storm", "ticket-triage", 0.6)
    assert 0.5 < sum(record.facts.status == 429 for record in storm) / len(storm) < 0.7
    # A request makes 1 + 0.6 + 0.6² + … up to six tries, which is 2.4, and 95 % of requests succeed in the end.
    assert 2.2 < len(storm) / sum(record.facts.status == 200 for record in storm) < 2.8
    assert len(storm) > 1.5 * len(plain)


def test_a_grown_prompt_costs_its_tokens_on_every_call() -> None:
    grown, plain = with_incident("prompt_growth", "helpdesk-chat", 8000)
    main = [r for r in grown if "nano" not in r.facts.model]
    before = [r for r in plain if "nano" not in r.facts.model]
    assert 7000 < mean_input(main) - mean_input(before) < 8500


def test_a_broken_cache_reads_nothing() -> None:
    broken, plain = with_incident("cache_break", "code-agent")
    assert sum(record.facts.leaves[1] for record in broken) == 0
    share = sum(r.facts.leaves[1] for r in plain) / sum(sum(r.facts.leaves[:4]) for r in plain)
    assert share > 0.6


def test_a_switched_model_answers_all_calls() -> None:
    switched, plain = with_incident("model_switch", "assistant")
    assert {record.facts.model for record in switched} == {"gpt-4o-2024-08-06"}
    assert {record.facts.model for record in plain} == {"gpt-4o-mini-2024-07-18"}


def test_a_runaway_agent_takes_more_steps_and_longer_prompts() -> None:
    def longest(incidents: bool | tuple[Incident, ...]) -> int:
        settings = GenerateSettings(seed=2, start=at(10), hours=2, calls=6000, incidents=incidents)
        steps = (re.search(rb'"agent":"ops-agent","step":"step-(\d+)"', r.value) for r in generate(settings))
        return max(int(step[1]) for step in steps if step)

    assert longest(False) <= 40
    assert 40 < longest((Incident("runaway_agent", "ops-agent", at(10), at(12), 4),)) < 4 * 41  # a run has 10 to 41 steps, cut to a whole number


def test_placed_incidents_are_labelled_once_each_after_a_baseline(run: Run) -> None:
    labels = run.truth["incidents"]
    assert sorted(label["kind"] for label in labels) == sorted(INCIDENT_KINDS)
    assert len({label["keys"]["app"] for label in labels}) == len(labels)
    begin = datetime.combine(date(2026, 3, 4), datetime.min.time(), UTC)
    for label in labels:
        start, end = datetime.fromisoformat(label["start"]), datetime.fromisoformat(label["end"])
        assert begin + timedelta(days=3 * 0.4) - timedelta(minutes=1) <= start < end <= begin + timedelta(days=3)
        assert label["calls"] > 0
        assert label["effect"]
