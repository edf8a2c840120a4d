"""The whole job on the real engine: against known truth, and against bad input."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections import Counter as Tally
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from sinks.clickhouse import Store, StoreAddress
from sinks.reconcile import ledger
from sources.files import FileLimits
from sources.generate import GenerateSettings, write
from tests.pipelines.jobs import go, holds, totals

# -- known truth -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Six hours with duplicates, late and broken records; all dated, since the minute of an undated one is that of its
    first sight and so depends on the order of reading."""
    folder = tmp_path_factory.mktemp("traffic") / "logs"
    settings = GenerateSettings(seed=7, calls=3000, hours=6, duplicates=0.02, late=0.02, broken=0.01, undated=0)
    return folder, write(settings, folder)


def test_generated_traffic_equals_its_truth(traffic: tuple[Path, dict[str, Any]], store: Store, address: StoreAddress) -> None:
    folder, truth = traffic
    counts = go(address, *sorted(folder.glob("calls-*")))
    assert counts.records == truth["records"]["total"]
    holds(store)
    items = ledger(store)
    assert items["call"] == truth["calls"]
    assert items["duplicate"] == truth["records"]["duplicate"]
    assert items["dead_letter"] == truth["records"]["broken"]
    reasons = dict(store.rows(f"SELECT reason, count() FROM {store.table('dead_letters')} FINAL GROUP BY reason"))
    wanted: Tally[str] = Tally()
    for broken in truth["broken"].values():
        wanted[broken["reason"]] += broken["records"]
    assert reasons == dict(wanted)
    teams = dict(store.rows(f"SELECT team, toUInt64(sum(calls)) FROM {store.table('minutes')} FINAL GROUP BY team"))
    assert teams == {team: figures["calls"] for team, figures in truth["teams"].items()}


def test_secrets_of_the_traffic_are_nowhere_in_the_store(
    traffic: tuple[Path, dict[str, Any]], store: Store, address: StoreAddress
) -> None:
    folder, _ = traffic
    from transforms.decode import DecodeSettings

    raw = b"".join(gzip.decompress(path.read_bytes()) for path in folder.glob("calls-*"))
    assert b"sk-" in raw, "the traffic carries fake keys"
    go(address, *folder.glob("calls-*"), decode=DecodeSettings(keep_payloads=True))
    for table in ("calls", "dead_letters", "receipts", "segments", "runs"):
        found = store.rows(
            f"SELECT count() FROM (SELECT toString(tuple(*)) AS row FROM {store.table(table)})"
            " WHERE row LIKE '%sk-%fake%' OR row LIKE '%Bearer sk%'"
        )
        assert found == [(0,)], table


