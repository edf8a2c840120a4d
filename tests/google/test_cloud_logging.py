"""Cloud Logging by its real client, against a local server of its published interface: all that is shown is read, however it comes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.logging_v2.types import LogEntry
from google.protobuf.json_format import ParseDict

from pipelines.feeds.entries import SHOWN_S
from sources.cloud_logging import LoggingSettings, as_json, parse
from sources.cloud_logging.clients import BURST, Pace
from sources.cloud_logging.sweeping import window_filter
from sources.files import SourceError
from sources.generate import GenerateSettings, Record, generate
from tests.following import Follower, begun, minutes_hold, truth, wait
from tests.google.logs import PROJECT, Account, LoggingService, new_account, new_key
from tests.looking import look
from tests.sinks.front.conftest import served

TOOL = str(Path(sys.executable).with_name("llm-finops"))
ENDPOINT = "LLM_FINOPS_CLOUD_LOGGING__ENDPOINT"


def traffic(calls: int, seed: int = 3) -> list[Record]:
    settings = GenerateSettings(seed=seed, calls=calls, hours=1, undated=0, incidents=False, duplicates=0.05, broken=0)
    return list(generate(settings))


def payloads(records: list[Record]) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in records]


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return new_account(tmp_path)


@pytest.fixture
def logs(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoggingService]:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account.file))
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(account.roots))
    service = LoggingService(public_key=account.public_key)
    with service.running(account.tls):
        monkeypatch.setenv(ENDPOINT, f"localhost:{service.port}")
        yield service


def test_what_is_shown_late_refused_or_cut_off_is_read_all_the_same(
    tmp_path: Path, logs: LoggingService, followers: Callable[[Follower], Follower]
) -> None:
    """2,000 calls: some shown 8 s late, a quota that is used up, errors of the service, and two kill -9 of the run."""
    records = traffic(2000)
    given = payloads(records)
    with served(tmp_path) as server:
        settings = ("--cloud-logging-sweep-seconds", "1", "--cloud-logging-overlap-seconds", "15", "--cloud-logging-reads-per-minute", "600")
        follower = followers(Follower(f"logging://{PROJECT}", f"http://writer@127.0.0.1:{server.port}", *settings))
        wait(lambda: begun(server) or not follower.alive())
        for part in range(0, len(given), 100):
            logs.write(given[part : part + 100], shown_after=8.0 if part % 500 == 0 else 0.0)
            logs.write(["GET /health 200", "a line of text"])
            if part == 1500:
                logs.per_minute = 0  # the quota is used up for a while
                wait(lambda: logs.refused > 0)
                logs.per_minute = 1000
            if part == 900:
                logs.faults.due("list", grpc.StatusCode.UNAVAILABLE, times=2)
                logs.faults.due("list", grpc.StatusCode.INTERNAL)
            if part in (700, 1300):
                follower.kill()
                follower.start()
            time.sleep(0.4)
        calls = sum(truth(records)["calls"].values())
        wait(lambda: minutes_hold(server) == calls, 120)
        counts, said = follower.end()
        assert server.end() == 0
    found = look(server.folder)
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert counts["dead_letters"] == 0
    assert found["ledger"]["dead_letter"] == 0
    assert all("timestamp >=" in asked and "receiveTimestamp <" in asked for asked in logs.filters)
    assert "reads that were refused because the quota was used up, so far" in said


def test_a_tail_brings_entries_between_sweeps_and_sweeps_what_it_leaves_out(
    tmp_path: Path, logs: LoggingService, followers: Callable[[Follower], Follower]
) -> None:
    records = [record for record in traffic(400) if record.kind == "call"]
    given = payloads(records)
    with served(tmp_path) as server:
        start = datetime.now(UTC).isoformat()
        settings = ("--cloud-logging-tail", "true", "--cloud-logging-sweep-seconds", "25", "--cloud-logging-overlap-seconds", "10", "--cloud-logging-start", start)
        follower = followers(Follower(f"logging://{PROJECT}", f"http://writer@127.0.0.1:{server.port}", *settings))
        wait(lambda: logs.tails == 1 or not follower.alive())
        time.sleep(3)  # the first sweep is made at once
        reads = logs.faults.calls["list"]
        logs.write(given[:100])
        wait(lambda: minutes_hold(server) == 100, 12)
        assert logs.faults.calls["list"] == reads, "no sweep brought them"
        logs.cut.set()
        wait(lambda: logs.tails == 0)
        logs.write(given[100:200])  # while there is no tail
        wait(lambda: logs.tails == 1)
        logs.suppress = 30
        logs.write(given[200:])
        wait(lambda: minutes_hold(server) == len(records), 60)
        _, said = follower.end()
        assert server.end() == 0
    found = look(server.folder)
    assert found["wrong"] == []
    assert found["calls"] == truth(records)["calls"]
    assert "tail: logging://projects/acme: unreachable: the stream was cut; the sweeps go on without it" in said
    assert "30 entries that the tail left out (rate_limit), which the sweeps bring, so far" in said
    assert found["ledger"]["duplicate"] < 100, "what this process has brought in is left out by later sweeps"


def test_a_read_ends_and_the_next_goes_on_with_what_came_late(tmp_path: Path, logs: LoggingService) -> None:
    records = [record for record in traffic(1500) if record.kind == "call"]
    given = payloads(records)
    start = (datetime.now(UTC) - timedelta(hours=5)).isoformat()
    settings = ("--cloud-logging-overlap-seconds", "40", "--cloud-logging-start", start)

    def read() -> dict[str, Any]:
        command = ["run", "--from", f"logging://{PROJECT}", "--to", f"chdb://{tmp_path}/store", "--format", "json", "--quiet", *settings]
        done = subprocess.run([TOOL, *command], capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done
        return dict(json.loads(done.stdout))

    written = time.monotonic()
    logs.write(given[:1100])
    logs.write(given[1100:1200], shown_after=1e6)
    time.sleep(SHOWN_S + 1)
    assert read()["calls"] == 1100
    logs.show_all()
    logs.write(given[1200:])
    time.sleep(max(SHOWN_S + 1, written + 42 - time.monotonic()))
    assert read()["state"] == "done"
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert found["calls"] == truth(records)["calls"]


PROBE = """
import json, sys, time
from sources.cloud_logging import LoggingSettings, probe
from sources.files import SourceError
given = json.loads(sys.argv[1])
try:
    probe(LoggingSettings(tuple(given.pop("resources")), **given), time.time())
