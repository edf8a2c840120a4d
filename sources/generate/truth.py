"""The truth about generated traffic: exact totals and labelled incidents, kept apart from the logs.

It is added up from what the generator did, not from what it wrote, so that it can judge readers of the logs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sources.generate.incidents import Active, label, place
from sources.generate.records import BROKEN, LEAVES, Record
from sources.generate.settings import HOUR, GenerateSettings, moment

SCHEMA: Final = "llm-finops/traffic-truth/v1"

_Key = tuple[str, str, str, str, str, int, bool]


class Truth:
    """Totals of a run so far; ``add`` every record, then take ``document``."""

    def __init__(self, settings: GenerateSettings) -> None:
        self._settings = settings
        self._incidents = place(settings)
        self._seen = [[0, 0, 0, 0] for _ in self._incidents]  # calls, failed, input, output
        self._by_app: dict[str, list[tuple[Active, list[int]]]] = {}
        for incident, seen in zip(self._incidents, self._seen, strict=True):
            self._by_app.setdefault(incident.app, []).append((incident, seen))
        self._kinds: Counter[str] = Counter()
        self._marks: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._sums: dict[_Key, list[int]] = {}
        self._hours: dict[int, list[int]] = {}
        self._undated = [0, 0, 0]

    def add(self, record: Record) -> None:
        """Take one record into account."""
        self._kinds[record.kind] += 1
        if record.kind != "call":
            if record.kind == "broken":
                self._broken[record.marks[0]] += 1
            return
        for mark in record.marks:
            self._marks[mark] += 1
        facts = record.facts
        leaves = facts.leaves
        key = (facts.provider, facts.model, facts.team, facts.app, facts.logger, facts.status, facts.reported)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * 7
        sums[0] += 1
        for at, tokens in enumerate(leaves, 1):
            sums[at] += tokens
        read = leaves[0] + leaves[1] + leaves[2] + leaves[3]
        written = leaves[4] + leaves[5]
        dated = "undated" not in record.marks
        hour = self._hours.setdefault(facts.time // HOUR, [0, 0, 0]) if dated else self._undated
        hour[0] += 1
        if facts.reported:
            hour[1] += read
            hour[2] += written
        for incident, seen in self._by_app.get(facts.app, ()):
            if incident.start <= facts.time < incident.end:
                seen[0] += 1
                seen[1] += facts.status != 200
                seen[2] += read
                seen[3] += written

    def document(self, files: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """The truth file: plain JSON values. Tokens of a call are counted once however often it was written.

        ``models``, ``teams``, ``apps`` hold calls, failed calls and *reported* tokens by leaf; ``unreported`` those of
        streams whose record shows no usage. ``hours`` (UTC, by start of the call) and ``undated`` hold calls and
        reported tokens, so that together they are all. ``marks`` count calls, ``broken`` records that are no call.
        """
        statuses: Counter[str] = Counter()
        loggers: Counter[str] = Counter()
        for (_, _, _, _, logger, status, _), sums in self._sums.items():
            statuses[str(status)] += sums[0]
            loggers[logger] += sums[0]
        settings = dataclasses.asdict(self._settings) | {
            "start": moment(self._settings.begin).isoformat(),
            "incidents": bool(self._settings.incidents),
        }
        broken = {kind: {"records": self._broken[kind], "reason": BROKEN[kind]} for kind in sorted(self._broken)}
        return {
            "schema": SCHEMA,
            "settings": settings,
            "begin": moment(self._settings.begin).isoformat(),
            "end": moment(self._settings.begin + self._settings.span).isoformat(),
            "records": {
                "total": sum(self._kinds.values()),
                "call": self._kinds["call"],
                "duplicate": self._kinds["duplicate"],
                "broken": self._kinds["broken"],
            },
            "calls": self._kinds["call"],
            "loggers": dict(sorted(loggers.items())),
            "http_status": dict(sorted(statuses.items())),
            "marks": dict(sorted(self._marks.items())),
            "broken": broken,
            "models": self._by(lambda key: f"{key[0]}/{key[1]}"),
            "teams": self._by(lambda key: key[2]),
            "apps": self._by(lambda key: key[3]),
            "unreported": self._by(lambda key: f"{key[0]}/{key[1]}", reported=False),
            "hours": {moment(hour * HOUR).strftime("%Y-%m-%dT%H"): _named(sums) for hour, sums in sorted(self._hours.items())},
            "undated": _named(self._undated),
            "incidents": [
                label(incident) | {"calls": seen[0], "failed": seen[1], "input_tokens": seen[2], "output_tokens": seen[3]}
                for incident, seen in zip(self._incidents, self._seen, strict=True)
            ],
            "files": [dict(file) for file in files],
        }

    def _by(self, name: Any, reported: bool = True) -> dict[str, dict[str, int]]:
        """Sums by a name of the key: of all calls with the tokens they report, or of unreported successes."""
        table: dict[str, dict[str, int]] = {}
        for key, sums in sorted(self._sums.items()):
            ok, shown = key[5] == 200, key[6]
            if not reported and (shown or not ok):
                continue
            row = table.setdefault(name(key), {"calls": 0, "failed": 0} | dict.fromkeys(LEAVES, 0))
            row["calls"] += sums[0]
            row["failed"] += 0 if ok else sums[0]
            if shown is reported:
                for leaf, tokens in zip(LEAVES, sums[1:], strict=True):
                    row[leaf] += tokens
        return table


def _named(sums: list[int]) -> dict[str, int]:
    return {"calls": sums[0], "input_tokens": sums[1], "output_tokens": sums[2]}
