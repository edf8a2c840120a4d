"""Which logs, and how fast to read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sources.files import SourceError

SCHEME: Final = "logging://"
EARLIER_S: Final = 86_400
"""How far back to begin with logs that were never read, if nothing is said."""

_RESOURCE: Final = re.compile(
    r"(projects|folders|organizations|billingAccounts)/[^/,]+(/locations/[^/,]+/buckets/[^/,]+/views/[^/,]+)?"
)


@dataclass(frozen=True)
class LoggingSettings:
    """Logs of which ``resources`` (projects, or views of log buckets), and which of their entries (``filter``).

    ``start``: the time of receipt (UTC microseconds) to begin with where nothing was read; None: a day ago. A read that ends,
    ends at ``until``, if it is given. ``sweep_s``: how often the end is swept; ``overlap_s``: how long after its receipt an entry
    may still appear. ``tail``: also hold a stream open. ``endpoint``: ``host:port`` of the service, empty for the public one.
    ``patience_s``: how long a read is tried again before it fails. Credentials are the application's default ones.
    """

    resources: tuple[str, ...]
    filter: str = ""
    start: int | None = None
    until: int | None = None
    sweep_s: int = 10
    overlap_s: int = 300
    reads_per_minute: int = 45
    tail: bool = False
    endpoint: str = ""
    max_record_bytes: int = 16 << 20
    batch_records: int = 1000
    batch_bytes: int = 8 << 20
    patience_s: float = 60.0

    def __str__(self) -> str:
        return SCHEME + ",".join(self.resources)

    @property
    def source(self) -> str:
        """How these logs are named in every table."""
        return f"logging:{','.join(self.resources)}"


def is_address(text: str) -> bool:
    """Whether an input names logs of the service."""
    return text.startswith(SCHEME)


def parse(text: str) -> tuple[str, ...]:
    """The resources of ``logging://projects/one,projects/two``.

    Raises:
        SourceError: one is no name of a resource that has logs.
    """
    found = tuple(dict.fromkeys(name for name in text.removeprefix(SCHEME).strip("/").split(",") if name))
    for name in found or ("nothing",):
        if not _RESOURCE.fullmatch(name):
            raise SourceError(
                f"{text}: {name} has no logs; name projects, for example {SCHEME}projects/my-project,"
                " or a view: projects/P/locations/L/buckets/B/views/V"
            )
    return found
