"""What a Flink cluster says of its jobs, and how they are ended: its REST interface."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

ENDED: Final = frozenset({"FINISHED", "CANCELED", "FAILED"})
"""States that a job does not leave."""


class Rest:
    """The REST interface at ``url``. Every method raises ``OSError`` where it does not answer or refuses."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rest(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """Ask for a path; with a body, POST it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def jobs(self, name: str = "") -> dict[str, str]:
        """State of each job (of this name) by its id, the newest first."""
        found = sorted(self.rest("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])
        return {job["jid"]: job["state"] for job in found if name in ("", job["name"])}

    def works(self, job: str) -> bool:
        """Whether every task of a job runs. Before, the state of the job is RUNNING already, and so may be that of a step."""
        steps = self.rest(f"/jobs/{job}")["vertices"]
        ready = [step["tasks"]["RUNNING"] + step["tasks"]["FINISHED"] == step["parallelism"] for step in steps]
        return bool(ready) and all(ready)

    def checkpoints(self, job: str) -> int:
        """How many checkpoints of a job were completed."""
        return int(self.rest(f"/jobs/{job}/checkpoints")["counts"]["completed"])

    def last_checkpoint(self, job: str) -> str:
        """Path of the last completed checkpoint of a job; empty if there is none."""
        latest = self.rest(f"/jobs/{job}/checkpoints")["latest"]["completed"]
        return str(latest["external_path"]) if latest else ""

    def stop_with_savepoint(self, job: str, seconds: float = 120) -> str:
        """End a job in order; the savepoint, in the folder of the cluster's conf, that another can go on from.

        Raises:
            RuntimeError: there is no savepoint within so many seconds, or it failed.
        """
        asked = self.rest(f"/jobs/{job}/stop", {"drain": False})["request-id"]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.rest(f"/jobs/{job}/savepoints/{asked}")
            if found["status"]["id"] == "COMPLETED":
                if "failure-cause" in found["operation"]:
                    raise RuntimeError(f"no savepoint: {found['operation']['failure-cause'].get('class')}")
                return str(found["operation"]["location"])
            time.sleep(0.3)
        raise RuntimeError(f"no savepoint within {seconds:.0f} s")

    def cancel(self, job: str) -> None:
        """Ask a job to end at once; its checkpoints are kept."""
        self.rest(f"/jobs/{job}?mode=cancel", method="PATCH")

    def cancel_new(self, before: Collection[str], name: str, seconds: float = 60) -> list[str]:
        """Cancel the jobs of a name that were not there before, and wait until they have ended; those that have not.

        Beam's job server, asked to cancel a job, forgets it and leaves it running on the cluster.
        """
        until = time.monotonic() + seconds
        asked: set[str] = set()
        while left := [job for job, state in self.jobs(name).items() if job not in before and state not in ENDED]:
            for job in set(left) - asked:
                with suppress(urllib.error.HTTPError):  # it has ended meanwhile
                    self.cancel(job)
            asked |= set(left)
            if time.monotonic() > until:
                break
            time.sleep(0.3)
        return left
