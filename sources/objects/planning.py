"""Which objects there are, what they are by their content, and how they are cut into splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final

import pyarrow as pa
from backports import zstd

from sources.files.archives import HEAD, kind_of, text_head
from sources.files.parquet import parquet_head
from sources.files.planning import digest, origin_of, parts
from sources.files.splits import SUFFIXES, FileLimits, Gone, Refused, Replaced, SourceError, Split, Version, why
from sources.objects.addresses import AT_ONCE, PATIENCE_S, Address, parse
from sources.objects.stores import Object, open_version, store_of

OBJECT_SUFFIXES: Final = (*SUFFIXES, ".json")
"""What a folder of a bucket is searched for. An object named outright, or by a pattern, is read whatever its name."""

_EXPANDS: Final = 4
"""What an archive is taken to hold for each of its bytes, before it was read."""

_PAGE: Final = 1000

_Listing = Callable[[str, str], Iterator[tuple[str, Version]]]


def find(
    addresses: Iterable[str], nothing: Callable[[str], None] | None = None, patience_s: float = PATIENCE_S
) -> Iterator[Object]:
    """Objects that the addresses name, those of each in order of their keys, from listing alone: none is opened.

    ``nothing`` is told of each address that names nothing, instead of an error.

    Raises:
        SourceError: no such bucket, no right to list it, or an address names nothing.
    """
    for text in addresses:
        address = parse(text)
        store = store_of(address.scheme, patience_s)
        some = False
        for key, version in _named(address, store.objects):
            some = True
            yield Object(f"{address.scheme}://{address.bucket}/{key}", version)
        if not some:
            (nothing or _refuse)(f"{text}: {_nothing(address)}")


def _refuse(line: str) -> None:
    raise SourceError(line)


def _named(address: Address, objects: _Listing) -> Iterator[tuple[str, Version]]:
    """An object of just this key; else what the pattern matches, or the folder holds."""
    if address.key and not address.key.endswith("/"):
        for found in islice(objects(address.bucket, address.key), 1):  # of all keys that begin like this the shortest comes first
            if found[0] == address.key:
                yield found
                return
    if address.is_pattern:
        for key, version in objects(address.bucket, address.literal):
            if not key.endswith("/") and address.matches(key):
                yield key, version
        return
    folder = f"{address.key.rstrip('/')}/" if address.key else ""
    for key, version in objects(address.bucket, folder):
        if key.endswith(OBJECT_SUFFIXES) and not _is_body(key):
            yield key, version


def _is_body(key: str) -> bool:
    """Whether it is the body of a request or an answer, too long for its record, that Amazon Bedrock lays beside its logs."""
    _, log, rest = key.partition("/BedrockModelInvocationLogs/")
    return bool(log) and "data" in rest.split("/")[:-1]


def _nothing(address: Address) -> str:
    if address.is_pattern:
        return "no object matches"
    return f"no such object, nor a folder with one ending in {' '.join(OBJECT_SUFFIXES)}; a name that is only begun needs a *"


def plan(
    objects: Iterable[Object],
    limits: FileLimits,
    default_time: int | None = None,
    known: Mapping[bytes, int] | None = None,
    known_paths: Mapping[str, int] | None = None,
    refused: list[tuple[Object, str]] | None = None,
) -> list[Split]:
    """Splits of all objects, big plain ones cut at ``split_bytes``. Of each the beginning is fetched, several at a time.

    Undated records get ``default_time``; else the time ``known`` for the segment from an earlier read, or for the path, which
    held another version then; else the time when the object was written. An object that cannot be read, as others can, goes
    into ``refused``, with one line that says why, if that is given.

    Raises:
        SourceError: a store does not answer; or an object is not to be read, or not the Parquet it claims to be.
    """

    def whole(one: Object) -> Split | None:
        try:
            return _whole(one, default_time, known or {}, known_paths or {})
        except Refused as error:
            if refused is None:
                raise
            refused.append((one, str(error)))
            return None

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return [part for found in threads.map(whole, objects) if found for part in parts(found, limits)]


def _whole(one: Object, default_time: int | None, known: Mapping[bytes, int], paths: Mapping[str, int]) -> Split:
    kind, head = "text", b""
    size = one.version.size
    try:
        with open_version(one.path, one.version, HEAD) as file:
            kind = kind_of(file.read(4))
            file.seek(0)
            head = parquet_head(file) if kind == "parquet" else text_head(file, kind)
        segment = digest(b"object", str(size).encode(), head)
    except (Gone, Replaced):  # the reader finds it so, too, and says it in the ledger
        segment = digest(b"object", repr(one).encode())
    except (OSError, pa.ArrowInvalid, zstd.ZstdError) as error:
        raise Refused(f"{one.path}: cannot be read: {why(error)}") from error
    time = default_time or known.get(segment) or paths.get(one.path) or one.version.changed
    expected = size if kind == "text" else _EXPANDS * size
    return Split(one.path, kind, 0, None, segment, origin_of(head), time, size, expected, version=one.version)


def look(address: str, patience_s: float) -> tuple[int, int, bool]:
    """Whether objects can be listed and read: how many there are and their bytes, of one page at most, and whether that is all.

    Raises:
        SourceError: as ``find``, or the first object may not be read.
    """
    found = list(islice(find([address], patience_s=patience_s), _PAGE + 1))
    first = next((one for one in found if one.version.size), None)
    if first is not None:
        where = parse(first.path)
        with suppress(Gone, Replaced):  # somebody writes to it
            store_of(where.scheme, patience_s).fetch(where.bucket, where.key, first.version, 0, 1)
    return len(found[:_PAGE]), sum(one.version.size for one in found[:_PAGE]), len(found) <= _PAGE
