"""Flink's answers, in the form of its REST reference, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.flink.rest import Rest


class Answers(Rest):
    """A cluster that answers what a test says; it notes what it was asked to change."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__("http://flink")
        self.answers = answers
        self.changed: list[str] = []

    def rest(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        if method == "PATCH":
            self.changed.append(path)
            job = path.split("/")[2].partition("?")[0]
            for one in self.answers["/jobs/overview"]["jobs"]:
                one["state"] = "CANCELED" if one["jid"] == job else one["state"]
            return {}
        return self.answers[path]


def step(parallelism: int, **tasks: int) -> dict[str, Any]:
    counts = dict.fromkeys(["CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "FINISHED", "CANCELED"], 0)
    return {"parallelism": parallelism, "status": "RUNNING", "tasks": counts | tasks}


@pytest.mark.parametrize(
    ("steps", "works"),
    [
        ([], False),  # a job that is just accepted has no steps yet
        ([step(1, RUNNING=1), step(2, INITIALIZING=2)], False),  # workers are still to come
        ([step(1, RUNNING=1), step(2, RUNNING=1, INITIALIZING=1)], False),
        ([step(1, FINISHED=1), step(2, RUNNING=2)], True),
    ],
)
def test_a_job_works_when_all_its_tasks_run(steps: list[dict[str, Any]], works: bool) -> None:
    assert Answers({"/jobs/a": {"state": "RUNNING", "vertices": steps}}).works("a") is works


def test_only_new_jobs_of_the_name_are_cancelled() -> None:
    known = [("old", "ours", "RUNNING"), ("new", "ours", "RUNNING"), ("done", "ours", "FINISHED"), ("other", "theirs", "RUNNING")]
    jobs = [{"jid": job, "name": name, "state": state, "start-time": n} for n, (job, name, state) in enumerate(known)]
    flink = Answers({"/jobs/overview": {"jobs": jobs}})
    assert list(flink.jobs("ours")) == ["done", "new", "old"]  # the newest first
    assert flink.cancel_new({"old"}, "ours") == []
    assert flink.changed == ["/jobs/new?mode=cancel"]