except SourceError as error:
    print(error)
"""


def test_refusals_are_one_clear_line(tmp_path: Path, logs: LoggingService, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(resource: str = PROJECT, **more: Any) -> str:
        """In a process of its own: gRPC reads the roots that it trusts once."""
        given = {"resources": [resource], "endpoint": f"localhost:{logs.port}", "patience_s": 2.0, **more}
        done = subprocess.run([sys.executable, "-c", PROBE, json.dumps(given)], capture_output=True, text=True, check=False)
        (line,) = done.stdout.splitlines()
        return line

    assert "logging://projects/other: not allowed: Permission denied" in said("projects/other")
    assert "refused: Unparseable filter: nonsense" in said(filter="nonsense")
    assert "unreachable: " in said(endpoint="localhost:1")
    logs.per_minute = 0
    assert "the quota is used up: Quota exceeded" in said()
    logs.per_minute = 1000
    logs.public_key = new_key()[1]
    assert "credentials refused: " in said()
    command = [TOOL, "doctor", "--from", f"logging://{PROJECT}", "--to", f"chdb://{tmp_path}/store", "--format", "json"]
    checks = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    (finding,) = [one for one in checks if one["check"] == "input"]
    assert (finding["status"], "credentials refused" in finding["detail"]) == ("fail", True)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nobody.json"))
    assert "no credentials: " in said()
    command = [TOOL, "run", "--from", "logging://acme", "--to", f"chdb://{tmp_path}/store"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "name projects, for example logging://projects/my-project" in done.stderr) == (3, True)


# -- without a server ----------------------------------------------------------------------------------------------


def test_reads_are_spread_so_that_no_minute_has_more_than_the_pace_and_a_burst() -> None:
    now = 1000.0
    made: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(45, lambda: now, sleep)
    for turn in range(500):
        now += 0.05 if turn % 50 else 40
        pace.wait()
        made.append(now)
    assert max(sum(start <= at < start + 60 for at in made) for start in made) <= 45 + BURST + 1
    assert made[BURST - 1] - made[0] <= BURST * 0.05 + 0.01, "a burst is not held up"


def test_the_window_bounds_both_times_whatever_the_filter_holds() -> None:
    start = 1_764_000_000_000_000
    asked = window_filter('logName = "a" -- a remark', start, start + 1_000_000)
    assert asked == (
        '(logName = "a" -- a remark\n) AND receiveTimestamp >= "2025-11-24T16:00:00.000000Z"'
        ' AND receiveTimestamp < "2025-11-24T16:00:01.000000Z" AND timestamp >= "2025-10-24T16:00:00.000000Z"'
    )


@pytest.mark.parametrize("name", ["app_llm_call", "real"])
def test_an_entry_is_the_json_that_the_service_writes(shared: Path, name: str) -> None:
    written = json.loads((shared / "formats" / "samples" / f"gcp_log_entry_{name}.json").read_text())
    entry = LogEntry()
    ParseDict(written, entry._pb)
    read = json.loads(as_json(entry))
    for time_ in ("timestamp", "receiveTimestamp"):
        assert datetime.fromisoformat(read.pop(time_)) == datetime.fromisoformat(written.pop(time_))
    assert read == written


def test_numbers_of_a_payload_are_what_was_written() -> None:
    entry = LogEntry()
    numbers = {"n": [12, -3, 0, 0.5, 2**53 - 1, 1e300], "t": True, "none": None, "deep": {"s": "x"}}
    ParseDict(numbers, entry._pb.json_payload)
    text = as_json(entry).decode()
    assert json.loads(text)["jsonPayload"] == numbers
    assert "12.0" not in text


def test_a_payload_of_an_unknown_type_is_kept_as_it_is() -> None:
    entry = LogEntry()
    entry._pb.proto_payload.type_url = "type.googleapis.com/acme.Unheard"
    entry._pb.proto_payload.value = b"\x01\x02"
    assert json.loads(as_json(entry))["protoPayload"] == {"@type": "type.googleapis.com/acme.Unheard", "value": "AQI="}


def test_addresses() -> None:
    view = "projects/p/locations/global/buckets/_Default/views/llm"
    assert parse(f"logging://projects/a,{view},projects/a") == ("projects/a", view)
    for wrong in ("logging://", "logging://acme", "logging://projects/", "logging://projects/a/b"):
        with pytest.raises(SourceError, match="name projects"):
            parse(wrong)
    assert str(LoggingSettings(("projects/a", "folders/2"))) == "logging://projects/a,folders/2"
