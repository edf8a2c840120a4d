"""Metrics of Beam, as a runner reports them, against a plain count of what went in and what the store holds."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines.graph import build
from schemas.telemetry import APART, COUNTERS, DISTRIBUTIONS, NAMESPACE, STAGES, Stage, count, observe
from sinks import steps
from sinks.clickhouse import Store, StoreAddress, StoreSettings
from sinks.steps import MinutesOf, RecomputeDoFn, RowsToMinutes
from sources.files import FileLimits, read
from sources.files import plan as plan_files
from sources.generate import GenerateSettings, generate
from sources.steps import ReadPieces
from tests.sinks.samples import NOON
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.steps import CallsToRows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def reader(piece: Any) -> Any:
    return read(piece, FileLimits(batch_records=100))


def reported(result: Any) -> tuple[dict[str, int], dict[str, Any]]:
    """Counters and distributions of our namespace, by name."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    sums: Counter[str] = Counter()
    for one in found["counters"]:
        sums[one.key.metric.name] += one.committed
    return dict(sums), {one.key.metric.name: one.committed for one in found["distributions"]}


def is_no_object(line: bytes) -> bool:
    try:
        return not isinstance(json.loads(line), dict)
    except ValueError:
        return False


def run(address: StoreAddress, path: Path) -> Any:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    raw = pipeline | ReadPieces(plan_files([path], FileLimits(), None, {}), reader)
    build(raw, CallsToRows(DecodeSettings(), CountSettings()), RowsToMinutes(StoreSettings(address, insert_rows=250)))
    result = pipeline.run()
    result.wait_until_finish()
    return result


def test_counters_are_what_went_in_and_what_came_out(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    made = GenerateSettings(seed=4, calls=600, hours=1, duplicates=0.05, broken=0.02, undated=0, incidents=False)
    records = list(generate(made))
    lines = [*(record.value for record in records), b"[1]", b"[2]", b'{"no": "call"}']
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    counters, distributions = reported(run(address, path))
    kinds = Counter(record.kind for record in records)
    dead = {name: value for name, value in counters.items() if name.startswith("dead_letters.")}
    assert counters["records_read"] == len(lines)
    assert counters["bytes_read"] == path.stat().st_size
    assert counters["calls"] == kinds["call"] + kinds["duplicate"]
    assert sum(dead.values()) == kinds["broken"] + 3
    assert dead["dead_letters.not_an_object"] == sum(is_no_object(line) for line in lines) >= 2
    letters = store.rows(f"SELECT reason, count() FROM {store.table('dead_letters')} GROUP BY reason")
    assert dead == {f"dead_letters.{reason}": number for reason, number in letters}
    minutes = {record.facts.time // 60_000_000 for record in records if record.kind == "call"}
    assert counters["minutes_recomputed"] == len(minutes)
    written = {table: counters[f"rows_written.{table}"] for table in ("receipts", "dead_letters")}
    assert written == {"receipts": len(lines), "dead_letters": kinds["broken"] + 3}
    assert distributions["insert_milliseconds"].count >= len(lines) // 300
    assert distributions["call_age_seconds"].min >= time.time() - max(record.facts.time for record in records) / 1e6 - 3600
    named = {f"{name}.{value}" if value else name for name in COUNTERS for value in APART.get(name, ("",))}
    assert counters.keys() <= named
    assert distributions.keys() <= DISTRIBUTIONS.keys()


def test_late_minutes_are_those_of_late_panes(store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by hand: the runner of TestStream reports the metrics of the first bundle only."""
    counters: Counter[str] = Counter()
    monkeypatch.setattr(steps, "count", lambda name, by: counters.update({name: by}))

    def marker(minute: int) -> TimestampedValue:
        return TimestampedValue((0, NOON + minute), NOON + minute)

    stream = (
        TestStream()
        .advance_watermark_to(NOON)
        .add_elements([marker(0), marker(60), marker(120)])
        .advance_watermark_to(NOON + 600)
        .add_elements([marker(0), marker(60)])
        .advance_watermark_to_infinity()
    )
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    pipeline = beam.Pipeline(options=options)
    shards = pipeline | stream | MinutesOf(early_s=10, lateness_s=3600)
    _ = shards | beam.ParDo(RecomputeDoFn(StoreSettings(address))).with_output_types(int)
    pipeline.run().wait_until_finish()
    assert counters == {"minutes_recomputed": 5, "late_minutes": 2}


def test_only_what_is_listed_can_be_counted() -> None:
    for wrong in (lambda: count("call"), lambda: count("dead_letters", of="not_yaml"), lambda: count("calls", of="x")):
        with pytest.raises(KeyError, match="no such counter"):
            wrong()
    with pytest.raises(KeyError, match="no such distribution"):
        observe("seconds", 1)
    with pytest.raises(KeyError, match="no such stage"):
        Stage("parse")
    count("calls", 0)
    count("dead_letters", of="not_json")  # outside of a step: nobody is told, and nothing fails


def test_every_metric_of_beam_is_on_its_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in page.splitlines() if line.startswith("| `")]
    found = [row for row in listed if row[1] in ("counter", "distribution")]
    wanted = [(f"`{name}{'.…' if name in APART else ''}`", "counter", meaning) for name, meaning in COUNTERS.items()]
    assert found == [*wanted, *((f"`{name}`", "distribution", meaning) for name, meaning in DISTRIBUTIONS.items())]
    assert f"namespaces {', '.join(STAGES[:-1])} and {STAGES[-1]}" in " ".join(page.split())
