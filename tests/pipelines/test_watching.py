"""What a run says of itself to machines: metrics, health, and lines of JSON."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.kafka import free_ports
from pipelines import follow as following
from pipelines.errors import OutputError
from pipelines.feeds import Standing
from pipelines.live import Watch
from pipelines.watching import Limits, ailments, watched
from schemas.telemetry import Tally
from sources.generate import GenerateSettings, generate
from tests.following import Follower, wait
from tests.sinks.front.conftest import MAIN

CHECKOUT = Path(__file__).resolve().parents[2]
NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("watch", "wanted"),
    [
        (Watch(), []),
        (Watch(turned=NOW - 119, watermark=NOW - 899, lag=5), []),
        (Watch(turned=NOW - 121), ["stalled: nothing was read or written for 121 s"]),
        (Watch(turned=NOW, watermark=NOW - 901, lag=5), ["behind: the watermark is 901 s old, and more waits"]),
        (Watch(turned=NOW, watermark=NOW - 901, lag=None), ["behind: the watermark is 901 s old, and more waits"]),
        (Watch(turned=NOW, watermark=NOW - 901, lag=0), []),  # nothing waits: it is the source that is quiet
        (Watch(turned=NOW, lag=5, idle_since=NOW - 119), []),
        (Watch(turned=NOW, lag=5, idle_since=NOW - 121), ["stalled: records wait, and nothing was written for 121 s"]),
        (Watch(turned=NOW, failing="kafka://b/t: unreachable"), ["failing: kafka://b/t: unreachable"]),
    ],
)
def test_health_is_progress(watch: Watch, wanted: list[str]) -> None:
    assert ailments(watch, Limits(120, 900), NOW) == wanted


class Waiting:
    """A source in which so many records wait."""

    lag = 0

    def standing(self) -> Standing:
        return Standing("1 partition", self.lag, NOW)


def test_what_waits_must_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, ticks, since = Waiting(), itertools.count(), []
    turns = [(0, True), (5, False), (9, False), (2, True), (2, False)]
    for feed.lag, wrote in turns:
        at = NOW + next(ticks)
        monkeypatch.setattr(following.time, "time", lambda at=at: at)
        following._look(feed, (), 120, wrote)  # type: ignore[arg-type]
        since.append(following.WATCH.idle_since)
    feed.lag = 0
    following._look(feed, (), 120, False)  # type: ignore[arg-type]
    assert [*since, following.WATCH.idle_since] == [None, NOW + 1, NOW + 1, NOW + 3, NOW + 3, None]
    following.WATCH.__init__()  # type: ignore[misc]


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """Every sample, as another parser reads it, by name and values of labels."""
    found = text_string_to_metric_families(ask(port, "/metrics")[1])
    return {(sample.name, *sample.labels.values()): sample.value for family in found for sample in family.samples}


def test_metrics_are_the_tally() -> None:
    tally, watch = Tally(), Watch("kafka://b/t", lag=7, watermark=NOW, late_minutes=3)
    with watched("127.0.0.1", 0, Limits(), tally, watch) as port:
        tally.records, tally.calls, tally.bytes, tally.cost_pico, tally.minutes = 10, 8, 900, 2_500_000_000_000, 4
        tally.reasons["not_json"], tally.stage_ns["decode"], tally.stage_ns["write"] = 2, 1_500_000_000, 250_000_000
        tally.wrote({"calls": 8})
        found = metrics(port)
        assert ask(port, "/other")[0] == 404
        status, body = ask(port, "/health")
        assert (status, json.loads(body)["why"][0].partition(":")[0]) == (503, "behind")
        watch.watermark = time.time()
        status, body = ask(port, "/health")
        well = {"healthy": True, "why": [], "source": "kafka://b/t", "lag": 7}
        assert (status, json.loads(body)) == (200, well | {"warnings": []})
        watch.terms_wrong, watch.terms_since, watch.terms_changed = "owners.toml: wrong", NOW, 2
        status, body = ask(port, "/health")
        assert (status, json.loads(body)) == (200, well | {"warnings": ["owners.toml: wrong"]})
        found = metrics(port)
        watch.watermark = NOW
    for name, value in (
        ("records_read_total", 10),
        ("calls_total", 8),
        ("read_bytes_total", 900),
        ("cost_dollars_total", 2.5),
        ("minutes_recomputed_total", 4),
        ("late_minutes_total", 3),
        ("lag_records", 7),
        ("failing", 0),
        ("terms_changed_total", 2),
        ("terms_refused", 1),
        ("terms_timestamp_seconds", NOW),
    ):
        assert found[f"llm_finops_{name}",] == value
    assert found["llm_finops_dead_letters_total", "not_json"] == 2
    assert found["llm_finops_stage_seconds_total", "decode"] == 1.5
    assert found["llm_finops_rows_written_total", "calls"] == 8
    assert (found["llm_finops_insert_seconds_count",], found["llm_finops_insert_seconds_sum",]) == (1, 0.25)


def test_every_metric_is_on_its_page() -> None:
    page = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    tally = Tally()
    tally.reasons["x"], tally.stage_ns["y"], tally.rows["z"] = 1, 1, 1
    with watched("127.0.0.1", 0, Limits(), tally, Watch(watermark=NOW, turned=NOW)) as port:
        names = {name for name, *_ in metrics(port)}
    names = {name for name in names if not name.endswith(("_created", "_sum"))}
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `llm_finops_")}
    assert names == listed


def test_a_port_that_is_taken_is_one_line() -> None:
    with watched("127.0.0.1", 0, Limits()) as port, pytest.raises(OutputError, match=r"see metrics\.port"), watched("127.0.0.1", port, Limits()):
        pass


SECRETS = ("sk-planted-0123456789abcdef", "tell nobody of the blue door")


def record() -> bytes:
    """A call with a key and a prompt, in our own format."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": SECRETS[1]}]}
    answer = {"id": "x", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": -1}}
    request = {"url": "https://api.openai.com/v1/chat/completions", "headers": {"authorization": f"Bearer {SECRETS[0]}"}, "body": body}
    return json.dumps({"request": request, "response": {"status": 200, "body": answer}}).encode()


def test_lines_are_json_and_hold_nothing_of_a_record(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(record() + b"\n" + f"not json {SECRETS[1]} {SECRETS[0]}\n".encode())
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), "LLM_FINOPS_LOG__FORMAT": "json"}
    for words in (["run", "--from", str(path)], ["run", "--from", str(tmp_path / "gone")], ["summary"]):
        command = [sys.executable, "-c", MAIN, *words, "--to", f"chdb://{tmp_path / 'store'}"]
        said = subprocess.run(command, env=environ, text=True, capture_output=True, check=False)
        lines = [json.loads(line) for line in said.stderr.splitlines()]
        assert all({"time", "level", "event", "text"} <= line.keys() for line in lines)
        assert not any(secret in said.stderr for secret in SECRETS)
        if "gone" in words[-1]:
            assert (lines[-1]["event"], lines[-1]["level"], lines[-1]["exit_code"]) == ("failed", "error", 3)
        elif words[0] == "run":
            assert lines[-1]["event"] == "progress"
            assert lines[-1]["dead"] >= 1


def test_a_run_that_follows_answers(tmp_path: Path, followers: Callable[[Follower], Follower]) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    records = list(generate(GenerateSettings(seed=2, calls=200, hours=1, duplicates=0, undated=0, broken=0)))
    (folder / "calls.jsonl").write_bytes(b"".join(one.value + b"\n" for one in records))
    (port,) = free_ports(1)
    follower = followers(Follower(str(folder), f"chdb://{tmp_path / 'store'}", "--metrics-port", str(port)))

    def all_there() -> bool:
        try:
            return metrics(port)["llm_finops_records_read_total",] == len(records)
        except OSError:
            return False

    wait(all_there)
    assert ask(port, "/health")[0] == 200
    found = metrics(port)
    assert found["llm_finops_calls_total",] == sum(one.kind == "call" for one in records)
    assert abs(found["llm_finops_last_progress_timestamp_seconds",] - time.time()) < 60
    follower.end()
