"""The worked example of ``docs/mapping.md``, from its files to priced calls, as a user would run it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.job import Job
from pipelines.replay import replay
from schemas.part import Part
from sinks.clickhouse import Store, StoreAddress, StoreSettings
from tests.pipelines.jobs import go
from tests.pipelines.test_cli import finops
from transforms.decode import DecodeSettings, decode_record
from transforms.decode.mapping_files import mappings_in
from transforms.decode.registry import index_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")


def block(language: str, begins: str) -> str:
    """A block of the page by how it begins."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if text.startswith(begins)]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the page describes it; the log holds the example, one dry run and one that failed."""
    folder = tmp_path_factory.mktemp("mapping")
    (folder / "llm-finops.toml").write_text(block("toml", "# llm-finops.toml"))
    (folder / "our-log.toml").write_text(block("toml", '[[mapping]]\nname = "our-log"'))
    record = json.loads(block("json", "{"))
    failed = {**record, "result": "?", "llm": {"vendor": "openai", "name": "gpt-4o-mini-2024-07-18", "call": "x"}}
    lines = [record, {**record, "result": "DRY_RUN"}, failed, {**record, "llm": {**record["llm"], "in": "many"}}]
    (folder / "our-log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_worked_example(place: Path) -> None:
    ran = finops("run", "--from", "our-log.jsonl", "--to", "chdb://store", "--format", "json", cwd=place)
    assert ran.returncode == 0, ran.stderr
    counts = json.loads(ran.stdout)
    assert (counts["calls"], counts["ignored"], counts["dead_letters"]) == (2, 1, 1)
    # 176 fresh at $0.15, 1,024 cached at $0.075, 80 out at $0.60 a million: the published prices of the model
    price = (Decimal("0.15") * 176 + Decimal("0.075") * 1024 + Decimal("0.60") * 80) / 10**6
    assert Decimal(counts["spend"]) == price
    out = finops("export", "calls", "--to", "chdb://store", "--out", "calls.jsonl", cwd=place)
    assert out.returncode == 0, out.stderr
    rows = [json.loads(line) for line in (place / "calls.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["status"] == "ok"]
    assert (row["format"], row["app"], row["environment"], row["tags"]) == ("our-log", "helpdesk", "production", {"release": "42"})
    assert (row["input_fresh"], row["input_cache_read"], row["output_visible"], row["duration_ms"]) == (176, 1024, 80, 1250.0)
    assert Decimal(str(row["reported_cost"])) == Decimal("0.0012")


def test_a_wrong_mapping_ends_a_run_before_it_begins(place: Path) -> None:
    (place / "wrong.toml").write_text('[[mapping]]\nname = "w"\nwhen = { keys = ["k"] }\nfields = { modle = "a" }\n')
    ran = finops("run", "--from", "our-log.jsonl", "--to", "chdb://other", "--decode-mappings", "wrong.toml", cwd=place)
    assert (ran.returncode, ran.stderr) == (2, "llm-finops: wrong.toml: mapping 'w': fields.modle: is unknown; did you mean model?\n")
    assert not (place / "other").exists()


def test_two_lines_of_the_page_are_parts_of_one_call() -> None:
    index = index_of(mappings_in([("page", block("toml", '[[mapping]]\nname = "asked"'))]))
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    lines = [
        {"rid": "r", "ts": "2026-03-02T09:15:00.250Z", "prompt": {"model": "gpt-4o", "messages": []}},
        {"rid": "r", "ts": "2026-03-02T09:15:01.500Z", "answer": {"object": "chat.completion", "model": "gpt-4o-2024-08-06", "usage": usage}},
    ]
    parts = [outcome for line in lines for outcome in decode_record(json.dumps(line).encode(), index=index)]
    asked, answered = [part for part in parts if isinstance(part, Part)]
    assert [(part.key, part.role, part.needs) for part in (asked, answered)] == [
        ("two-lines:r", role, ("request", "response")) for role in ("request", "response")
    ]
    assert asked.call is not None
    assert answered.call is not None
    said = asked.call  # what only the answer can tell is not concluded from the question, nor the other way round
    assert (said.model_requested, said.model, said.event_time, said.usage_source) == ("gpt-4o", "", 1772442900_250000, "none")
    assert (said.status, said.flags, answered.call.event_time, answered.call.time_quality) == ("ok", (), 0, "")
    told = answered.call
    assert (told.model, told.end_time, told.input_fresh, told.input_cache_read, told.output_visible) == (
        "gpt-4o-2024-08-06", 1772442901_500000, 7, 2, 4)  # fmt: skip


def test_records_that_were_dead_letters_are_run_again_by_a_mapping(tmp_path: Path, address: StoreAddress, store: Store) -> None:
    record = json.loads(block("json", "{"))
    log = tmp_path / "our-log.jsonl"
    log.write_text("".join(json.dumps({**record, "ts": record["ts"] + number}) + "\n" for number in range(5)))
    go(address, log)
    calls = f"SELECT count(), sum(input_fresh) FROM {store.table('calls')} FINAL"
    assert store.rows(calls)[0][0] == 0
    known = DecodeSettings(mappings=mappings_in([("page", block("toml", '[[mapping]]\nname = "our-log"'))]))
    done = replay(Job([], StoreSettings(address), decode=known))
    assert done.letters == {("unknown_format", "call", ""): 5}
    assert tuple(map(int, store.rows(calls)[0])) == (5, 5 * 176)
