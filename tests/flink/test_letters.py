"""Dead letters of a job on a real Flink, sent to a topic by its workers: those of the table, though the topic's broker is killed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.flink.cluster import Cluster
from deploy.local.kafka import Broker
from sinks.clickhouse import PASSWORD_VARIABLE
from tests.flink.test_faults import Submitted
from tests.following import wait, written
from tests.kafka.test_outlet import agree, broken, consume, table
from tests.kafka.topics import new_topic, write
from tests.looking import look
from tests.sinks.front.conftest import PASSWORDS, served

pytestmark = pytest.mark.timeout(600)


def test_a_topic_that_is_away_holds_up_the_job_and_gets_every_letter(
    kafka: Broker, flink_libs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = new_topic(kafka, partitions=2)

    def produce(count: int, first: int) -> None:
        lines = [line.encode() for line in broken(count, first)]
        for partition in (0, 1):
            write(kafka, calls, lines[partition::2], partition)

    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "letters"))
        letters = new_topic(broker, partitions=3)
        monkeypatch.setenv("LLM_FINOPS_DEAD_LETTERS__KAFKA", f"kafka://{broker.address}/{letters}")
        monkeypatch.setenv("LLM_FINOPS_KAFKA__PATIENCE_SECONDS", "3")
        server = stack.enter_context(served(tmp_path / "served"))
        cluster = stack.enter_context(Cluster(tmp_path / "flink", environ={PASSWORD_VARIABLE: PASSWORDS["writer"]}))
        produce(400, 0)
        job = Submitted(cluster, kafka, calls, server)
        stack.callback(job.close)
        wait(lambda: written(server) == 400 and cluster.checkpoints(job.job) > 0)
        broker.kill()
        produce(400, 400)
        time.sleep(15)
        assert written(server) == 400  # what is not in the topic is not proved to be read
        broker.start()
        wait(lambda: written(server) == 800)
        cluster.stop_with_savepoint(job.job)
        assert server.end() == 0
        messages = consume(broker, letters)
    assert len({key for key, _, _ in messages}) == 800
    agree(table(tmp_path / "served" / "store"), messages)
    found = look(tmp_path / "served" / "store")
    assert found["wrong"] == []
    assert found["ledger"]["dead_letter"] == 800
