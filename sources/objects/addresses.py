"""Addresses of objects: ``s3://bucket/folder``, ``gs://bucket/folder/**/*.json.gz``."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from sources.files.splits import SourceError

PATIENCE_S: Final = 120.0
"""How long a request that fails is tried again, unless the client's own settings say otherwise."""

AT_ONCE: Final = 10
"""Requests of one process at a time, at most: as many connections as the clients keep."""

SCHEMES: Final = ("s3", "gs")
_PATTERN: Final = re.compile(rf"({'|'.join(SCHEMES)})://([A-Za-z0-9][A-Za-z0-9._:-]*)(?:/(.*))?", re.DOTALL)


class Address(NamedTuple):
    """A bucket of a store and what of it is meant: ``key`` is that of an object, a folder (empty: all) or a pattern."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def literal(self) -> str:
        """What every key that the pattern matches begins with."""
        return re.split(r"[*?\[]", self.key, maxsplit=1)[0]

    @property
    def is_pattern(self) -> bool:
        return glob.has_magic(self.key)

    def matches(self, key: str) -> bool:
        """Whether the pattern matches: ``*``, ``?`` and ``[…]`` within a name, ``**`` over any number of folders."""
        return _matches(key.split("/"), self.key.split("/"))


def is_address(text: str) -> bool:
    """Whether this names objects of a store."""
    return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def parse(text: str) -> Address:
    """What an address means.

    Raises:
        SourceError: it names no bucket, or a pattern of buckets.
    """
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise SourceError(f"{text}: not an address of objects; it looks like s3://bucket/folder or gs://bucket/folder/*.gz")
    return Address(found[1], found[2], found[3] or "")


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_matches(names[skipped:], patterns[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
