"""How old a model can be: the time before which a price that states no ``from`` holds for nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from transforms.price.fields import EPOCH

FIRST_API: Final = datetime(2020, 6, 1, tzinfo=UTC)
"""No language model was sold by the token before: OpenAI opened the first such API in June 2020."""

GRACE: Final = timedelta(days=7)
"""How long before the date in its name a model may have been called: time zones, and those who are let in early."""

_DAY: Final = re.compile(r"(?<!\d)(20[2-9]\d)-?(\d\d)-?(\d\d)(?!\d)|(?<=-)(2\d)(\d\d)(\d\d)(?!\d)")  # 2024-08-06, 240806
_MONTH: Final = re.compile(r"(?<![\d-])-(\d\d)-(20[2-9]\d)(?!\d)|(?<=[a-z]-)(2[2-9])(\d\d)(?!\d)")  # 08-2024, 2402
_SNAPSHOT: Final = re.compile(r"gpt-(?:3\.?5|4)(?:-[a-z\d]+)*?-(0301|0314|0613|0914|1106|0125)(?!\d)")
_YEARS: Final = {"0301": 2023, "0314": 2023, "0613": 2023, "0914": 2023, "1106": 2023, "0125": 2024}
"""Years of OpenAI's snapshots that are named by month and day."""


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


FIRST: Final = _micros(FIRST_API)
"""``FIRST_API`` in UTC microseconds."""


def earliest(name: str) -> int:
    """The time (UTC microseconds) before which no model of this name, as logged, can have been called.

    A name that tells a date is not older than that, but for some days; none is older than the first API. What stands behind
    the base of a fine-tuned model is its owner's and tells nothing.
    """
    told = name.strip().lower()
    if told.startswith("ft:"):
        told = told.split(":")[1]
    dates = list(_dates(told.replace("@", "-")))
    return max(FIRST, _micros(min(dates) - GRACE)) if dates else FIRST


def _dates(name: str) -> Iterator[datetime]:
    found = [[int(one) for one in match.groups() if one] for match in _DAY.finditer(name)]
    for match in _MONTH.finditer(name):
        month, year = (match[1], match[2]) if match[1] else (match[4], match[3])
        found.append([int(year), int(month), 1])
    if snapshot := _SNAPSHOT.search(name):
        found.append([_YEARS[snapshot[1]], int(snapshot[1][:2]), int(snapshot[1][2:])])
    for year, month, day in found:
        try:
            yield datetime(year if year > 100 else 2000 + year, month, day, tzinfo=UTC)
        except ValueError:
            continue  # a number, and no date