def test_reading_twice_renamed_or_compressed_otherwise_changes_nothing(
    traffic: tuple[Path, dict[str, Any]], store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    folder, truth = traffic
    files = sorted(folder.glob("calls-*"))
    go(address, *files)
    once = totals(store)
    go(address, *files)
    copies = []
    for number, file in enumerate(files):
        content = gzip.decompress(file.read_bytes())
        if number % 3 == 0:
            copies.append(tmp_path / f"renamed-{number}.log")
            copies[-1].write_bytes(content)
        elif number % 3 == 1:
            copies.append(tmp_path / f"{number}.zst")
            copies[-1].write_bytes(zstd.compress(content))
        else:
            copies.append(Path(shutil.copy(file, tmp_path / f"{number}.gz")))
    go(address, *copies, limits=FileLimits(split_bytes=100_000, batch_records=77))
    assert totals(store) == once
    holds(store)
    assert ledger(store)["records"] == truth["records"]["total"]


def test_the_order_of_files_changes_nothing(traffic: tuple[Path, dict[str, Any]], store: Store, address: StoreAddress) -> None:
    folder, _ = traffic
    files = sorted(folder.glob("calls-*"))
    for file in reversed(files):
        go(address, file)
    backwards = totals(store)["minutes"]
    other = StoreAddress(address.folder, database=address.database + "b")
    go(other, *files)
    from sinks.clickhouse import connect, disconnect

    forwards = totals(connect(other))["minutes"]
    connect(other).command(f"DROP DATABASE `{other.database}`")
    disconnect(other)
    assert backwards == forwards


# -- bad input ---------------------------------------------------------------------------------------------------

GOOD = {
    "schema": "llm-finops/call/v1",
    "provider": "openai",
    "model": "gpt-4o-2024-08-06",
    "id": "chatcmpl-1",
    "started_at": "2026-03-02T10:00:00.5Z",
    "usage": {"input_fresh": 1000, "output_visible": 100},
}
PRICE = Decimal("0.0035")  # 1,000 × $2.50/M + 100 × $10/M


def line(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


BAD = {
    "not_json": [
        b'{"cut": ',
        b'{"text": "\xff\xfe"}',
        b'{"usage": NaN}',
        b'{"usage": Infinity}',
        b"[" * 10_000 + b"]" * 10_000,
        b"plain text",
    ],
    "not_an_object": [b"17", b'"text"', b"true"],
    "unknown_format": [b'{"hello": "world"}'],
    "bad_value": [
        line(usage={"input_fresh": -1}),
        line(usage={"input_fresh": 1.5}),
        line(usage={"input_fresh": True}),
        line(usage={"input_fresh": 10**30}),
    ],
}


def test_bad_records_are_dead_letters_with_a_reason_and_the_value(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    records = [record for some in BAD.values() for record in some]
    path.write_bytes(b"\n".join([line(), *records, line(id="chatcmpl-2")]) + b"\n")
    counts = go(address, path)
    assert (counts.records, counts.calls, counts.dead_letters) == (len(records) + 2, 2, len(records))
    rows = store.rows(f"SELECT reason, position, error, size FROM {store.table('dead_letters')} FINAL ORDER BY position")
    assert Tally(reason for reason, *_ in rows) == {reason: len(some) for reason, some in BAD.items()}
    assert [size for *_, size in rows] == [len(record) for record in records]
    assert all(error for _, _, error, _ in rows)
    assert any("-1" in error for _, _, error, _ in rows)
    holds(store)
    assert totals(store)["calls"] == (2, 2 * PRICE)


def test_a_huge_line_and_a_cut_archive_lose_nothing_else(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as file:
        file.write(line() + b"\n")
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + line(id="chatcmpl-2") + b"\n")
    cut = tmp_path / "cut.jsonl.gz"
    whole = gzip.compress(b"\n".join(line(id=f"c{n}", usage={"input_fresh": n * 7919 % 1000}) for n in range(3000)))
    cut.write_bytes(whole[: len(whole) // 2])
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    counts = go(address, huge, cut, empty)
    assert counts.dead_letters == 2
    assert counts.calls > 500
    holds(store)
    reasons = store.rows(f"SELECT reason, size FROM {store.table('dead_letters')} FINAL ORDER BY reason")
    assert reasons[1] == ("record_too_large", 200_000_000)
    assert reasons[0][0] == "broken_archive"


def test_odd_but_readable_calls_are_kept_and_say_what_is_odd(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    odd = [
        line(id="a", model="nobody-knows-this"),
        line(id="b", started_at="1970-01-01T00:00:00Z"),
        line(id="c", started_at="2099-01-01T00:00:00Z"),
        json.dumps({k: v for k, v in GOOD.items() if k != "started_at"} | {"id": "d"}).encode(),
        json.dumps({k: v for k, v in GOOD.items() if k != "usage"} | {"id": "e"}).encode(),
        json.dumps(
            {k: v for k, v in GOOD.items() if k != "usage"}
            | {
                "id": "f",
                "messages": [{"role": "user", "content": "hello world"}],
                "output": [{"role": "assistant", "content": "hi"}],
            }
        ).encode(),
        line(id="g"),
        line(id="g", usage={"input_fresh": 5}),  # one id on two different calls
    ]
    path.write_bytes(b"\n".join(odd))
    when = 1_772_445_600_000_000
    counts = go(address, path, default_time=when)
    assert counts.calls == len(odd)
    rows = store.named_rows(
        "SELECT provider_call_id AS id, time_quality, toUnixTimestamp64Micro(event_time) AS time, price_status, price_reason,"
        f" usage_source, flags, cost FROM {store.table('calls')} FINAL ORDER BY position"
    )
    by_id = {row["id"]: row for row in rows}
    assert (by_id["a"]["price_status"], by_id["a"]["price_reason"], by_id["a"]["cost"]) == (
        "unpriced",
        "unknown_model",
        None,
    )
    for name in "bcd":
        assert by_id[name]["time"] == when
    assert by_id["c"]["time_quality"] == "implausible"
    assert by_id["d"]["time_quality"] == "transport"
    assert (by_id["e"]["price_status"], by_id["e"]["price_reason"]) == ("unpriced", "no_usage")
    assert (by_id["f"]["price_status"], by_id["f"]["usage_source"]) == ("estimated", "counted")
    assert sum(row["id"] == "g" for row in rows) == 2
    holds(store)


def test_dollars_say_where_they_come_from_and_how_far_they_may_be_off(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    from pipelines.report import print_report
    from pipelines.show import human_money
    from pipelines.summary import provenance

    silent = {k: v for k, v in GOOD.items() if k != "usage"}
    silent |= {"messages": [{"role": "user", "content": "hello world"}], "output": [{"role": "assistant", "content": "hi there"}]}
    claude = {"provider": "anthropic", "model": "claude-haiku-4-5"}
    records = [
        GOOD | {"id": "reported", "model": "gpt-4o"},
        GOOD | {"id": "stated", "model": "gpt-4o", "reported_cost": {"usd": "0.5", "by": "vendor"}},
        silent | {"id": "counted", "model": "gpt-4o"},
        silent | {"id": "estimated", **claude},
        silent | {"id": "again", **claude},
        silent | {"id": "thinks", "model": "gpt-5"},
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    go(address, path)
    rows = {
        row["id"]: row
        for row in store.named_rows(
            "SELECT provider_call_id AS id, cost, cost_error, list_cost, cost_source, counted_input, counted_output,"
            f" counted_input_error, counted_output_error FROM {store.table('calls')} FINAL"
        )
    }
    assert {name: row["cost_source"] for name, row in rows.items()} == {
        "reported": "usage",
        "stated": "vendor_reported",
        "counted": "counted",
        "estimated": "estimated",
        "again": "estimated",
        "thinks": "estimated",
    }
    million = Decimal(10**6)
    one = rows["estimated"]
    assert one["cost"] == (one["counted_input"] * 1 + one["counted_output"] * 5) / million
    error = (one["counted_input_error"] * 1 + one["counted_output_error"] * 5) / million  # $1 and $5 a million
    assert one["cost_error"] == error > 0
    assert [rows[name]["cost_error"] for name in ("reported", "stated", "counted", "thinks")] == [0, 0, 0, None]
    assert all(row["list_cost"] == row["cost"] for row in rows.values())
    sourced = {row["name"]: row for row in provenance(store)}
    assert {name: (row["spend"], row["error"]) for name, row in sourced.items()} == {
        "billed": (0, 0),
        "vendor_reported": (Decimal("0.5"), 0),
        "usage": (rows["reported"]["cost"], 0),
        "counted": (rows["counted"]["cost"], 0),
        "estimated": (2 * one["cost"] + rows["thinks"]["cost"], 2 * error),
    }
    holds(store)
    screen = io.StringIO()
    print_report(store, [], screen)
    said = " ".join(screen.getvalue().partition("How sure the dollars are")[2].split())
    money = {name: human_money(row["spend"]) for name, row in sourced.items()}
    for status in (
        f"reported 2 33.3% {human_money(sourced['usage']['spend'] + sourced['vendor_reported']['spend'])} 100.0%"
        " $0.50: dollars that the vendor itself stated with the call"
        f" {money['usage']}: tokens that the vendor reported, times their price",
        f"{money['counted']}: no usage reported: text counted by the model's own tokenizer"
        f" {money['estimated']}: no usage reported: text estimated by another tokenizer, or without unseen reasoning,"
        f" ± {human_money(2 * error)}",
    ):
        assert status in said


def test_what_is_doubtful_of_calls_with_figures_is_on_the_screen(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    from pipelines.report import print_report
    from pipelines.summary import doubts

    undated = {k: v for k, v in GOOD.items() if k != "started_at"}
    usage = {"input_total": 100, "cached_input": 300, "output_total": 10}
    records = [
        GOOD | {"id": "whole", "model": "gpt-4o"},
        GOOD | {"id": "cached", "model": "gpt-4o", "usage": usage},
        undated | {"id": "when", "model": "gpt-4o"},
        GOOD | {"id": "later", "model": "gpt-4o", "started_at": "2091-01-01T00:00:00Z"},
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    go(address, path)
    spend = dict(store.rows(f"SELECT provider_call_id, cost FROM {store.table('calls')} FINAL"))
    assert [(row["name"], row["calls"], row["spend"]) for row in doubts(store)] == [
        ("inconsistent", 1, spend["cached"]),
        ("no_time", 1, spend["when"]),
        ("odd_time", 1, spend["later"]),
    ]
    screen = io.StringIO()
    print_report(store, [], screen)
    said = " ".join(screen.getvalue().split())
    assert "1 call ($0.000475): tokens that were reported contradict each other; calls.flags says how" in said
    assert "the log says no time: dated, and priced, by when they were sent or read" in said


def test_undated_calls_keep_their_first_time_when_the_file_is_touched(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    import os

    path = tmp_path / "undated.jsonl"
    path.write_bytes(json.dumps({k: v for k, v in GOOD.items() if k != "started_at"}).encode() + b"\n")
    os.utime(path, (1_772_445_600, 1_772_445_600))
    go(address, path)
    once = totals(store)
    os.utime(path, (1_772_545_600, 1_772_545_600))
    go(address, path)
    copy = tmp_path / "copy.jsonl.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    go(address, copy)
    assert totals(store) == once
    holds(store)
